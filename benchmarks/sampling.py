"""What does sampling in blocks cost, beside NumPyro's own loop in one shot and in blocks?

`python -m benchmarks sampling`. Eight schools, 4 chains, NUTS, in this process: transitions after warm-up alone are timed, all
compiled before. Ours writes every block's draws to disk, as a job does. Rounds go in turn, so that a busy machine slows all alike;
draws are the same bits for all three, so effective draws per second have the same ratio.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from numpyro.infer import MCMC, NUTS

from benchmarks.table import show
from jobs.programs import posterior
from jobs.programs.models.posteriors import eight_schools
from jobs.programs.outputs import Outputs
from jobs.programs.registry import build_program
from jobs.spec.job import read_spec

WARMUP, DRAWS, CHAINS, BLOCK, ROUNDS = 500, 4000, 4, 250, 5
SCHOOLS: dict[str, list[float]] = {"y": [28, 8, -3, 7, -1, 1, 18, 12], "sigma": [15, 10, 16, 11, 9, 11, 10, 18]}


class Ours:
    """A job's program, run as its child runs it, without the evaluations."""

    def __init__(self, block: int) -> None:
        document = {
            "kind": "mcmc",
            "model": {"type": "eight_schools"},
            "data": {"inline": SCHOOLS},
            "num_warmup": WARMUP,
            "num_samples": DRAWS,
            "num_chains": CHAINS,
            "checkpoint": {"every_draws": block},
        }
        spec = read_spec(document, lambda _: None, lambda *_: None).resolved
        self.program = build_program(spec, spec["mesh"]["axes"], None, None)
        self.program.compile(self.program.init())

    def seconds(self) -> float:
        """Of the transitions after warm-up."""
        program, state = self.program, self.program.init()
        while state.step < WARMUP:
            state, _ = program.advance(state)
        with tempfile.TemporaryDirectory() as folder:
            outputs, began = Outputs(Path(folder)), time.perf_counter()
            while state.step < program.total:
                state, block = program.advance(state)
                outputs.keep_draws(block.step, block.draws or {})
            seconds = time.perf_counter() - began
            self.least = posterior.worst(posterior.apart(outputs.draws())[0])["ess_bulk/min"]
        return seconds


class NumPyro:
    """`MCMC.run`, all at once or block by block."""

    def __init__(self, draws: int) -> None:
        form: dict[str, Any] = {"num_chains": CHAINS, "chain_method": "vectorized", "progress_bar": False}
        self._mcmc = MCMC(NUTS(eight_schools), num_warmup=WARMUP, num_samples=draws, **form)
        self._data = [jnp.asarray(SCHOOLS[name], float) for name in ("y", "sigma")]
        self._runs = DRAWS // draws
        self._mcmc.warmup(jax.random.key(0), *self._data)
        self._state: Any = self._mcmc.post_warmup_state
        self._block()

    def _block(self) -> None:
        self._mcmc.post_warmup_state = self._state
        self._mcmc.run(self._state.rng_key, *self._data)
        jax.block_until_ready(self._mcmc.get_samples())

    def seconds(self, runs: int | None = None) -> float:
        """Of the transitions after warm-up; of `runs` blocks, scaled to all, where that takes long."""
        done = runs or self._runs
        began = time.perf_counter()
        for _ in range(done):
            self._block()
            self._state = self._mcmc.last_state if self._runs > 1 else self._state
        return (time.perf_counter() - began) * self._runs / done


def main() -> None:
    """Measure and print."""
    ours, whole, shot, blocks = Ours(BLOCK), Ours(DRAWS), NumPyro(DRAWS), NumPyro(BLOCK)
    rounds = [(ours.seconds(), whole.seconds(), shot.seconds(), blocks.seconds(2)) for _ in range(ROUNDS)]
    each = [statistics.median(column) for column in zip(*rounds, strict=True)]
    per_block = max(0.0, (each[0] - each[1]) / (DRAWS // BLOCK - 1))
    against_shot = statistics.median(shot_ / ours_ for ours_, _, shot_, _ in rounds)
    against_blocks = statistics.median(blocks_ / ours_ for ours_, _, _, blocks_ in rounds)
    total = CHAINS * DRAWS
    show(
        f"{total} draws of eight schools after warm-up, median of {ROUNDS} rounds",
        ("", "seconds", "draws / s", "least bulk ESS / s"),
        [
            (f"meshyard, blocks of {BLOCK}", f"{each[0]:.3f}", f"{total / each[0]:.0f}", f"{ours.least / each[0]:.0f}"),
            ("meshyard, one block", f"{each[1]:.3f}", f"{total / each[1]:.0f}", f"{whole.least / each[1]:.0f}"),
            ("numpyro.infer.MCMC, one shot", f"{each[2]:.3f}", f"{total / each[2]:.0f}", f"{ours.least / each[2]:.0f}"),
            (f"numpyro.infer.MCMC, blocks of {BLOCK}", f"{each[3]:.3f}", f"{total / each[3]:.0f}", f"{ours.least / each[3]:.0f}"),
        ],
    )
    print(f"against one shot {against_shot:.2f} x, against its blocks {against_blocks:.1f} x, a block costs {per_block:.4f} s more")


if __name__ == "__main__":
    main()
