"""Which site of a model gave a density that is not a number, in which draw of which chain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.primitives import Messenger

from jobs.errors import UserFault
from jobs.programs.kernels import Chains

Model = Callable[..., Any]


class Watcher:
    """Hears of every density of a watched model that is not a number, through callbacks out of compiled code."""

    def __init__(self) -> None:
        self.heard: set[str] = set()

    def watch(self, model: Model) -> Model:
        """The same model, watched."""
        return _Watched(model, self)

    def note(self, name: str, found: Any) -> None:
        """Take a site's word."""
        if np.any(found):
            self.heard.add(name)

    def require_none(self, step: int, chain_of: Callable[[], list[int]]) -> None:
        """Raise UserFault `nan_loss` where something was heard.

        Args:
            step: the transition that has been made.
            chain_of: finds the chains, by making it once more.
        """
        jax.effects_barrier()
        if not self.heard:
            return
        sites = ", ".join(sorted(self.heard))
        self.heard.clear()
        chains = ", ".join(map(str, chain_of())) or "unknown"
        message = f"the log density of {sites} became NaN in transition {step} of chain {chains}"
        advice = "look at the site's parameters there: a scale that is not positive, the log or root of a negative number, 0 / 0"
        raise UserFault("nan_loss", f"{message}: {advice}", "/debug/nans")


class _Watched(Messenger):
    def __init__(self, fn: Model, watcher: Watcher) -> None:
        super().__init__(fn)
        self._watcher = watcher

    def postprocess_message(self, msg: dict[str, Any]) -> None:
        """Look at the density of a site."""
        if msg["type"] == "sample" and msg["value"] is not None:
            density = msg["fn"].log_prob(msg["value"])
            name: str = msg["name"]
            jax.debug.callback(lambda found: self._watcher.note(name, found), jnp.any(jnp.isnan(density)))


def chains_that_fail(kernel: dict[str, Any], model: Model, watcher: Watcher, state: Any, data: Mapping[str, Any]) -> list[int]:
    """The chains in whose next transition a density is not a number: each makes it alone.

    Args:
        kernel: a resolved `kernel`, no ensemble.
        model: watched.
        watcher: of the model.
        state: of all chains, before the transition.
        data: the model's arguments.
    """
    alone = Chains(kernel, model, one_by_one=False)
    count = jax.tree.leaves(state.z)[0].shape[0]
    jax.eval_shape(lambda: alone.init(jax.random.split(jax.random.key(0), 1), 1, None, data))
    one = jax.jit(lambda chain: alone.sample(chain, data))
    found: list[int] = []
    for at in range(count):
        watcher.heard.clear()
        jax.block_until_ready(one(jax.tree.map(lambda leaf, at=at: leaf[at : at + 1], state)).z)
        jax.effects_barrier()
        found += [at] if watcher.heard else []
    watcher.heard.clear()
    return found
