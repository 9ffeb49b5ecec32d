"""`python -m benchmarks [NAME …]`: run all benchmarks, or those named."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version

NAMES = (
    "step",
    "checkpoint",
    "restore",
    "start",
    "preflight",
    "quality",
    "regressions",
    "posteriors",
    "calibration",
    "ensemble",
    "memory",
    "jit",
    "scale",
    "queue",
    "accelerator",
    "sampling",
)


def main() -> None:
    """Run them one after another: side by side they would measure each other."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("jax", "flax", "optax", "orbax-checkpoint"))
    print(f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {packages}, {os.cpu_count()} CPU cores")
    for name in sys.argv[1:] or NAMES:
        importlib.import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    main()
