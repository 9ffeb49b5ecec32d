"""A look at a job before any of it runs: against what its arrays are, what it really takes, and what was planted in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from jobs.errors import UserFault
from jobs.preflight import Findings, refusal
from jobs.programs.preflight import compiling
from jobs.programs.preflight.candidates import changed
from jobs.programs.preflight.compiling import Limit
from jobs.programs.preflight.fit import require_state_fits, require_step_fits
from jobs.programs.preflight.look import Subject, examine
from jobs.programs.preflight.tracing import trace
from tests import specs
from tests.jobs.programs import running

ROOMY = Limit(2**45, "a roomy device")


def subject(document: dict[str, Any], path: Path | None = None, limit: Limit | None = ROOMY, host_bytes: int = 2**40) -> Subject:
    spec = specs.resolve(document)
    form = running.FORMS[path.suffix] if path else None
    return Subject(spec, spec["mesh"]["axes"], path, form, host_bytes, limit)


def look(document: dict[str, Any], level: str = "shapes", path: Path | None = None, **more: Any) -> Findings:
    return examine(subject(document, path, **more), level, {}, virtual=True)


def codes(found: Findings) -> set[str]:
    return {notice.code for notice in found.notices}


def items(found: Findings) -> dict[str, str]:
    return {item.item: item.status for item in found.checklist or []}


LM = specs.on_mesh(specs.transformer(), "fsdp_tp", data=4, model=2)


@pytest.fixture(scope="module")
def shaped(text: Path) -> Findings:
    return look(LM, path=text)


def test_the_table_is_what_a_real_state_is(shaped: Findings, text: Path):
    params = running.build(LM, text).init().sections["params"]
    assert [array.path for array in shaped.parameters] == sorted(params)
    for array in shaped.parameters:
        real = params[array.path]
        assert (array.shape, array.dtype, array.bytes) == (list(real.shape), str(real.dtype), real.nbytes)
        assert array.bytes_per_device == max(shard.data.nbytes for shard in real.addressable_shards)
        assert tuple(array.partition) == (*real.sharding.spec, *(None,) * (real.ndim - len(real.sharding.spec)))
    assert shaped.total_parameters.count == sum(array.size for array in params.values())


def test_bytes_by_kind_are_those_of_a_real_state(shaped: Findings, text: Path):
    sections = running.build(LM, text).init().sections

    def on_one(name: str) -> int:
        return sum(max(s.data.nbytes for s in leaf.addressable_shards) for leaf in jax.tree.leaves(sections[name]))

    assert shaped.memory.parameters == on_one("params") == shaped.memory.gradients
    assert shaped.memory.optimizer == on_one("opt_state")
    assert shaped.memory.batch == 8 // 4 * 17 * 4
    assert shaped.memory.activations > 0


def test_nothing_is_put_on_a_device(text: Path):
    jax.clear_caches()
    before = {id(array) for array in jax.live_arrays()}
    look(LM, path=text)
    grown = [array for array in jax.live_arrays() if id(array) not in before and array.size > 64]
    assert grown == []


def test_the_schedule_is_drawn_and_the_data_described(shaped: Findings):
    assert shaped.learning_rate.steps == list(range(13))
    half = np.cos(np.pi * np.arange(13) / 100) / 2 + 0.5
    np.testing.assert_allclose(np.asarray(shaped.learning_rate.values, float), 3e-3 * half, rtol=1e-5)
    assert shaped.data.unit == "window"
    assert shaped.data.samples == 180_000 - 16
    assert shaped.data.batches_per_pass == pytest.approx(180_000 / (8 * 16), rel=1e-3)
    assert shaped.data.passes == pytest.approx(12 * 128 / 180_000, abs=1e-3)


def test_flops_are_near_six_times_parameters_times_tokens(shaped: Findings):
    assert shaped.flops.analytic == 6 * shaped.total_parameters.count * 8 * 16
    # Norms count as parameters and not as products; attention the other way.
    assert 0.6 < shaped.flops.per_step / shaped.flops.analytic < 1.6


def test_the_checklist_has_seven_items_with_evidence(shaped: Findings):
    assert len(shaped.checklist or []) == 7
    assert items(shaped) == {
        "Functions are pure and side-effect free": "pass",
        "RNG keys split and passed explicitly": "pass",
        "Hot paths JIT-compiled": "pass",
        "Static args marked for dynamic shapes": "pass",
        "Checkpointing with async saves": "pass",
        "Gradient clipping enabled": "pass",
        "Memory profiled for large models": "n/a",
    }
    evidence = {item.item: item.evidence for item in shaped.checklist}
    assert "dropout" in evidence["RNG keys split and passed explicitly"]
    assert "/optimizer/transforms/0" in evidence["Gradient clipping enabled"]


@pytest.mark.parametrize(
    ("changes", "code", "item"),
    [
        ({"optimizer": {"type": "adamw", "learning_rate": 1e-3}}, "no_clipping", "Gradient clipping enabled"),
        ({"debug": {"disable_jit": True}}, "not_jitted", "Hot paths JIT-compiled"),
        ({"steps": 5000, "checkpoint": {"every_steps": 4000}}, "rarely_saved", None),
        ({"checkpoint": {"every_steps": None}}, None, "Checkpointing with async saves"),
    ],
)
def test_what_is_probably_not_meant_is_warned_of(shaped: Findings, text: Path, changes, code, item):
    found = look(specs.transformer(**changes), path=text)
    if code is not None:
        assert code in codes(found) - (codes(shaped) - {"decay_steps_differ"})
    if item is not None:
        assert items(found)[item] == "warn"


def test_a_schedule_of_another_length_is_warned_of(shaped: Findings):
    notice = next(notice for notice in shaped.notices if notice.code == "decay_steps_differ")
    assert notice.pointer == "/optimizer/transforms/1/learning_rate/decay_steps"
    assert "100" in notice.detail
    assert "12" in notice.detail


def test_rows_that_do_not_divide_are_warned_of():
    found = look(specs.regression(data={"inline": {"x": [0.0] * 10, "y": [1.0] * 10}, "batch_size": 4}))
    assert "partial_batch" in codes(found)
    assert (found.data.samples, found.data.batches_per_pass, found.data.passes) == (10, 2.5, 2.0)


def test_a_large_parameter_that_nobody_spreads_is_named(text: Path):
    replicated = look(specs.on_mesh(specs.transformer(), "dp", data=4), path=text)
    named = [notice.detail.split()[0] for notice in replicated.notices if notice.code == "unsharded_parameter"]
    assert "embed.embedding" in named
    assert not any("norm" in name for name in named)
    assert "unsharded_parameter" not in codes(look(specs.on_mesh(specs.transformer(), "fsdp", data=4), path=text))


def test_remat_keeps_fewer_activations(text: Path):
    kept, recomputed = (look(specs.transformer(remat=remat), path=text).memory.activations for remat in ("none", "full"))
    assert recomputed < kept / 2


def test_accumulation_keeps_the_activations_of_one_part(text: Path):
    whole, parted = (look(specs.transformer(grad_accumulation=n), path=text).memory for n in (1, 4))
    assert parted.activations == pytest.approx(whole.activations / 4, rel=0.1)
    assert parted.gradients == 2 * whole.gradients


def test_a_program_that_reads_what_changes_is_caught(text: Path):
    program: Any = running.build(specs.transformer(), text)
    sound, loss = trace(program), program.loss

    def impure(*parts: Any) -> Any:
        value, moved = loss(*parts)
        return value * np.random.default_rng().normal(), moved

    def chatty(*parts: Any) -> Any:
        value, moved = loss(*parts)
        jax.debug.print("{}", value)
        return value, moved

    assert (sound.differs, sound.effects) == (None, [])
    program.loss = impure
    assert trace(program).differs is not None
    program.loss = chatty
    assert trace(program).effects != []


def test_compiling_tells_memory_and_collectives(text: Path):
    found = look(LM, "compile", text)
    assert found.compiled.collectives["all-reduce"] > 0
    assert found.compiled.argument_bytes >= found.memory.parameters + found.memory.optimizer
    assert found.compiled.flops > 0
    assert (found.verdict.code, found.suggestions) == ("fits", None)
    assert items(found)["Memory profiled for large models"] == "pass"
    alone = look(specs.transformer(), "compile", text)
    assert alone.compiled.collectives == {}


def test_collectives_are_instructions_and_not_mentions():
    text = "  %all-reduce.1 = f32[] all-reduce(%x), to_apply=%all-reduce-sum\n  x = all-gather-start(y)\n  z = all-gather-done(x)"
    assert compiling.collectives(text) == {"all-gather": 1, "all-reduce": 1}


WIDE = specs.spirals(
    model={"type": "mlp", "in_features": 2, "hidden": [32], "out_features": 3}, data=specs.spirals()["data"] | {"batch_size": 240}
)


def test_what_does_not_fit_is_refused_with_what_would():
    need = look(WIDE, "compile").verdict.need_bytes
    found = look(WIDE, "compile", limit=Limit(int(need * 0.7), "a small device"))
    assert found.verdict.code == "would_oom"
    fitting = [each for each in found.suggestions if each.fits]
    assert fitting
    # A suggestion's figure is that of the changed job itself.
    first = fitting[0]
    values = {change.pointer: change.value for change in first.changes}
    spec = changed(specs.resolve(WIDE), values)
    tried = examine(Subject(spec, spec["mesh"]["axes"], None, None, 2**40, ROOMY), "compile", {}, virtual=True)
    assert tried.verdict.need_bytes == first.need_bytes <= found.verdict.limit_bytes
    refused = refusal(found)
    assert refused is not None
    pointer, told = refused
    assert pointer == first.changes[0].pointer
    assert first.title in told


def test_an_attempt_refuses_before_it_allocates_and_before_its_first_step():
    roomy = subject(WIDE)
    program = roomy.build()
    require_state_fits(roomy, program)
    with pytest.raises(UserFault, match="take more devices") as refused:
        require_state_fits(subject(WIDE, None, Limit(1000, "nothing")), program)
    assert refused.value.code == "would_oom"
    program.compile(program.init())
    require_step_fits(roomy, program)
    need = compiling.needs(compiling.figures(program.executable, 0.0))
    with pytest.raises(UserFault, match="would fit") as refused:
        require_step_fits(subject(WIDE, None, Limit(need - 1, "a byte too little")), program)
    assert refused.value.code == "would_oom"


def test_a_sampler_tells_its_sites_and_their_draws():
    found = look(specs.schools(thinning=2))
    sites = {site.name: (site.shape, site.draws_bytes) for site in found.sampling.sites}
    assert sites == {"mu": ([], 4 * 60 * 4), "tau": ([], 4 * 60 * 4), "theta": ([8], 8 * 4 * 60 * 4)}
    assert (found.sampling.chains, found.sampling.draws, found.sampling.fits) == (4, 60, True)
    assert items(found)["Gradient clipping enabled"] == "n/a"
    assert items(found)["Functions are pure and side-effect free"] == "pass"


def test_a_posterior_that_does_not_fit_is_said():
    found = look(specs.schools(), host_bytes=20_000)
    assert found.sampling.fits is False
    assert "draws_too_large" in codes(found)


def test_a_sampler_is_compiled_for_its_mesh():
    found = look(specs.on_mesh(specs.schools(), chains=4), "compile")
    assert found.compiled.temp_bytes > 0
    assert found.verdict.code == "fits"


def test_a_guide_tells_its_parameters_and_is_compiled():
    found = look(specs.fitted(), "compile")
    shapes = {array.path: array.shape for array in found.parameters}
    sites: dict[str, list[int]] = {"mu": [], "tau": [], "_theta": [8]}
    assert shapes == {f"{site}_auto_{part}": shape for site, shape in sites.items() for part in ("loc", "scale")}
    assert (found.total_parameters.count, found.total_parameters.bytes) == (20, 80)
    assert (found.compiled.temp_bytes > 0, found.verdict.code) == (True, "fits")
    assert items(found)["Functions are pure and side-effect free"] == "pass"
