"""Regressions written as formulas, settled without JAX: what is frozen, and what is refused where."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import Issue, SpecInvalid
from jobs.spec.dataset import ColumnFacts, DatasetFacts
from jobs.spec.glm.translate import as_program, is_matrix, program_data
from jobs.spec.job import Spec, read_spec
from jobs.spec.program.document import read_program

COLUMNS: dict[str, list[Any]] = {
    "y": [1.5, 2.0, 3.5, 5.0, 4.0, 6.5],
    "x": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
    "z": [0.5, 0.1, 0.9, 0.4, 0.2, 0.8],
    "group": ["b", "a", "b", "a", "c", "c"],
    "k": [3, 1, 2, 3, 1, 2],
    "n": [0, 1, 4, 2, 0, 3],
    "one": [1, 1, 1, 1, 1, 1],
    "sigma": [1.0, 2.0, 1.0, 2.0, 1.0, 2.0],
    "flag": [0, 1, 0, 1, 1, 0],
}


def _read(model: dict[str, Any], data: dict[str, Any] | None = None, find_table: Any = None) -> Spec:
    document = {"kind": "mcmc", "model": {"type": "glm", **model}, "data": data or {"inline": COLUMNS}}
    facts = DatasetFacts(
        "ds_table",
        "csv",
        1000,
        6,
        [
            ColumnFacts("score", "float64", [6], 1.5, 6.5),
            ColumnFacts("my x", "int64", [6], 1, 6),
            ColumnFacts("who", "string", [6]),
            ColumnFacts("gaps", "float64", [6], 1, 6, missing=2, missing_row=3),
        ],
    )
    table = find_table or (lambda *_: None)
    return read_spec(document, lambda name: facts if name == "ds_table" else None, lambda *_: None, lambda _: None, table)


def _faults(model: dict[str, Any], data: dict[str, Any] | None = None) -> list[Issue]:
    with pytest.raises(SpecInvalid) as caught:
        _read(model, data)
    return caught.value.issues


def test_everything_that_a_prediction_needs_is_frozen():
    spec = _read({"formula": "y ~ scale(x) * group + (1 + z | k)"})
    model = spec.resolved["model"]
    assert (model["link"], model["trials"], model["levels"]) == ("identity", None, None)
    design = model["design"]
    assert design["columns"] == ["scale(x)", "group[T.b]", "group[T.c]", "scale(x):group[T.b]", "scale(x):group[T.c]"]
    assert design["levels"] == {"group": ["a", "b", "c"]}
    assert design["moments"] == {"scale(x)": [3.5, pytest.approx(statistics.stdev(COLUMNS["x"]))]}
    assert design["means"][:3] == pytest.approx([0.0, 1 / 3, 1 / 3])
    assert design["groups"] == [
        {"name": "k", "by": ["k"], "levels": [[1], [2], [3]], "columns": ["Intercept", "z"], "correlated": True}
    ]
    assert spec.resolved["data"]["args"] == {"y": "y", "x": "x", "group": "group", "z": "z", "k": "k"}
    assert "models/glm" in spec.needs
    assert json.loads(json.dumps(spec.resolved)) == spec.resolved


def test_default_priors_are_scaled_to_the_data():
    priors = _read({"formula": "y ~ x + (1 + z | k)"}).resolved["model"]["priors"]
    sd = {name: statistics.stdev(COLUMNS[name]) for name in ("y", "x", "z")}
    assert list(priors) == ["Intercept", "x", "sd_k__Intercept", "sd_k__z", "cor_k", "sigma"]
    assert priors["Intercept"] == {"type": "Normal", "loc": 3.75, "scale": pytest.approx(2.5 * sd["y"], rel=1e-5)}
    assert priors["x"] == {"type": "Normal", "loc": 0.0, "scale": pytest.approx(2.5 * sd["y"] / sd["x"], rel=1e-5)}
    assert priors["sd_k__z"] == {"type": "HalfNormal", "scale": pytest.approx(2.5 * sd["y"] / sd["z"], rel=1e-5)}
    assert priors["sigma"] == {"type": "Exponential", "rate": pytest.approx(1 / sd["y"], rel=1e-5)}
    assert priors["cor_k"] == {"type": "LKJ", "concentration": 1.0}


def test_a_prior_may_be_set_for_one_parameter_or_for_a_class():
    asked = {
        "coefficients": {"type": "Normal", "loc": 0, "scale": 1},
        "x": "flat",
        "sd": {"type": "Exponential", "rate": 2},
        "z": "auto",
    }
    priors = _read({"formula": "y ~ x + z + group + (1 | k)", "priors": asked}).resolved["model"]["priors"]
    assert priors["x"] == "flat"
    assert priors["group[T.b]"] == {"type": "Normal", "loc": 0, "scale": 1}
    assert priors["z"]["scale"] > 10
    assert priors["sd_k__Intercept"] == {"type": "Exponential", "rate": 2}


def test_a_settled_model_settles_to_itself():
    """Its priors are legal ones: a user may take them from `resolved_spec`, change one and submit again."""
    model = _read({"formula": "n ~ x + (1 + z | k)", "family": "negative_binomial"}).resolved["model"]
    assert _read({key: value for key, value in model.items() if key != "type"}).resolved["model"] == model
    assert _read({key: model[key] for key in ("formula", "family", "link", "priors")}).resolved["model"] == model


def test_variables_bind_to_columns_and_the_table_is_read_as_what_it_is():
    asked: list[Any] = []

    def find(reference: str, kinds: dict[str, str]) -> dict[str, list[Any]]:
        asked.append((reference, kinds))
        return {"score": COLUMNS["y"], "my x": COLUMNS["x"], "who": COLUMNS["group"]}

    data = {"dataset": "ds_table", "args": {"x": "my x", "y": "score"}}
    resolved = _read({"formula": "y ~ x + who"}, data, find).resolved
    assert asked == [("ds_table", {"score": "number", "my x": "number", "who": "text"})]
    assert resolved["data"]["args"] == {"y": "score", "x": "my x", "who": "who"}
    assert resolved["model"]["design"]["columns"] == ["x", "who[T.b]", "who[T.c]"]


def test_the_levels_of_a_response_have_an_order():
    model = _read({"formula": "group ~ x", "family": "ordinal", "levels": ["c", "a", "b"]}).resolved["model"]
    assert model["design"]["response"] == {"site": "group", "levels": ["c", "a", "b"]}
    assert program_data(model, COLUMNS)["group"] == [2, 1, 2, 1, 0, 0]
    assert _read({"formula": "k ~ x", "family": "categorical"}).resolved["model"]["design"]["response"]["levels"] == [1, 2, 3]


def test_a_transformed_response_has_a_name_of_its_own():
    model = _read({"formula": "log(y) ~ x"}).resolved["model"]
    assert model["design"]["response"]["site"] == "log_y"
    assert program_data(model, COLUMNS)["log_y"][1] == pytest.approx(0.6931472)


def test_what_may_surprise_is_told():
    found = {warning["code"] for warning in _read({"formula": "y ~ x + one"}).warnings}
    assert "constant_column" in found
    flat = {"Intercept": "flat", "coefficients": "flat"}
    assert "improper" in {warning["code"] for warning in _read({"formula": "y ~ x*z*C(k)", "priors": flat}).warnings}


PROGRAMS: list[dict[str, Any]] = [
    {"formula": "y ~ 0"},
    {"formula": "y ~ x*z*group + (1 + x | k) + (0 + z || k/group)"},
    {"formula": "flag ~ I(x ** 2) + `z`", "family": "bernoulli", "link": "probit"},
    {"formula": "n ~ x + offset(log(x))", "family": "binomial", "trials": 9, "priors": {"x": "flat"}},
    {"formula": "group ~ 0 + x*z", "family": "categorical"},
    {"formula": "group ~ C(k, 2) + (1 | flag)", "family": "ordinal", "priors": {"threshold": "flat"}},
    {"formula": "log(y) ~ I(x / z)", "family": "student_t", "priors": {"I(x ÷ z)": {"type": "Cauchy", "loc": 0, "scale": 1}}},
]


@pytest.mark.parametrize("model", PROGRAMS, ids=[f"{i}-{model['formula'][:20]}" for i, model in enumerate(PROGRAMS)])
def test_the_program_of_a_formula_is_a_sound_one_over_its_data(model: dict[str, Any]):
    settled = _read(model).resolved["model"]
    program = as_program(settled)
    found, issues = read_program(program)
    assert issues == []
    assert found.unused == []
    assert program["data"].keys() == program_data(settled, COLUMNS).keys()


def test_what_would_keep_the_service_busy_is_refused():
    rows = 60_000
    columns = {name: [float(row % 7) for row in range(rows)] for name in ("score", "my x")} | {"who": ["a", "b"] * (rows // 2)}
    facts = [ColumnFacts(name, "string" if name == "who" else "float64", [rows], 0, 6) for name in columns]
    table = DatasetFacts("ds_large", "parquet", 1000, rows, facts)
    right = " + ".join(f"I(x ** {power})" for power in range(2, 40))
    document = {
        "kind": "mcmc",
        "model": {"type": "glm", "formula": f"score ~ who * ({right})"},
        "data": {"dataset": "ds_large", "args": {"x": "my x"}},
    }
    with pytest.raises(SpecInvalid) as caught:
        read_spec(document, lambda _: table, lambda *_: None, lambda _: None, lambda *_: columns)
    assert [(issue.pointer, issue.code) for issue in caught.value.issues] == [("/model/formula", "too_large")]


def test_the_example_is_accepted():
    document = json.loads((Path(__file__).parents[3] / "examples" / "regression.json").read_text())
    design = read_spec(document, lambda _: None, lambda *_: None).resolved["model"]["design"]
    assert design["columns"] == ["hours", "method[T.tutor]", "hours:method[T.tutor]"]
    assert [group["levels"] for group in design["groups"]] == [[["A"], ["B"], ["C"], ["D"]]]


def test_the_program_of_a_formula_can_be_submitted_over_its_data():
    settled = _read({"formula": "y ~ x*group + offset(z) + (1 + x | k)"}).resolved["model"]
    columns = {
        name: [list(row) for row in zip(*values, strict=True)] if is_matrix(name) else values
        for name, values in program_data(settled, COLUMNS).items()
    }
    document = {"kind": "mcmc", "model": as_program(settled), "data": {"inline": columns}}
    spec = read_spec(document, lambda _: None, lambda *_: None)
    assert spec.warnings == []
    assert spec.resolved["data"]["args"].keys() == {"y", "_X", "_offset", "_g0", "_Z0"}


# (model, [(pointer, code), …], part of the message)
WRONG: list[tuple[dict[str, Any], list[tuple[str, str]], str]] = [
    ({"formula": "y ~ x +"}, [("/model/formula", "syntax")], "column 8"),
    ({"formula": "y ~ w"}, [("/model/formula", "unknown_column")], 'column 5: the data has no column "w"'),
    ({"formula": "w ~ v"}, [("/model/formula", "unknown_column")] * 2, "column 1"),
    ({}, [("/model/formula", "missing")], "is required"),
    ({"formula": 3}, [("/model/formula", "wrong_type")], "must be a string"),
    ({"formula": "y ~ x", "family": "gausian"}, [("/model/family", "unknown_value")], 'did you mean "gaussian"'),
    ({"formula": "y ~ x", "link": "logit"}, [("/model/link", "unknown_value")], 'takes the link "identity" or "log"'),
    ({"formula": "y ~ x", "famly": 1}, [("/model/famly", "unknown_argument")], 'did you mean "family"'),
    ({"formula": "y ~ x", "design": {}}, [("/model/design", "mismatch")], "leave it out"),
    ({"formula": "n ~ x", "family": "binomial"}, [("/model/trials", "missing")], "is required for binomial"),
    ({"formula": "n ~ x", "family": "binomial", "trials": "m"}, [("/model/trials", "unknown_column")], 'no column "m"'),
    ({"formula": "n ~ x", "family": "binomial", "trials": "y"}, [("/model/trials", "out_of_range")], "row 1 holds"),
    ({"formula": "n ~ x", "family": "binomial", "trials": 3}, [("/model/formula", "out_of_range")], "row 3 holds 4 of 3 trials"),
    ({"formula": "n ~ x", "family": "poisson", "trials": 3}, [("/model/trials", "conflict")], "leave it out"),
    ({"formula": "y ~ x", "family": "poisson"}, [("/model/formula", "out_of_range")], "must be counts, and row 1 holds 1.5"),
    ({"formula": "n ~ x", "family": "bernoulli"}, [("/model/formula", "out_of_range")], "must be 0 or 1, and row 3 holds 4"),
    ({"formula": "group ~ x", "family": "bernoulli"}, [("/model/formula", "out_of_range")], "has 3 levels"),
    ({"formula": "group ~ x"}, [("/model/formula", "not_numeric")], "holds texts"),
    ({"formula": "y ~ x", "family": "ordinal"}, [("/model/formula", "out_of_range")], "not whole"),
    ({"formula": "one ~ x", "family": "ordinal"}, [("/model/formula", "out_of_range")], "has 1 level,"),
    ({"formula": "group ~ 0 + x", "family": "ordinal"}, [("/model/formula", "conflict")], "thresholds"),
    ({"formula": "group ~ (1 | k)", "family": "categorical"}, [("/model/formula", "unsupported")], "write a program"),
    ({"formula": "k ~ x", "family": "ordinal", "levels": [1, 2]}, [("/model/formula", "out_of_range")], "none of model.levels"),
    ({"formula": "k ~ x", "family": "ordinal", "levels": [1, 2, 1]}, [("/model/levels", "duplicate")], "twice"),
    ({"formula": "y ~ x", "levels": [1, 2]}, [("/model/levels", "conflict")], "leave it out"),
    ({"formula": "y ~ x + y"}, [("/model/formula", "conflict")], "stands on both sides"),
    ({"formula": "y ~ sigma"}, [("/model/formula", "conflict")], "rename the variable"),
    ({"formula": "y ~ C(one)"}, [("/model/formula", "constant")], "single level"),
    ({"formula": "y ~ scale(one)"}, [("/model/formula", "constant")], "all values are the same"),
    ({"formula": "y ~ log(z - 0.5)"}, [("/model/formula", "out_of_range")], "row 1"),
    ({"formula": "y ~ (1 | k) + (1 | k)"}, [("/model/formula", "conflict")], "leave one out"),
    ({"formula": "y ~ x", "priors": {"z": "flat"}}, [("/model/priors/z", "unknown_name")], "no parameter"),
    ({"formula": "y ~ x", "priors": {"x": 3}}, [("/model/priors/x", "wrong_type")], "must be a distribution"),
    ({"formula": "y ~ x", "priors": {"x": {"type": "Normall"}}}, [("/model/priors/x/type", "unknown_type")], '"Normal"'),
    (
        {"formula": "y ~ x", "priors": {"x": {"type": "Poisson", "rate": 1}}},
        [("/model/priors/x/type", "unknown_type")],
        "real number",
    ),
    (
        {"formula": "y ~ x", "priors": {"x": {"type": "Normal", "loc": 0, "scal": 1}}},
        [("/model/priors/x/scal", "unknown_argument")],
        "scale",
    ),
    (
        {"formula": "y ~ x", "priors": {"x": {"type": "Normal", "loc": "y", "scale": 1}}},
        [("/model/priors/x/loc", "unknown_name"), ("/model/priors/x/loc", "wrong_type")],
        "unknown name",
    ),
    (
        {"formula": "y ~ x", "priors": {"sigma": {"type": "Normal", "loc": 0, "scale": 1}}},
        [("/model/priors/sigma/type", "unknown_type")],
        "HalfNormal",
    ),
    ({"formula": "y ~ (1 | k)", "priors": {"sd": "flat"}}, [("/model/priors", "improper")], "cannot be flat"),
    ({"formula": "y ~ (x | k)", "priors": {"cor": {"type": "LKJ"}}}, [("/model/priors/cor", "unknown_value")], "concentration"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "expected", "told"), WRONG, ids=[f"{i}-{row[1][0][1]}" for i, row in enumerate(WRONG)])
def test_what_is_wrong_is_refused_where_it_stands(model: dict[str, Any], expected: list[tuple[str, str]], told: str):
    issues = _faults(model)
    assert [(issue.pointer, issue.code) for issue in issues] == expected, issues
    assert told in issues[0].detail


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"dataset": "ds_table", "args": {"y": "score"}}, [("/model/formula", "unknown_column")]),
        ({"dataset": "ds_table", "args": {"y": "score", "x": "my y"}}, [("/data/args/x", "unknown_column")]),
        ({"dataset": "ds_table", "args": {"y": "score", "x": "gaps"}}, [("/data/args/x", "missing_values")]),
        ({"dataset": "ds_table", "args": {"y": "score", "x": ["my x", "who"]}}, [("/data/args/x", "wrong_shape")]),
        ({"dataset": "ds_table", "args": {"y": "score", "x": "my x", "z": "who"}}, [("/data/args/z", "unknown_argument")]),
        ({"dataset": "ds_table", "args": {"y": "score", "x": "my x"}}, [("/data", "unreadable")]),
        ({"inline": {"y": [1, 2, 3], "x": [1, 2]}}, [("/data", "mismatch")]),
        ({"inline": {"y": [1, 2, 3], "x": [1, "a", 3]}}, [("/data/inline/x/1", "wrong_type")]),
        ({"inline": {"y": [1, 2], "x": ["a" * 300, "b"]}}, [("/data/inline/x/0", "out_of_range")]),
    ],
    ids=[f"data{i}" for i in range(9)],
)
def test_columns_that_cannot_be_used(data: dict[str, Any], expected: list[tuple[str, str]]):
    assert [(issue.pointer, issue.code) for issue in _faults({"formula": "y ~ x"}, data)] == expected
