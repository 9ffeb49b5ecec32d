"""Sampling as a program: a NumPyro kernel under our own block loop, compiled once, with chains spread over the mesh.

The kernel's state crosses warm-up and sampling in one loop (its own counter drives adaptation), so a checkpoint may fall
anywhere. Keys are split as `numpyro.infer.MCMC` splits them: on one device the sampled sites are those of one plain `MCMC.run`,
bit for bit.
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
from numpyro.infer.util import log_density

from jobs.errors import UserFault
from jobs.programs import data as datasets
from jobs.programs import kernels, posterior
from jobs.programs.mesh import Layout
from jobs.programs.models import posteriors
from jobs.programs.outputs import Outputs
from jobs.programs.posterior.result import most_steps
from jobs.programs.program import Block, Measurement, PyTree, Sections, State
from jobs.programs.user_code import came_through
from jobs.spec.imports import is_own

STATISTICS = ("accept_prob", "diverging", "energy", "num_steps", "potential_energy")
LEAST_DRAWS = 100
"""Draws of each chain before a stop rule may end a job: R-hat of fewer says little."""


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
        self.method = self._method()
        shapes = jax.eval_shape(self._fresh)
        self._shapes, self._shardings = shapes, jax.tree.map(self._along_chains, shapes)
        self._run: Callable[..., Any] | None = None
        self._watch: posterior.Watch | None = None

    def init(self) -> State:
        """The kernel's first state for every chain.

        Raises:
            UserFault: no starting point has a finite log density.
        """
        # Not under `jax.jit`: compiled, the first gradient would differ in its last bit from NumPyro's own.
        sections = jax.device_put(self._fresh(), self._shardings)
        energy = np.asarray(sections["kernel_state"].potential_energy)
        if not np.all(np.isfinite(energy)):
            chain = int(np.argmin(np.isfinite(energy)))
            message = f"chain {chain} found no starting point with a finite log density; check data and priors"
            raise UserFault("user_code_error", message, "/model")
        return State(0, sections)

    def abstract(self) -> Sections:
        """Shapes and shardings of the sections."""
        return jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), self._shapes, self._shardings)

    def adopt(self, state: State, params: Sections) -> State:
        """A sampler has no parameters to start from."""
        return state

    def place(self, step: int, sections: Sections, position: dict[str, int]) -> State:
        """Take up a state."""
        return State(step, sections, position)

    def phase(self, state: State) -> str:
        """Warm-up first, then sampling."""
        return "warmup" if state.step < self.num_warmup else "sampling"

    def compile(self, state: State) -> None:
        """Compile the block for this state. Its length is an argument, so that one program serves every block."""
        ahead = not (self.spec["debug"]["disable_jit"] or self.spec["debug"]["nans"])
        self._run = self.lower(state.sections).compile() if ahead else jax.jit(self._transitions, donate_argnums=0)

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
        return self._sample(state)

    def log_density(self, key: jax.Array) -> jax.Array:
        """The model run once from its priors: the sum of the log densities of its sites."""
        model = handlers.seed(posteriors.build_model(self.spec["model"]), key)
        density, _ = log_density(model, (), self.data, {})
        return jnp.asarray(density)

    def drawn(self) -> tuple[PyTree, PyTree]:
        """Shapes of a transition's sites, hidden ones too, and of its statistics: (chains, …)."""
        return jax.eval_shape(self._seen, self._shapes["kernel_state"])

    def fetch(self, state: State) -> None:
        """All data is on the devices."""

    def advance(self, state: State) -> tuple[State, Block]:
        """Transitions up to the next block edge."""
        if self._run is None:
            raise RuntimeError("compile comes before advance")
        edge = self._edge(state.step)
        count = edge - state.step
        with jax.set_mesh(self.layout.mesh):
            sections, sites, statistics = self._run(state.sections, jnp.int32(count))
        draws = self._kept(state.step, edge, sites, statistics) if edge > self.num_warmup else None
        means = {name: np.asarray(statistics[name])[:, :count].mean(axis=1) for name in ("accept_prob", "num_steps")}
        # The next block takes the state's own buffers: what is kept of them must be a copy.
        after = {
            "step_size": np.array(sections["kernel_state"].adapt_state.step_size),
            "divergences": np.array(sections["counters"]["divergences"]),
        }
        block = Block(edge, [Measurement(edge, means | after, label="chain")], statistics["potential_energy"], draws)
        return State(edge, sections, state.position), block

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
        return Measurement(state.step, self._watch.measure())

    def stops(self, step: int, outputs: Outputs) -> str | None:
        """`converged`: every target that the spec sets is met, at a block edge after enough draws."""
        stop, measured = self.spec["stop"], outputs.at(step)
        drawn = (step - self.num_warmup) // self.spec["thinning"]
        targets = [stop["min_ess_bulk"], stop["max_r_hat"]]
        if all(target is None for target in targets) or not self.evaluates_at(step) or drawn < LEAST_DRAWS:
            return None
        enough = stop["min_ess_bulk"] is None or measured.get("ess_bulk/min", 0.0) >= stop["min_ess_bulk"]
        mixed = stop["max_r_hat"] is None or measured.get("r_hat/max", np.inf) <= stop["max_r_hat"]
        return "converged" if enough and mixed else None

    def companions(self, folder: Path) -> list[str]:
        """A sampler's state needs nothing beside it."""
        return []

    def result(self, state: State, outputs: Outputs, stopped_by: str) -> tuple[dict[str, Any], list[str]]:
        """The posterior table and diagnostics; the draws as NetCDF."""
        return posterior.result(outputs, self.data, self.spec, stopped_by, self.replay())

    def replay(self) -> posterior.Replay:
        """The model in the form that is sampled, over its data: what it predicts can be asked of it."""
        return posterior.Replay.of(posteriors.build_model(self.spec["model"]), self.data)

    # -- the loop ------------------------------------------------------------------------------------------------------------

    def _load(self, path: Path | None, form: str | None) -> dict[str, jax.Array]:
        arrays = posteriors.observed(self.spec, path, form)
        return {name: jax.device_put(array, self.layout.replicated) for name, array in arrays.items()}

    def _method(self) -> str:
        """How the chains of one device run: `auto` vectorizes them; across devices they are always apart."""
        asked = self.spec["chain_method"]
        return "sequential" if asked == "sequential" else "vectorized"

    def _fresh(self) -> Sections:
        # A kernel wraps its transition anew at every `init`, so each trace takes a kernel of its own; the last one is used from
        # then on.
        self.kernel = kernels.build(self.spec["kernel"], posteriors.build_model(self.spec["model"]))
        keys = jax.random.split(jax.random.key(self.spec["seed"]), self.chains)
        try:
            state = self.kernel.init(keys, self.num_warmup, None, (), self.data)
        except (RuntimeError, ValueError) as error:
            if is_own(self.spec["model"]) and came_through(error):
                raise
            raise UserFault("user_code_error", f"NumPyro could not start the chains: {error}", "/model") from error
        counters = {"step": jnp.zeros(self.chains, jnp.int32), "divergences": jnp.zeros(self.chains, jnp.int32)}
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
        """A loop of dynamic length that fills buffers of one block: (chains, block, …) for each site and statistic."""
        buffers = jax.tree.map(
            lambda a: jnp.zeros((a.shape[0], self.block, *a.shape[1:]), a.dtype),
            jax.eval_shape(self._seen, sections["kernel_state"]),
        )

        def one(i: jax.Array, carry: PyTree) -> PyTree:
            state, counters, buffers = carry
            state = self._sample(state)
            buffers = jax.tree.map(lambda buffer, a: buffer.at[:, i].set(a), buffers, self._seen(state))
            return state, self._counted(counters, state.diverging), buffers

        first = (sections["kernel_state"], sections["counters"], buffers)
        state, counters, (sites, statistics) = jax.lax.fori_loop(0, count, one, first)
        return {"kernel_state": state, "counters": counters}, sites, statistics

    def _seen(self, state: PyTree) -> tuple[PyTree, PyTree]:
        """What is kept of a transition: sites as the model has them, computed where NumPyro computes them, and statistics."""
        sites = jax.vmap(self.kernel.postprocess_fn((), self.data))(state.z)
        return sites, {name: getattr(state, name) for name in STATISTICS}

    def _sample(self, state: PyTree) -> PyTree:
        if self.method == "vectorized":
            return self.kernel.sample(state, (), self.data)

        def alone(chain: PyTree) -> PyTree:
            one = jax.tree.map(lambda a: a[None], chain)
            return jax.tree.map(lambda a: a[0], self.kernel.sample(one, (), self.data))

        return jax.lax.map(alone, state)

    def _counted(self, counters: PyTree, diverging: jax.Array) -> PyTree:
        sampling = counters["step"] >= self.num_warmup
        return {"step": counters["step"] + 1, "divergences": counters["divergences"] + (sampling & diverging)}

    def _edge(self, step: int) -> int:
        """Where the block from `step` ends: the next multiple of the block length, but at the latest warm-up's end or the job's."""
        end = self.num_warmup if step < self.num_warmup else self.total
        return min((step // self.block + 1) * self.block, end)

    def _kept(self, start: int, edge: int, sites: PyTree, statistics: PyTree) -> dict[str, np.ndarray]:
        """The draws of a block that thinning keeps, with their statistics."""
        drawn = np.arange(start, edge) - self.num_warmup + 1
        which = np.flatnonzero(drawn % self.spec["thinning"] == 0)
        named = sites | {posterior.STATISTIC + name: array for name, array in statistics.items()}
        return {name: np.asarray(array)[:, which] for name, array in named.items()}
