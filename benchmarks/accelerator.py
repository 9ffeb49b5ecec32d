"""GPT-2 with 124 million parameters in bfloat16 on one accelerator: tokens per second and MFU, beside PyTorch where there is one.

Goal: an MFU of at least 40 %, at least as fast as `torch.compile`. Without an accelerator it says so and measures nothing.

FLOPs of a token as nanoGPT counts them: 6 N + 12 L H Q T, with N the parameters without positions, L layers, H heads of Q features,
T tokens of context; attention counted whole although it is causal. Source: Chowdhery et al. (2022), arXiv:2204.02311, appendix B.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.step import torch_python
from benchmarks.table import show, spread
from jobs.programs.flops import peak_of
from jobs.spec.dataset import DatasetFacts, TextFacts
from jobs.spec.job import read_spec
from worker.child import clean_environment, reproducible

ROUNDS = 3
STEPS = 60
WARM_STEPS = 10
GPT2: dict[str, Any] = {"vocab_size": 50304, "dim": 768, "n_layers": 12, "n_heads": 12, "context": 1024}
BATCH_SIZE = 32
BYTES = 4_000_000


def document(model: dict[str, Any], batch_size: int) -> dict[str, Any]:
    """The job: GPT-2's shape with rotary positions and a tied head."""
    return {
        "kind": "train",
        "model": {"type": "transformer", **model},
        "data": {"dataset": "ds_text", "batch_size": batch_size},
        "optimizer": {
            "type": "chain",
            "transforms": [{"type": "clip_by_global_norm", "max_norm": 1.0}, {"type": "adamw", "learning_rate": 1e-3}],
        },
        "precision": {"compute": "bfloat16"},
        "steps": 10_000,
        "checkpoint": {"every_steps": 10_000},
    }


def flops_per_token(parameters: int, model: dict[str, Any]) -> float:
    """Floating-point operations of one token, forward and backward."""
    return 6 * parameters + 12 * model["n_layers"] * model["dim"] * model["context"]


def ours(spec_path: Path, text: Path) -> None:
    """In a process of its own: train, and print seconds per step, the number of parameters and the device as JSON."""
    import jax  # noqa: PLC0415  (only the process that measures may take the accelerator)

    from jobs.programs.registry import build_program  # noqa: PLC0415

    program = build_program(json.loads(spec_path.read_text()), {"data": 1}, text, "text")
    state = program.init()
    program.compile(state)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.sections["params"]))
    began, flight = 0.0, []
    for i in range(STEPS):
        if i == WARM_STEPS:
            jax.block_until_ready(state.sections)
            began = time.perf_counter()
        state, block = program.advance(state)
        flight.append(block)
        if len(flight) > 2:
            program.settle(flight.pop(0))
    jax.block_until_ready(state.sections)
    seconds = (time.perf_counter() - began) / (STEPS - WARM_STEPS)
    print(json.dumps({"seconds": seconds, "parameters": parameters, "device": jax.devices()[0].device_kind}))


def run(command: list[str], environment: dict[str, str] | None = None) -> str:
    """The last line that a process prints."""
    done = subprocess.run([*command], capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return done.stdout.strip().splitlines()[-1]


def resolved(model: dict[str, Any], batch_size: int) -> dict[str, Any]:
    """The spec as a worker gets it."""
    text = DatasetFacts("ds_text", "text", BYTES, None, [], TextFacts(BYTES, BYTES, 95, 126))
    return read_spec(document(model, batch_size), lambda _: text, lambda *_: None).resolved


def accelerator() -> str | None:
    """The kind of accelerator that JAX finds, None where there is none. Asked in a process of its own, which lets go of it."""
    asked = "import jax; d = jax.devices()[0]; print(d.platform, d.device_kind)"
    platform, _, kind = run([sys.executable, "-c", asked]).partition(" ")
    return kind if platform != "cpu" else None


def main() -> None:
    """Measure and print."""
    if (torch := torch_python()) is None:
        print("\nNo PyTorch here, and TORCH_PYTHON names no interpreter that has it: it is left out.")
    if (kind := accelerator()) is None:
        print("\nNo accelerator: GPT-2 is not measured.")
        return
    peak = peak_of(kind)
    plain = clean_environment(os.environ, None)
    environments = {"Meshyard's program, as a job": reproducible(plain, "gpu"), "Meshyard's program, bits not reproducible": plain}
    found: dict[str, list[float]] = {name: [] for name in (*environments, "PyTorch, torch.compile")}
    parameters = 0
    with tempfile.TemporaryDirectory() as folder:
        text, spec = Path(folder) / "text.txt", Path(folder) / "spec.json"
        text.write_bytes(np.random.default_rng(0).integers(32, 127, BYTES, np.uint8).tobytes())
        spec.write_text(json.dumps(resolved(GPT2, BATCH_SIZE)))
        for _ in range(ROUNDS):
            for name, environment in environments.items():
                answer = json.loads(run([sys.executable, "-m", "benchmarks.accelerator", str(spec), str(text)], environment))
                parameters = answer["parameters"]
                found[name].append(answer["seconds"])
            if torch is not None:
                peer = [torch, "-m", "benchmarks.torch_loop", str(spec), str(text), str(STEPS), "--device", "cuda", "--compile"]
                found["PyTorch, torch.compile"].append(float(run(peer)))
    tokens = BATCH_SIZE * GPT2["context"]
    rows = [row(who, seconds, tokens, flops_per_token(parameters, GPT2), peak) for who, seconds in found.items() if seconds]
    title = f"GPT-2, {parameters / 1e6:.0f} M parameters, bfloat16, batch of {tokens} tokens, {kind}, {os.cpu_count()} CPU cores"
    show(title, ["who", "step", "tokens per second", "MFU"], rows)


def row(who: str, seconds: list[float], tokens: int, flops: float, peak: float | None) -> list[str]:
    """One line of the table."""
    rates = [tokens / each for each in seconds]
    shares = "no peak known" if peak is None else spread([100 * rate * flops / peak for rate in rates], " %", 1)
    return [who, spread([1000 * each for each in seconds], " ms", 1), spread(rates, "", 0), shares]


if __name__ == "__main__":
    ours(Path(sys.argv[1]), Path(sys.argv[2]))
