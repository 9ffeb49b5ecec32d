"""A user's own modules and losses in the programs: trained, resumed, spread over a mesh; their mistakes told in their own terms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from jobs.errors import UserFault
from jobs.programs import trained, user_code
from jobs.programs.preflight.look import Subject, examine
from jobs.programs.purity import program_warnings
from jobs.programs.user_errors import explain
from jobs.spec.bundle.facts import BundleFacts, ModuleFacts
from jobs.spec.job import read_spec
from tests import specs
from tests.jobs.programs import running, trained_models
from tests.jobs.programs.own_code import Bundle
from tests.jobs.spec.bundles import NET


def test_an_own_model_and_loss_learn(bundle) -> None:
    program = bundle().program(steps=60)
    state, measured = running.advance(program, running.start(program), 60)
    assert measured[-1]["train/loss"] < 0.8 * measured[0]["train/loss"]
    values = program.evaluate(state, None, lambda: False).values
    assert 0 < values["eval/loss"] < 2


def test_an_own_model_is_loaded_with_its_class(bundle, tmp_path) -> None:
    own = bundle()
    program, x = own.program(), np.ones((3, 2), np.float32)
    state, _ = running.advance(program, running.start(program), 2)
    folder = trained_models.save(program, state, tmp_path / "kept")
    with pytest.raises(trained.CannotLoad, match=f"import {own.module}:Net yourself"):
        trained.load(folder)
    net = user_code.resolve({"target": f"{own.module}:Net"}, "/model")
    found = trained.load(folder, target=net).module(x)
    np.testing.assert_array_equal(np.asarray(found), trained_models.outputs_of(program, state, x))
    with pytest.raises(trained.CannotLoad, match=r"params differs in first\.bias"):
        trained.load(folder, target=lambda width, *, rngs: net(width + 1, rngs=rngs))


def test_an_own_loss_is_what_the_catalogs_would_be(bundle) -> None:
    """The same model under the same loss, written by hand and by name."""
    own = bundle()
    by_hand = running.losses_of(own.program(), 5)
    by_name = running.losses_of(own.program(loss={"type": "softmax_cross_entropy_with_integer_labels"}), 5)
    assert by_hand == pytest.approx(by_name, rel=1e-5)


def test_evaluation_under_an_own_loss_covers_every_row_once(bundle) -> None:
    own = bundle(NET.replace("nnx.Dropout(0.1", "nnx.Dropout(0.0"))
    program = own.program()
    named = own.program(loss={"type": "softmax_cross_entropy_with_integer_labels"})
    state = running.start(program)
    assert program.evaluate(state, None, lambda: False).values["eval/loss"] == pytest.approx(
        named.evaluate(state, None, lambda: False).values["eval/loss"], rel=1e-5
    )


def test_an_own_model_of_text_predicts_the_next_token(bundle, text: Path) -> None:
    source = """
from flax import nnx
class Net(nnx.Module):
    def __init__(self, vocab, context, *, rngs):
        self.embed = nnx.Embed(vocab, 16, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(16, 16, rngs=rngs) for _ in range(2)])
    def __call__(self, tokens):
        x = self.embed(tokens)
        for layer in self.layers:
            x = x + nnx.relu(layer(x))
        return self.embed.attend(x)
"""
    own = bundle(source)
    model = {"type": "import", "code": "code_own", "target": f"{own.module}:Net", "config": {"vocab": 256, "context": 16}}
    document = specs.transformer() | {"model": model}
    found = BundleFacts({}, {own.module: ModuleFacts([], open=True)})
    program = running.of(read_spec(document, specs.facts, lambda *_: None, lambda _: found).resolved, text)
    losses = running.losses_of(program, 8)
    assert losses[-1] < losses[0]


SHARDED = """
from flax import nnx
class Net(nnx.Module):
    def __init__(self, width, *, rngs):
        init = nnx.with_partitioning(nnx.initializers.lecun_normal(), (None, "model"))
        self.first = nnx.Linear(2, width, kernel_init=init, rngs=rngs)
        self.last = nnx.Linear(width, 3, rngs=rngs)
    def __call__(self, x):
        return self.last(nnx.relu(self.first(x)))
"""


def test_a_modules_own_annotations_place_its_parameters(bundle) -> None:
    own = bundle(SHARDED)
    loss = {"type": "softmax_cross_entropy_with_integer_labels"}
    program = own.program(loss=loss, mesh={"axes": {"data": 2, "model": 2}})
    state = running.start(program)
    assert state.sections["params"]["first.kernel"].addressable_shards[0].data.shape == (2, 4)
    assert state.sections["params"]["last.kernel"].sharding.is_fully_replicated
    alone = running.losses_of(own.program(loss=loss), 5)
    assert running.losses_of(program, 5) == pytest.approx(alone, rel=1e-4)


def test_a_resumed_run_is_the_same_run(bundle) -> None:
    program = bundle().program()
    whole, _ = running.advance(program, running.start(program), 6)
    half, _ = running.advance(program, running.start(program), 3)
    rest, _ = running.advance(program, program.place(3, jax.tree.map(jax.numpy.copy, half.sections), half.position), 3)
    for name, value in whole.sections["params"].items():
        assert np.array_equal(value, rest.sections["params"][name])


def test_a_plugin_is_the_module_that_its_entry_point_names(bundle, tmp_path: Path) -> None:
    own = bundle()
    info = tmp_path / "installed-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: installed\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[meshyard.models]\nmine = {own.module}:Net\n")
    model = {"type": "plugin", "name": "mine", "config": {"width": 8}}
    assert running.losses_of(own.program(model=model), 3) == pytest.approx(running.losses_of(own.program(), 3))
    with pytest.raises(UserFault, match="no plugin other"):
        own.program(model=model | {"name": "other"})


def changed(old: str, new: str) -> str:
    assert old in NET
    return NET.replace(old, new)


RETURN = 'logits = model(batch["x"])'
# (what is wrong, source, code of the detail, the faulty line, words of the hint)
MISTAKES = [
    ("if", changed(RETURN, RETURN + "\n    if logits.mean() > 0: logits = -logits"), "tracer_control_flow", "jax.lax.cond"),
    ("while", changed(RETURN, RETURN + "\n    while logits.sum() > 0: logits = logits - 1"), "tracer_control_flow", "while_loop"),
    ("in place", changed(RETURN, RETURN + "\n    logits[0] = 0"), "in_place_mutation", ".at[i].set"),
    ("mask", changed(RETURN, RETURN + '\n    logits = logits[batch["y"] > 0]'), "value_dependent_shape", "jnp.where(mask"),
    ("nonzero", changed(RETURN, RETURN + '\n    kept = jax.numpy.nonzero(batch["y"])'), "value_dependent_shape", "size="),
    ("shape", changed(RETURN, RETURN + '\n    x = jax.numpy.zeros(batch["y"].max())'), "value_needed", "static argument"),
    ("range", changed(RETURN, RETURN + '\n    for _ in range(batch["y"][0]): pass'), "value_needed", "config"),
    ("float", changed(RETURN, RETURN + "\n    scale = float(logits.mean())"), "value_needed", "jnp"),
    ("numpy", changed(RETURN, "import numpy\n    " + RETURN + "\n    a = numpy.sum(numpy.asarray(logits))"), "value_needed", "np"),
    (
        "leak",
        "kept = []\n"
        + changed(RETURN, RETURN + "\n    jax.vmap(lambda row: kept.append(row) or row)(logits)\n    logits = logits + kept[0]"),
        "leaked_tracer",
        "nnx.Variable",
    ),
    ("raises", changed(RETURN, RETURN + '\n    raise ValueError("no")'), "exception", ""),
    ("shapes", changed(RETURN, RETURN + '\n    logits @ batch["x"]'), "exception", ""),
    ("tree_map", changed(RETURN, RETURN + "\n    jax.tree_map(lambda x: x, logits)"), "exception", "jax.tree.map"),
    (
        "list",
        changed("self.first = nnx.Linear(2, width, rngs=rngs)", "self.first = [nnx.Linear(2, width, rngs=rngs) for _ in range(2)]"),
        "exception",
        "nnx.List",
    ),
]


@pytest.mark.parametrize(("source", "code", "hint"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES])
def test_a_mistake_is_told_with_its_code_file_line_and_the_way_out(bundle, source, code, hint) -> None:
    own = bundle(source)
    found = own.fault()
    wrong = next(
        at for at, line in enumerate(source.splitlines(), 1) if line not in NET.splitlines() and "numpy\n" not in line + "\n"
    )
    assert found.code == "user_code_error"
    assert found.detail is not None
    assert found.detail["code"] == code
    assert found.detail["file"] == f"{own.module}.py"
    assert found.detail["line"] >= wrong
    assert hint in (found.detail["hint"] or "")
    assert f"{own.module}.py, line {found.detail['line']}" in found.message
    assert "site-packages" not in found.message.partition("Traceback")[2]


def test_what_is_raised_at_import_is_told(bundle) -> None:
    found = bundle(NET + "\n\nraise RuntimeError('at import')\n").fault()
    assert "line 23, in <module>: RuntimeError: at import" in found.message


def test_errors_that_are_not_the_users_stay_as_they_are(tmp_path) -> None:
    assert explain(ValueError("ours"), [tmp_path]) is None


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (changed("class Net(nnx.Module)", "class Net"), "an nnx.Module"),
        (changed("each.mean()", "each"), "take its mean"),
        (changed('{"accuracy": accuracy}', "[accuracy]"), "every one of metrics"),
        (changed('{"accuracy": accuracy}', '{"accuracy": logits}'), "every one of metrics"),
    ],
)
def test_what_is_no_module_and_no_loss_is_refused(bundle, source, words) -> None:
    with pytest.raises(UserFault, match=words):
        bundle(source).start()


def test_a_module_hidden_by_an_installed_one_is_told(bundle) -> None:
    bundle()
    with pytest.raises(UserFault, match="rename yours"):
        user_code.resolve({"target": "json:loads"}, "/model")


IMPURE = [
    "import random\n" + changed(RETURN, RETURN + "\n    logits = logits * random.random()"),
    "import numpy\n" + changed(RETURN, RETURN + "\n    logits = logits + numpy.random.normal(size=3).astype('float32')"),
    "import time\n" + changed(RETURN, RETURN + "\n    logits = logits * time.perf_counter()"),
    "calls = []\n" + changed(RETURN, RETURN + "\n    calls.append(1)\n    logits = logits * len(calls)"),
]


def traced(own: Bundle) -> list[dict[str, Any]]:
    return program_warnings(own.program(), [own.folder])


@pytest.mark.parametrize("source", IMPURE)
def test_an_impure_step_is_found_by_tracing_it_twice(bundle, source) -> None:
    assert "tracing the step twice" in " ".join(warning["detail"] for warning in traced(bundle(source)))


def test_a_leak_that_nobody_reads_is_found(bundle) -> None:
    source = "kept = []\n" + changed(RETURN, RETURN + "\n    kept.append(logits)")
    assert "outlives" in " ".join(warning["detail"] for warning in traced(bundle(source)))


def test_a_pure_step_is_not_warned_of(bundle) -> None:
    assert traced(bundle()) == []


def test_a_preflight_tells_what_is_impure(bundle) -> None:
    own = bundle(IMPURE[0])
    spec = own.spec()
    subject = Subject(spec, spec["mesh"]["axes"], None, None, 2**34, None, folders=(own.folder,))
    notices = examine(subject, "shapes", {}, virtual=True).notices
    assert next(notice.detail.partition(":")[0] for notice in notices if notice.code == "impure_program").startswith(own.module)
