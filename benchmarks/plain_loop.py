"""The peer of `step`: the same model in a loop written by hand, as one would without a service.

`python -m benchmarks.plain_loop SPEC TEXT STEPS` trains and prints seconds per step, the first ten left out.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

from jobs.programs import optimizers
from jobs.programs.mesh import Layout, build_mesh
from jobs.programs.models.setting import Setting
from jobs.programs.models.transformer import Transformer

WARM_STEPS = 10


def main() -> None:
    """Train and print."""
    spec, tokens, steps = json.loads(Path(sys.argv[1]).read_text()), np.memmap(sys.argv[2], np.uint8, mode="r"), int(sys.argv[3])
    print(train(spec, tokens, steps))


def train(spec: dict[str, Any], tokens: np.ndarray, steps: int) -> float:
    """Seconds per step of `jax.jit` with a donated state over random windows; nothing is saved or reported."""
    layout = Layout(build_mesh({"data": 1}), (("batch", "data"),))
    context, batch_size = spec["model"]["context"], spec["data"]["batch_size"]
    with nnx.use_eager_sharding(False):  # noqa: FBT003  (the library's signature)
        graph, params, rest = nnx.split(Transformer(spec["model"], Setting(layout), nnx.Rngs(jax.random.key(0))), nnx.Param, ...)
    optimizer = optimizers.build(spec["optimizer"])
    state = (params, optimizer.init(params), rest)

    def loss_of(params: Any, rest: Any, batch: jax.Array) -> Any:
        model = nnx.merge(graph, params, rest)
        loss = optax.softmax_cross_entropy_with_integer_labels(model(batch[:, :-1]), batch[:, 1:]).mean()
        return loss, nnx.split(model, nnx.Param, ...)[2]

    def step(state: Any, batch: jax.Array) -> Any:
        params, opt_state, rest = state
        (loss, rest), grads = jax.value_and_grad(loss_of, has_aux=True)(params, rest, batch)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state, rest), loss

    compiled = jax.jit(step, donate_argnums=0)
    generator, offsets = np.random.default_rng(0), np.arange(context + 1)
    began = time.perf_counter()
    losses: list[jax.Array] = []
    with jax.set_mesh(layout.mesh):
        for i in range(steps):
            if i == WARM_STEPS:
                jax.block_until_ready(losses[-1])
                began = time.perf_counter()
            starts = generator.integers(0, len(tokens) - context - 1, batch_size)
            state, loss = compiled(state, tokens[starts[:, None] + offsets].astype(np.int32))
            losses.append(loss)
            if len(losses) > 2:
                jax.block_until_ready(losses[-3])
    jax.block_until_ready(losses[-1])
    return (time.perf_counter() - began) / (steps - WARM_STEPS)


if __name__ == "__main__":
    main()
