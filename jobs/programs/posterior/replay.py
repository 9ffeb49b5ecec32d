"""A model run again with the parameters of draws: what it then predicts, and how likely it makes the data.

Nothing is sampled anew but what the model itself draws from its likelihood. Draws go through the devices in batches of one size,
compiled once, whose number follows from how much one draw puts out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import distributions as dist
from numpyro import handlers
from numpyro.infer.initialization import init_to_uniform
from numpyro.primitives import Messenger

from jobs.errors import UserFault
from jobs.programs.posterior.blocks import HIDDEN, Arrays

Model = Callable[..., Any]
Sites = dict[str, jax.Array]
BATCH_NUMBERS = 2**22
"""Numbers that a batch puts out: 16 MiB."""

MOST_BATCH = 4096
LIKELIHOOD_STREAM, PREDICTIVE_STREAM, PRIOR_STREAM = 1, 2, 3


class Unobserved(Messenger):
    """Lets a model draw what it would otherwise observe.

    Args:
        fn: the model.
        names: the sites.
    """

    def __init__(self, fn: Model, names: frozenset[str]) -> None:
        super().__init__(fn)
        self._names = names

    def process_message(self, msg: dict[str, Any]) -> None:
        """Take the value of an observed site away."""
        if msg["type"] == "sample" and msg["name"] in self._names:
            msg["is_observed"], msg["value"] = False, None


@dataclass(frozen=True)
class Replay:
    """A model over its data.

    Attributes:
        model: the NumPyro function, in the form that was sampled.
        data: its arguments.
        observed: the sites that it observes, with the shape and dtype of their values.
        latent: the sites that it draws, likewise.
        recorded: what else it records.
    """

    model: Model
    data: Mapping[str, Any]
    observed: Mapping[str, jax.ShapeDtypeStruct]
    latent: Mapping[str, jax.ShapeDtypeStruct]
    recorded: tuple[str, ...]

    @classmethod
    def of(cls, model: Model, data: Mapping[str, Any], unknown: frozenset[str] = frozenset()) -> Replay:
        """Look at a model. `unknown`: sites that it would observe if their data were there; they count as observed."""
        found: dict[str, dict[str, Any]] = {"observed": {}, "latent": {}, "recorded": {}}

        def look(key: jax.Array) -> None:
            for name, site in handlers.trace(_begun(model, key)).get_trace(**data).items():
                kind = _kind(site, unknown)
                if kind is not None:
                    found[kind][name] = jax.ShapeDtypeStruct(jnp.shape(site["value"]), jnp.result_type(site["value"]))

        jax.eval_shape(look, jax.random.key(0))
        return cls(model, data, found["observed"], found["latent"], tuple(found["recorded"]))

    def observations(self) -> dict[str, np.ndarray]:
        """The values that the model observes, by site."""

        def look(key: jax.Array) -> Sites:
            trace = handlers.trace(_begun(self.model, key)).get_trace(**self.data)
            return {name: jnp.asarray(trace[name]["value"]) for name in self.observed}

        return {name: np.asarray(value) for name, value in jax.jit(look)(jax.random.key(0)).items()}

    def log_likelihood(self, key: jax.Array, sample: Sites) -> Sites:
        """The log probability of each observation, given one draw."""
        trace = handlers.trace(handlers.seed(handlers.substitute(self.model, sample), key)).get_trace(**self.data)
        return {name: trace[name]["fn"].log_prob(trace[name]["value"]) for name in self.observed}

    def predict(self, key: jax.Array, sample: Sites, *, recorded: bool = False) -> Sites:
        """What the model draws in the place of what it observes, given one draw of its parameters.

        Args:
            key: of what it draws.
            sample: its latent sites.
            recorded: give what it records, too.
        """
        free = handlers.substitute(Unobserved(self.model, frozenset(self.observed)), sample)
        trace = handlers.trace(handlers.seed(free, key)).get_trace(**self.data)
        shown = [name for name in self.recorded if recorded and not name.startswith(HIDDEN)]
        return {name: jnp.asarray(trace[name]["value"]) for name in (*self.observed, *shown)}

    def from_prior(self, key: jax.Array, _sample: Sites) -> Sites:
        """Every site of the model, drawn from its prior."""
        free = Unobserved(self.model, frozenset(self.observed))
        trace = handlers.trace(handlers.seed(free, key)).get_trace(**self.data)
        return {name: jnp.asarray(trace[name]["value"]) for name in (*self.latent, *self.recorded, *self.observed)}


Told = Callable[[jax.Array, Sites], Sites]
Piece = tuple[slice, slice]


class Batches:
    """A function of one draw, run over many.

    Args:
        tell: of a key and a draw's latent sites.
        stream: tells its random numbers from those of others over the same draws.
        seed: the job's.
        latent: shapes and dtypes of a draw's latent sites.

    Attributes:
        forms: shapes and dtypes of what it gives for one draw.
        size: draws in a batch.
    """

    def __init__(self, tell: Told, stream: int, seed: int, latent: Mapping[str, jax.ShapeDtypeStruct]) -> None:
        self.forms: Mapping[str, jax.ShapeDtypeStruct] = jax.eval_shape(tell, jax.random.key(0), dict(latent))
        numbers = sum(int(np.prod(form.shape, dtype=np.int64)) for form in self.forms.values())
        self.size = max(1, min(MOST_BATCH, BATCH_NUMBERS // max(1, numbers)))
        base = jax.random.fold_in(jax.random.key(seed), stream)

        def one(which: jax.Array, sample: Sites) -> Sites:
            return tell(jax.random.fold_in(jax.random.fold_in(base, which[0]), which[1]), sample)

        self._call = jax.jit(jax.vmap(one))
        self._deep: int | None = None

    def run(self, chains: int, start: int, count: int, latent: Mapping[str, np.ndarray]) -> Iterator[tuple[Piece, Arrays]]:
        """All draws of a block.

        Args:
            chains: how many there are.
            start: the number of the block's first draw.
            count: its draws.
            latent: (chains, draws, …) by site.

        Returns: where each piece belongs among all chains and draws, and its arrays.
        """
        wide = min(chains, self.size)
        self._deep = self._deep or max(1, min(self.size // wide, count))
        for chain, draw in product(range(0, chains, wide), range(0, count, self._deep)):
            rows, at = slice(chain, min(chain + wide, chains)), slice(draw, min(draw + self._deep, count))
            which = np.stack(np.meshgrid(np.arange(rows.start, rows.stop), start + np.arange(at.start, at.stop), indexing="ij"), -1)
            size = wide * self._deep
            found = self._call(_filled(_flat(which), size), {name: _filled(_flat(a[rows, at]), size) for name, a in latent.items()})
            shape = which.shape[:2]
            yield (
                (rows, slice(start + at.start, start + at.stop)),
                {name: np.asarray(a)[: shape[0] * shape[1]].reshape(*shape, *a.shape[1:]) for name, a in found.items()},
            )


def require_prior(replay: Replay) -> None:
    """Raise UserFault where a site has a prior that nothing can be drawn from, as flat ones are."""
    try:
        jax.eval_shape(replay.from_prior, jax.random.key(0), {})
    except NotImplementedError as error:
        message = (
            "the model has an improper prior, from which nothing can be drawn: leave prior_predictive out, or give it a proper one"
        )
        raise UserFault("improper_prior", message, "/outputs/prior_predictive") from error


def _begun(model: Model, key: jax.Array) -> Model:
    """The model at a point of its unconstrained space: from a flat prior nothing can be drawn."""
    return handlers.substitute(handlers.seed(model, key), substitute_fn=init_to_uniform)


def _kind(site: Mapping[str, Any], unknown: frozenset[str]) -> str | None:
    if site["type"] == "deterministic":
        return "recorded"
    if site["type"] != "sample" or _is_factor(site["fn"]):
        return None
    return "observed" if site["is_observed"] or site["name"] in unknown else "latent"


def _is_factor(distribution: Any) -> bool:
    while hasattr(distribution, "base_dist"):
        distribution = distribution.base_dist
    return isinstance(distribution, dist.Unit)


def _flat(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1, *array.shape[2:])


def _filled(array: np.ndarray, size: int) -> np.ndarray:
    """As long as a batch is: its first row again where there are no more."""
    return array if len(array) == size else np.concatenate([array, np.repeat(array[:1], size - len(array), axis=0)])
