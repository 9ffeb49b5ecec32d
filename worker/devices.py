"""The child's devices: chosen before JAX starts a backend, described for the agent, which never starts one itself.

`python -m worker.devices [--cpu-devices N]` prints what a child would find, as one JSON line.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import sys
from typing import Any

from jobs.errors import InfraFault
from worker.machine import host_memory_bytes

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpyro", "grain", "meshyard")


def configure(cpu_devices: int | None, device_ids: list[int] | None, compile_cache: str | None, spec: dict[str, Any]) -> None:
    """Settle everything that JAX must know before its first array.

    Args:
        cpu_devices: virtual CPU devices to make; None for what the platform has.
        device_ids: the accelerators this child may see; None for all.
        compile_cache: folder of compiled programs, shared by a worker's children one after another.
        spec: the resolved spec (`precision.x64`, `precision.matmul`, `debug`).
    """
    if device_ids is not None and cpu_devices is None:
        visible = ",".join(map(str, device_ids))
        os.environ |= {"CUDA_VISIBLE_DEVICES": visible, "ROCR_VISIBLE_DEVICES": visible, "TPU_VISIBLE_CHIPS": visible}
    import jax  # noqa: PLC0415  (what comes before must be settled when it is loaded)

    if cpu_devices is not None:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", cpu_devices)
    jax.config.update("jax_enable_x64", spec["precision"]["x64"])
    jax.config.update("jax_default_matmul_precision", spec["precision"]["matmul"])
    jax.config.update("jax_debug_nans", spec["debug"]["nans"])
    jax.config.update("jax_disable_jit", spec["debug"]["disable_jit"])
    jax.config.update("jax_log_compiles", spec["debug"]["log_compiles"])
    if compile_cache is not None:
        jax.config.update("jax_compilation_cache_dir", compile_cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def versions() -> dict[str, str]:
    """Installed versions of what a result may depend on."""
    found: dict[str, str] = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "0"
    return found


def describe() -> dict[str, Any]:
    """The devices of this process. Starts the backend."""
    import jax  # noqa: PLC0415  (the backend starts here and nowhere before)

    devices = jax.devices()
    stats = devices[0].memory_stats() or {}
    memory = stats.get("bytes_limit") or host_memory_bytes() // len(devices)
    first = devices[0]
    return {"platform": first.platform, "device_kind": first.device_kind, "count": len(devices), "memory_bytes": int(memory)}


def require(found: dict[str, Any], device_ids: list[int] | None) -> None:
    """See that the accelerators which this child was lent could be opened: where a driver fails, JAX takes the CPU without a word.

    Raises:
        InfraFault: they could not.
    """
    if device_ids is not None and found["platform"] == "cpu":
        message = "the worker's devices could not be opened, and JAX has come up on the CPU: its log may say why"
        raise InfraFault("worker_lost", message)


def main() -> None:
    """Print the devices as one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cpu-devices", type=int, default=None)
    plain = {
        "precision": {"x64": False, "matmul": "default"},
        "debug": {"nans": False, "disable_jit": False, "log_compiles": False},
    }
    configure(parser.parse_args().cpu_devices, None, None, plain)
    sys.stdout.write(json.dumps(describe() | {"versions": versions()}) + "\n")


if __name__ == "__main__":
    main()
