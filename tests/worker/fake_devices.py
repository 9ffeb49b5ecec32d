"""Tells of devices without JAX, like `python -m worker.devices`."""

from __future__ import annotations

import argparse
import json


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cpu-devices", type=int, default=4)
    count = parser.parse_args().cpu_devices
    facts = {"platform": "cpu", "device_kind": "cpu", "count": count, "memory_bytes": 1 << 30, "versions": {"jax": "0"}}
    print("a library says hello")  # noqa: T201
    print(json.dumps(facts))  # noqa: T201


if __name__ == "__main__":
    main()
