"""What does sampling in blocks cost, beside NumPyro's own loop in one shot and in blocks, and beside BlackJAX?

`python -m benchmarks sampling`, some three minutes. Eight schools, 4 chains, NUTS, in this process: transitions after warm-up alone
are timed. Ours writes every block's draws to disk, as a job does. All is compiled before, but for NumPyro block by block: each
`MCMC.run` traces and compiles its loop anew, which is what that way costs. Rounds go in turn: a busy machine slows all alike.

BlackJAX is measured where it can be imported: `pip install --no-deps --target FOLDER blackjax fastprogress jaxopt`, and
`PYTHONPATH=FOLDER`. `SAMPLING_DRAWS` and `SAMPLING_ROUNDS` make it shorter.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer import MCMC, NUTS
from numpyro.infer.util import initialize_model

from benchmarks.table import show, spread
from jobs.programs import posterior
from jobs.programs.models.posteriors import eight_schools
from jobs.programs.outputs import Outputs
from jobs.programs.registry import build_program
from jobs.spec.job import read_spec

WARMUP, CHAINS, BLOCK = 500, 4, 250
DRAWS, ROUNDS = int(os.environ.get("SAMPLING_DRAWS", "4000")), int(os.environ.get("SAMPLING_ROUNDS", "15"))
ROUNDS_OF_BLOCKS = 2
"""Rounds in which NumPyro draws a block, which takes seconds; a whole run would take minutes."""

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
            self.least = worst(outputs.draws())
        return seconds


class NumPyro:
    """`MCMC.run` after its warm-up, compiled as a whole; or block by block, as its documentation shows."""

    def __init__(self, draws: int) -> None:
        form: dict[str, Any] = {"num_chains": CHAINS, "chain_method": "vectorized", "progress_bar": False}
        self._mcmc = MCMC(NUTS(eight_schools), num_warmup=WARMUP, num_samples=draws, **form)
        self._data = [jnp.asarray(SCHOOLS[name], float) for name in ("y", "sigma")]
        self._mcmc.warmup(jax.random.key(0), *self._data)
        self._warm: Any = self._mcmc.post_warmup_state
        self._compiled: Any = None

    def compile(self) -> None:
        """Have all of `run` be one compiled program."""
        self._compiled = jax.jit(self._run).lower(self._warm).compile()

    def seconds(self) -> float:
        """Of all draws at once."""
        began = time.perf_counter()
        draws = jax.block_until_ready(self._compiled(self._warm))
        seconds = time.perf_counter() - began
        self.least = worst(draws)
        return seconds

    def seconds_of_a_block(self) -> float:
        """Of one block after another."""
        self._run(self._warm)
        began = time.perf_counter()
        jax.block_until_ready(self._run(self._mcmc.last_state))
        return time.perf_counter() - began

    def _run(self, state: Any) -> dict[str, jax.Array]:
        self._mcmc.post_warmup_state = state
        self._mcmc.run(state.rng_key, *self._data)
        return self._mcmc.get_samples(group_by_chain=True)


class BlackJAX:
    """`blackjax.nuts` on the density that NumPyro makes of the model, all chains and draws in one compiled program."""

    def __init__(self) -> None:
        blackjax = importlib.import_module("blackjax")  # installed by whoever measures
        data = {name: jnp.asarray(values, float) for name, values in SCHOOLS.items()}
        keys = jax.random.split(jax.random.key(0), CHAINS)
        told = initialize_model(keys, eight_schools, model_kwargs=data, dynamic_args=False)

        def density(z: Any) -> jax.Array:
            return -told.potential_fn(z)

        def warm(key: jax.Array, start: Any) -> Any:
            (state, parameters), _ = blackjax.window_adaptation(blackjax.nuts, density).run(key, start, num_steps=WARMUP)
            return state, parameters

        def draw(key: jax.Array, state: Any, parameters: Any) -> Any:
            kernel = blackjax.nuts(density, **parameters)

            def one(state: Any, key: jax.Array) -> Any:
                state, _ = kernel.step(key, state)
                return state, told.postprocess_fn(state.position)

            return jax.lax.scan(one, state, jax.random.split(key, DRAWS))[1]

        self._given = (keys, *jax.jit(jax.vmap(warm))(keys, told.param_info.z))
        self._compiled = jax.jit(jax.vmap(draw)).lower(*self._given).compile()

    def seconds(self) -> float:
        """Of all draws at once."""
        began = time.perf_counter()
        draws = jax.block_until_ready(self._compiled(*self._given))
        seconds = time.perf_counter() - began
        self.least = worst(draws)
        return seconds


def worst(draws: dict[str, Any]) -> float:
    """The least bulk ESS of the sites that the model shows."""
    return posterior.worst({name: np.asarray(draws[name]) for name in ("mu", "tau", "theta")})["ess_bulk/min"]


def main() -> None:
    """Measure and print."""
    ours, whole, shot, blocks = Ours(BLOCK), Ours(DRAWS), NumPyro(DRAWS), NumPyro(BLOCK)
    shot.compile()
    peers: list[Any] = [ours, whole, shot, *([BlackJAX()] if importlib.util.find_spec("blackjax") else [])]
    rounds = [[peer.seconds() for peer in peers] for _ in range(ROUNDS)]
    of_blocks = [DRAWS / BLOCK * blocks.seconds_of_a_block() for _ in range(ROUNDS_OF_BLOCKS)]
    names = (f"meshyard, blocks of {BLOCK}", "meshyard, one block", "numpyro.infer.MCMC, one shot", "blackjax.nuts")
    found = [(name, [row[at] for row in rounds], peer.least) for at, (name, peer) in enumerate(zip(names, peers, strict=False))]
    rows = [line(*each) for each in (*found, (f"numpyro.infer.MCMC, blocks of {BLOCK}", of_blocks, shot.least))]
    title = f"{CHAINS * DRAWS} draws of eight schools after warm-up, median of {ROUNDS} rounds"
    show(title, ("", "seconds", "draws / s", "least bulk ESS / s"), rows)
    against_shot = statistics.median(theirs / our for our, _, theirs, *_ in rounds)
    against_blocks = statistics.median(of_blocks) / statistics.median(row[0] for row in rounds)
    more = statistics.median((our - one) / (DRAWS / BLOCK - 1) for our, one, *_ in rounds)
    print(
        f"\nagainst one shot {against_shot:.2f} x, against its blocks {against_blocks:.1f} x, a block after the first: {more:.4f} s"
    )


def line(name: str, seconds: list[float], least: float) -> tuple[str, str, str, str]:
    """A row of the table."""
    median = statistics.median(seconds)
    return name, spread(seconds), f"{CHAINS * DRAWS / median:.0f}", f"{least / median:.0f}"


if __name__ == "__main__":
    main()
