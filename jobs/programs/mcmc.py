"""Sampling as a program: a NumPyro kernel under our own block loop, compiled once, with chains spread over the mesh.

The kernel's state crosses warm-up and sampling in one loop (its own counter drives adaptation), so a checkpoint may fall
anywhere. Keys are split as `numpyro.infer.MCMC` splits them: on one device the sampled sites are those of one plain `MCMC.run`,
bit for bit. How many transitions go to the devices at once follows from the clock; where a job is saved, measured and may stop
follows from its spec alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from numpyro import handlers
from numpyro.infer.initialization import init_to_uniform
from numpyro.infer.util import log_density

from jobs.programs import data as datasets
from jobs.programs import nans, posterior, proper, starting, stopping
from jobs.programs.dispatch import Dispatch
from jobs.programs.kernels import AVERAGED, Chains
from jobs.programs.mesh import Layout
from jobs.programs.models import posteriors
from jobs.programs.outputs import Outputs
from jobs.programs.posterior.result import most_steps
from jobs.programs.posterior_model import DISCRETE, look
from jobs.programs.program import Block, Measurement, PyTree, Sections, State
from jobs.programs.user_code import came_through
from jobs.spec.imports import is_own
from jobs.spec.mcmc_checks import ENSEMBLES

LEAST_OF_DIVERGENT = 50
"""Draws of each chain that must all have diverged before a job is given up."""


class McmcProgram:
    """An `mcmc` job on one mesh.

    Args:
        spec: the resolved spec.
        layout: the mesh; chains lie along its axis `chains` if it has one.
        path: the data file, None for inline and builtin data.
        form: the data file's format.
    """

    unit = "draw"

    def __init__(
        self, spec: dict[str, Any], layout: Layout, path: Path | None, form: str | None, beside: datasets.Beside = datasets.ALONE
    ) -> None:
        self.spec, self.layout = spec, layout
        self.chains: int = spec["num_chains"]
        self.num_warmup: int = spec["num_warmup"]
        self.total: int = spec["num_warmup"] + spec["num_samples"]
        self.block: int = spec["checkpoint"]["every_draws"]
        self.data = self._load(path, form)
        self.looked = look(posteriors.build_model(spec["model"]), spec, self.data)
        self._flat = proper.flat_sites(self.looked.sites) if spec["kernel"]["type"] not in DISCRETE else []
        self._watcher = nans.Watcher() if spec["debug"]["nans"] else None
        self._model = self.looked.model if self._watcher is None else self._watcher.watch(self.looked.model)
        self.method, self.why = stopping.method(spec, layout)
        shapes = jax.eval_shape(self._fresh)
        self._shapes, self._shardings = shapes, jax.tree.map(self._along_chains, shapes)
        self._run: Callable[..., Any] | None = None
        self._watch: posterior.Watch | None = None
        self._dispatch = Dispatch(self.block, jax.eval_shape(self._seen, shapes["kernel_state"]))
        self._clock = stopping.Clock()

    def init(self) -> State:
        """The kernel's first state for every chain.

        Raises:
            UserFault: no starting point has a finite log density.
        """
        return self._begin(None)

    def notes(self) -> dict[str, dict[str, Any]]:
        """What was chosen, by the type of the event that tells it."""
        chosen = {"chain_method": self.method, "reason": self.why, "chains": self.chains, "devices": int(self.layout.mesh.size)}
        forms = {"sampler.reparameterised": {"sites": dict(self.looked.forms)}} if self.looked.forms else {}
        return {"sampler.chosen": chosen} | forms

    def warm_start(self, origin: starting.Origin) -> State:
        """A first state whose chains start where a guide says.

        Raises:
            UserFault: the guide's draws do not fit the model, or no start has a finite log density.
        """
        return self._begin(starting.from_guide(self.looked.model, origin, self.spec, self.data))

    def _begin(self, start: starting.Start | None) -> State:
        # Not under `jax.jit`: compiled, the first gradient would differ in its last bit from NumPyro's own.
        # Each array in a buffer of its own: a kernel may put one into two places, and none can be donated twice.
        sections = jax.tree.map(jnp.copy, jax.device_put(self._fresh(start), self._shardings))
        starting.require_finite(self._chains.statistics(sections["kernel_state"]), self.looked.model, self.data, self.spec["seed"])
        return State(0, sections)

    def abstract(self) -> Sections:
        """Shapes and shardings of the sections."""
        return jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), self._shapes, self._shardings)

    def adopt(self, state: State, params: Sections) -> State:
        """A sampler has no parameters to start from."""
        return state

    def place(self, step: int, sections: Sections, position: dict[str, int]) -> State:
        """Take up a state."""
        if self.spec["kernel"]["type"] in ENSEMBLES:
            # Such a kernel keeps arrays that its `init` has made; what was made while tracing cannot be called with.
            self._fresh()
        return State(step, sections, position)

    def phase(self, state: State) -> str:
        """Warm-up first, then sampling."""
        return "warmup" if state.step < self.num_warmup else "sampling"

    def compile(self, state: State) -> None:
        """Compile the block for this state. Its length is an argument, so that one program serves every block."""
        ahead = not (self.spec["debug"]["disable_jit"] or self.spec["debug"]["nans"])
        self._run = self.lower(state.sections).compile() if ahead else jax.jit(self._transitions)

    @property
    def executable(self) -> Any:
        """What `compile` has made; None before, and where nothing is compiled."""
        return self._run if isinstance(self._run, jax.stages.Compiled) else None

    def lower(self, sections: Sections) -> jax.stages.Lowered:
        """The block for these sections, or for arrays like them, as it goes to the compiler."""
        with jax.set_mesh(self.layout.mesh):
            return jax.jit(self._transitions, donate_argnums=0).lower(sections, jnp.int32(0))

    def transition(self, state: PyTree) -> PyTree:
        """One transition of every chain."""
        return self._chains.sample(state, self.data)

    def log_density(self, key: jax.Array) -> jax.Array:
        """The model run once with every parameter somewhere in its support: the sum of the log densities of its sites."""
        model = handlers.seed(posteriors.build_model(self.spec["model"]), key)
        model = handlers.substitute(model, substitute_fn=init_to_uniform)
        density, _ = log_density(model, (), self.data, {})
        return jnp.asarray(density)

    def drawn(self) -> tuple[PyTree, PyTree]:
        """Shapes of a transition's sites, hidden ones too, and of its statistics: (chains, …)."""
        return jax.eval_shape(self._seen, self._shapes["kernel_state"])

    def fetch(self, state: State) -> None:
        """All data is on the devices."""

    def advance(self, state: State) -> tuple[State, Block]:
        """Transitions up to the next edge, or as many as a second or so allows."""
        if self._run is None:
            raise RuntimeError("compile comes before advance")
        edge = self._edge(state.step)
        end = min(edge, state.step + self._dispatch.length)
        count = end - state.step
        self._dispatch.begin()
        with jax.set_mesh(self.layout.mesh):
            sections, sites, statistics = self._run(state.sections, jnp.int32(count))
        draws = self._kept(state.step, end, sites, statistics) if end > self.num_warmup else None
        metrics = [Measurement(end, self._measured(end, sections), label="chain")] if end == edge else []
        ready = jax.tree.leaves(sites)[0]
        self._dispatch.end(ready, count if self._watcher is None else 0)
        if self._watcher is not None:
            self._watcher.require_none(end, lambda: self._failing(state))
        if self._flat and end == (self.num_warmup or self._edge(0)):
            proper.require_proper(self.looked.model, self._flat, self.data, sections["kernel_state"].z)
        return State(end, sections, state.position), Block(end, metrics, ready, draws)

    def _failing(self, state: State) -> list[int]:
        if self._watcher is None or self.spec["kernel"]["type"] in ENSEMBLES:
            return []
        return nans.chains_that_fail(self.spec["kernel"], self._model, self._watcher, state.sections["kernel_state"], self.data)

    def _measured(self, edge: int, sections: Sections) -> dict[str, np.ndarray]:
        """What the transitions since the last edge came to, by chain. Copies: the next block takes the state's own buffers."""
        begin = max((edge - 1) // self.block * self.block, self.num_warmup if edge > self.num_warmup else 0)
        counters = {name: np.array(value) for name, value in sections["counters"].items()}
        found = {name: counters[name] / np.float32(edge - begin) for name in AVERAGED if name in counters}
        step_size = self._chains.step_size(sections["kernel_state"])
        found |= {} if step_size is None else {"step_size": np.array(step_size)}
        drawn = edge - self.num_warmup
        if "divergences" in counters:
            found["divergences"] = counters["divergences"]
            if drawn >= min(LEAST_OF_DIVERGENT, self.total - self.num_warmup) and np.all(counters["divergences"] == drawn):
                raise stopping.all_divergent(drawn)
        return found

    def effort(self) -> None:
        """A transition takes as many gradients as its tree is deep."""

    def explain(self, state: State) -> None:
        """A kernel rejects what is not finite, and counts it as a divergence."""

    def settle(self, block: Block) -> None:
        """Wait for a block."""
        jax.block_until_ready(block.ready)

    def saves_at(self, step: int) -> bool:
        """Every block edge that is a multiple of `checkpoint.every_draws`, and the last."""
        return step == self.total or (step > 0 and step % self.block == 0)

    def evaluates_at(self, step: int) -> bool:
        """Every block edge in sampling."""
        return step > self.num_warmup and (step == self.total or step % self.block == 0)

    def evaluate(self, state: State, outputs: Outputs, interrupted: Callable[[], bool]) -> Measurement | None:
        """What `posterior.Watch` tells of all draws so far: `r_hat/max`, `ess_bulk/min`, `divergences` and others."""
        self._watch = self._watch or posterior.Watch(
            outputs, self.spec["num_samples"] // self.spec["thinning"], most_steps(self.spec)
        )
        measured = self._watch.measure()
        stop = self.spec["stop"]
        if stop["max_mcse"] is not None:
            sites, _ = posterior.apart(outputs.draws())
            measured |= {stopping.MCSE: stopping.mcse_ratio(stop["max_mcse"], posterior.summary(sites))}
        if stop["max_seconds"] is not None:
            measured |= {stopping.ELAPSED: self._clock.seconds(outputs)}
        return Measurement(state.step, measured)

    def stops(self, step: int, outputs: Outputs) -> str | None:
        """`converged`: every target that the spec sets is met, at an edge after enough draws; `max_seconds`: its time is up."""
        drawn = (step - self.num_warmup) // self.spec["thinning"]
        if drawn < self.spec["stop"]["min_draws"]:
            return None
        if self.evaluates_at(step) and stopping.has_converged(self.spec["stop"], outputs.at(step)):
            return "converged"
        return self._clock.is_up(self.spec["stop"]["max_seconds"], outputs)

    def companions(self, folder: Path) -> list[str]:
        """A sampler's state needs nothing beside it."""
        return []

    def result(self, state: State, outputs: Outputs, stopped_by: str) -> tuple[dict[str, Any], list[str]]:
        """The posterior table and diagnostics; the draws as NetCDF."""
        return posterior.result(outputs, self.data, self.spec, stopped_by, self.replay())

    def replay(self) -> posterior.Replay:
        """The model in the form that is sampled, over its data: what it predicts can be asked of it."""
        return posterior.Replay.of(self.looked.model, self.data)

    # -- the loop ------------------------------------------------------------------------------------------------------------

    def _load(self, path: Path | None, form: str | None) -> dict[str, jax.Array]:
        arrays = posteriors.observed(self.spec, path, form)
        return {name: jax.device_put(array, self.layout.replicated) for name, array in arrays.items()}

    def _fresh(self, start: starting.Start | None = None) -> Sections:
        # A kernel wraps its transition anew at every `init`, so each trace takes a kernel of its own; the last one is used from
        # then on.
        spread = None if start is None else start.inverse_mass_matrix
        one_by_one = self.method == "sequential"
        self._chains = Chains(self.spec["kernel"], self._model, one_by_one=one_by_one, inverse_mass_matrix=spread)
        key = jax.random.key(self.spec["seed"])
        keys = jax.random.split(key, self.chains) if self.chains > 1 else key[None]
        try:
            state = self._chains.init(keys, self.num_warmup, None if start is None else start.positions, self.data)
        except (RuntimeError, ValueError) as error:
            if is_own(self.spec["model"]) and came_through(error):
                raise
            raise starting.explained(error, self.looked.model, self.data, self.spec["seed"]) from error
        zeros = jnp.zeros(self.chains, jnp.int32)
        told = jax.eval_shape(self._chains.statistics, state)
        counters = {"step": zeros} | ({"divergences": zeros} if "diverging" in told else {})
        counters |= {name: jnp.zeros(self.chains, jnp.float32) for name in AVERAGED if name in told}
        return {"kernel_state": state, "counters": counters}

    def _along_chains(self, leaf: Any) -> NamedSharding:
        split = "chains" in self.layout.mesh.shape and leaf.ndim > 0 and leaf.shape[0] == self.chains
        return NamedSharding(self.layout.mesh, PartitionSpec("chains") if split else PartitionSpec())

    def _transitions(self, sections: Sections, count: jax.Array) -> tuple[Sections, PyTree, PyTree]:
        """`count` transitions of every chain, each device running its own chains at their own pace."""
        if self.layout.mesh.size == 1 or "chains" not in self.layout.mesh.shape:
            return self._loop(sections, count)
        along, whole = PartitionSpec("chains"), PartitionSpec()
        apart = jax.shard_map(self._loop, mesh=self.layout.mesh, in_specs=(along, whole), out_specs=along, check_vma=False)
        return apart(sections, count)

    def _loop(self, sections: Sections, count: jax.Array) -> tuple[Sections, PyTree, PyTree]:
        """A loop of dynamic length that fills buffers: (chains, draws at once, …) for each site and statistic."""
        buffers = jax.tree.map(
            lambda a: jnp.zeros((a.shape[0], self._dispatch.most, *a.shape[1:]), a.dtype),
            jax.eval_shape(self._seen, sections["kernel_state"]),
        )

        def one(i: jax.Array, carry: PyTree) -> PyTree:
            state, counters, buffers = carry
            state = self._chains.sample(state, self.data)
            seen = self._seen(state)
            buffers = jax.tree.map(lambda buffer, a: buffer.at[:, i].set(a), buffers, seen)
            return state, self._counted(counters, seen[1]), buffers

        first = (sections["kernel_state"], sections["counters"], buffers)
        state, counters, (sites, statistics) = jax.lax.fori_loop(0, count, one, first)
        return {"kernel_state": state, "counters": counters}, sites, statistics

    def _seen(self, state: PyTree) -> tuple[PyTree, PyTree]:
        """What is kept of a transition: sites as the model has them, computed where NumPyro computes them, and statistics."""
        return self._chains.sites(state, self.data), self._chains.statistics(state)

    def _counted(self, counters: PyTree, told: PyTree) -> PyTree:
        step = counters["step"]
        begins = (step % self.block == 0) | (step == self.num_warmup)
        after = {"step": step + 1}
        if "divergences" in counters:
            after["divergences"] = counters["divergences"] + ((step >= self.num_warmup) & told["diverging"])
        sums = {name: jnp.where(begins, 0, counters[name]) + told[name] for name in AVERAGED if name in counters}
        return after | {name: value.astype(jnp.float32) for name, value in sums.items()}

    def _edge(self, step: int) -> int:
        """Where a job is measured next: at a multiple of the block length, but at the latest at warm-up's end or the job's."""
        end = self.num_warmup if step < self.num_warmup else self.total
        return min((step // self.block + 1) * self.block, end)

    def _kept(self, start: int, edge: int, sites: PyTree, statistics: PyTree) -> dict[str, np.ndarray]:
        """The draws of a block that thinning keeps, with their statistics."""
        drawn = np.arange(start, edge) - self.num_warmup + 1
        which = np.flatnonzero(drawn % self.spec["thinning"] == 0)
        named = sites | {posterior.STATISTIC + name: array for name, array in statistics.items()}
        return {name: np.asarray(array)[:, which] for name, array in named.items()}
