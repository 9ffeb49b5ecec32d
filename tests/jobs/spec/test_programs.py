"""Programs as documents: what is taken, and what is refused, where, and with which words."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import jsonschema
import pytest

from jobs.spec.program.expressions import ExpressionFault, parse
from jobs.spec.program.listing import listing
from jobs.spec.program.shapes import follow
from jobs.spec.program.values import Value, integer
from jobs.spec.schema import job_schema
from tests.jobs.spec.documents import faults, read
from tests.jobs.spec.programs import DATA, FLAT, NORMAL, NUMBERS, issues, job, regression, resolved

BODY = "/model/body/5"
SCAN = {"scan": {"s": 0.0}, "over": {"e": "y"}, "next": {"s": "0.5 * s + e"}, "stack": {"path": "s"}}
ODE = {"ode": {"u": 1}, "derivative": {"u": "-sigma * u"}, "times": [1, 2]}


def let(value):
    return {"let": "z", "value": value}


def test_a_program_is_resolved_with_every_field_present():
    found = resolved(regression(), DATA)
    assert found["model"]["data"]["g"] == {"type": "int", "shape": ["N"], "lower": None, "upper": None}
    assert found["model"]["body"][1] == {
        "sample": "beta",
        "distribution": {**NORMAL, "expand": None, "to_event": 0, "mask": None},
        "observed": None,
        "shape": ["K"],
        "constraint": None,
    }
    assert found["data"]["args"] == {"x": "x", "y": "y", "g": "g"}
    assert read(found).resolved == found


def test_the_order_of_fields_means_nothing():
    body = [*regression(), SCAN, ODE]
    backwards = [dict(reversed(statement.items())) for statement in body]
    assert resolved(backwards, DATA) == resolved(body, DATA)


def test_it_needs_a_worker_that_has_its_distributions():
    assert {"models/program", "distributions/Normal", "distributions/HalfNormal"} <= set(read(job(regression(), DATA)).needs)


def test_what_a_program_never_speaks_of_is_a_warning():
    warnings = read(job(regression(), DATA)).warnings
    assert [(each["pointer"], each["code"]) for each in warnings] == [("/model/data/g", "unused")]


def test_the_schema_takes_it_and_refuses_another():
    validator = jsonschema.Draft202012Validator(job_schema())
    assert validator.is_valid(job([*regression(), SCAN, ODE], DATA))
    assert validator.is_valid(resolved([*regression(), SCAN, ODE], DATA))
    assert not validator.is_valid(job([*regression(), {"simple": "x"}], DATA))
    assert not validator.is_valid(job([{"sample": "x", "distribution": {"type": "Normal", "lok": 1}}]))


def test_the_page_lists_every_function():
    assert listing() in (Path(__file__).parents[3] / "docs" / "programs.md").read_text("utf-8")


EXAMPLE_DATA = [
    {"K": 2, "T": 6, "y": [1, 2, 3, 2, 1, 2.5]},
    {"K": 2, "y": [1, 2, 3.5]},
    {"N": 3, "x": [1, 2, 3.5], "k": [1, 0, 2]},
]


def test_the_examples_of_the_page_are_programs():
    page = (Path(__file__).parents[3] / "docs" / "programs.md").read_text("utf-8")
    blocks = page.split("\n## Examples\n")[1].split("\n## ")[0].split("```json\n")[1:]
    assert len(blocks) == len(EXAMPLE_DATA)
    for block, numbers in zip(blocks, EXAMPLE_DATA, strict=True):
        text = block.split("```")[0].strip().rstrip(",")
        found = json.loads(f"{{{text}}}" if text.startswith('"') else f'{{"body": [{text}]}}')
        assert faults(job(found["body"], found.get("data"), numbers)) == []


def test_what_is_observed_of_the_data_may_bear_its_name():
    later = {"sample": "y", "distribution": NORMAL | {"loc": "m"}, "observed": "y[1:]"}
    prior = {"sample": "m", "distribution": NORMAL}
    declared = {"N": {"type": "int"}, "y": {"shape": ["N"]}}
    assert faults(job([prior, later, {"factor": "f", "value": "m * y[0]"}], declared, {"N": 3, "y": [1, 2, 3]})) == []
    of_a_value = [prior, {"let": "y2", "value": "y ** 2"}, later | {"sample": "y2"}]
    assert [issue.code for issue in faults(job(of_a_value, declared, {"N": 3, "y": [1, 2, 3]}))] == ["duplicate_name"]


def within(support):
    return {"sample": "z", "distribution": {"type": "ImproperUniform", "support": support}}


# (expression, code, column from 1, part of the message)
WRONG_EXPRESSIONS = [
    ("", "syntax", 1, "is empty"),
    ("alpha +", "syntax", 8, "cannot be read"),
    ("exp(alpha", "syntax", 4, "never closed"),
    ("x^2", "not_allowed", 1, "**"),
    ("x .* y", "syntax", 4, "without a dot"),
    ("x' * y", "syntax", 2, ".T"),
    ("a = 1", "syntax", 3, "let statement"),
    ("y # noise", "syntax", 3, "comments"),
    ("jnp.exp(y)", "not_allowed", 1, 'write "exp(…)"'),
    ("y.sum()", "not_allowed", 1, 'write "sum(…)"'),
    ("y.__class__", "not_allowed", 1, "attribute"),
    ("().__class__.__bases__", "not_allowed", 1, "attribute"),
    ("(lambda: 1)()", "not_allowed", 1, "only functions of the language"),
    ("[i for i in y]", "not_allowed", 1, "scan"),
    ("{1: 2}", "not_allowed", 1, "lists"),
    ("'text'", "not_allowed", 1, "text"),
    ("f'{y}'", "not_allowed", 1, "text"),
    ("(z := 1)", "not_allowed", 2, "let statement"),
    ("y in x", "not_allowed", 1, "any"),
    ("1j", "not_allowed", 1, "numbers"),
    ("None", "not_allowed", 1, "numbers"),
    ("...", "not_allowed", 1, "numbers"),
    ("1, 2", "not_allowed", 1, "list"),
    ("[]", "not_allowed", 1, "zeros(0)"),
    ("1e999", "out_of_range", 1, "inf"),
    ("99999999999999999999", "out_of_range", 1, "2^53"),
    ("__import__('os')", "unknown_function", 1, "__import__"),
    ("eval('1')", "unknown_function", 1, "eval"),
    ("lgamm(y)", "unknown_function", 1, "lgamma"),
    ("pow(y, 2)", "unknown_function", 1, "**"),
    ("normal_lpdf(y)", "unknown_function", 1, "log_prob"),
    ("exp(y, 2)", "wrong_arguments", 1, "at most 1"),
    ("where(y > 0, 1)", "wrong_arguments", 1, '"y"'),
    ("sum(y, axes=0)", "wrong_arguments", 13, '"axis"'),
    ("sum(*y)", "not_allowed", 5, "*"),
    ("sum(**y)", "not_allowed", 1, "**"),
    ("diag_pre_multiply(y, x)", "unknown_function", 1, "v[:, None] * x"),
    ("normal_lccdf(y)", "unknown_function", 1, '"cdf"'),
    ("exp(x)' * y", "syntax", 7, ".T"),
    ("einsum(y, x)", "wrong_arguments", 8, "pattern"),
    ("convolve(y, y, 'big')", "wrong_arguments", 16, '"same"'),
    ("π * y", "syntax", 1, "ASCII"),
    ("y\x00", "syntax", 2, "ASCII"),
    ("(" * 200 + "y" + ")" * 200, "too_deep", 61, "60"),
    ("-" * 100 + "1", "too_deep", 62, "60"),
    ("+".join(["y"] * 1500), "too_long", 1, "parts"),
    ("1" * 10_001, "too_long", 10_001, "characters"),
    ("-" * 9_000 + "1", "too_deep", 1, "60"),
]


@pytest.mark.parametrize(("text", "code", "column", "advice"), WRONG_EXPRESSIONS, ids=[each[0][:30] for each in WRONG_EXPRESSIONS])
def test_an_expression_is_refused_at_its_column(text, code, column, advice):
    with pytest.raises(ExpressionFault) as caught:
        parse(text)
    assert caught.value.code == code
    assert advice in caught.value.detail
    if code not in ("too_long", "too_deep") or column > 1:
        # Where a text has no tree, versions of Python differ by a column about where it broke off.
        assert abs(caught.value.column + 1 - column) <= (1 if code == "syntax" else 0), caught.value.detail


def test_a_long_sum_is_no_deep_tree():
    assert isinstance(parse("+".join(["y"] * 900)), ast.BinOp)


def test_arrays_in_arrays_are_followed_once_each():
    deep = "y"
    for _ in range(25):
        deep = f"concatenate([{deep}, stack([1.0])])"
    assert follow(parse(deep), SCOPE).shape == (30,)


def test_columns_count_what_stands_before_and_between():
    with pytest.raises(ExpressionFault) as caught:
        parse("1 +\n lgamm(y)")
    assert caught.value.detail.startswith("column 6: ")


# (statement behind a regression, pointer behind it, code, part of the message)
WRONG_STATEMENTS = [
    (let("alpha + beto"), "/value", "unknown_name", 'column 9: unknown name "beto"'),
    (let("tau"), "/value", "unknown_name", "defined neither above"),
    (let("alpha[0]"), "/value", "wrong_shape", "0 axes"),
    (let("y + x"), "/value", "wrong_shape", "3 and 2 differ"),
    (let("inv(sigma)"), "/value", "wrong_shape", "1 / x"),
    (let("cholesky(x)"), "/value", "wrong_shape", "(3, 2)"),
    (let("x @ y"), "/value", "wrong_shape", "2 and 3 differ"),
    (let("y @ 2"), "/value", "wrong_shape", "use *"),
    (let("y[3]"), "/value", "out_of_range", "subtract 1"),
    (let("beta[g]"), "/value", "out_of_range", "beyond the last element 1"),
    (let("beta[g + 1]"), "/value", "out_of_range", "beyond"),
    (let("y[-4]"), "/value", "out_of_range", "before"),
    (let("beta[y]"), "/value", "wrong_type", "declare the data as int"),
    (let("y[:alpha]"), "/value", "wrong_type", "integers"),
    (let("sum(x, axis=2)"), "/value", "out_of_range", "no axis 2"),
    (let("zeros([100000, 100000])"), "/value", "too_large", "at most"),
    (let("zeros(-1)"), "/value", "out_of_range", "negative"),
    (let({"a": 1}), "/value", "wrong_type", "a number, an expression"),
    (let([]), "/value", "out_of_range", "zeros(0)"),
    (let([1, "beto"]), "/value/1", "unknown_name", "beto"),
    (let(1e300), "/value", "out_of_range", "finite"),
    ({"let": "alpha", "value": 1}, "/let", "duplicate_name", "/model/body/0/sample"),
    ({"let": "y", "value": 1, "at": 2}, "/at", "conflict", "leave it out"),
    ({"let": "lambda", "value": 1}, "/let", "reserved", "lambda_"),
    ({"let": "1a", "value": 1}, "/let", "wrong_format", "letters"),
    ({"let": 3, "value": 1}, "/let", "wrong_type", "name"),
    ({"let": "z"}, "", "missing", "one of value"),
    ({"let": "z", "value": 1, "log_prob": NORMAL, "at": 1}, "", "conflict", "one of value"),
    ({"let": "z", "log_prob": NORMAL}, "/at", "missing", "log_prob"),
    ({"deterministic": "alpha", "value": 1}, "/deterministic", "duplicate_site", "two sites"),
    ({"factor": "y", "value": 1}, "/factor", "duplicate_site", "two sites"),
    ({"sample": "alpha", "distribution": NORMAL}, "/sample", "duplicate_site", "/model/body/0/sample"),
    ({"sample": "mu", "distribution": NORMAL}, "/sample", "duplicate_name", "/model/body/3/let"),
    ({"sample": "z"}, "/distribution", "missing", "is required"),
    ({"sample": "z", "distribution": "Normal"}, "/distribution", "wrong_type", "must be a distribution"),
    ({"sample": "z", "distribution": {"loc": 0}}, "/distribution/type", "missing", "is required"),
    ({"sample": "z", "distribution": {"type": "Norml"}}, "/distribution/type", "unknown_type", '"Normal"'),
    ({"sample": "z", "distribution": {"type": "EulerMaruyama"}}, "/distribution/type", "unknown_type", "function"),
    ({"sample": "z", "distribution": NORMAL | {"sd": 1}}, "/distribution/sd", "unknown_argument", "scale"),
    ({"sample": "z", "distribution": NORMAL | {"scale": -1}}, "/distribution/scale", "out_of_range", "more than 0"),
    ({"sample": "z", "distribution": NORMAL | {"scale": "sigme"}}, "/distribution/scale", "unknown_name", "sigma"),
    ({"sample": "z", "distribution": NORMAL | {"loc": "y", "scale": "beta"}}, "/distribution", "wrong_shape", "differ"),
    ({"sample": "z", "distribution": {"type": "Gamma", "rate": 1}}, "/distribution/concentration", "missing", "Gamma"),
    ({"sample": "z", "distribution": {"type": "Bernoulli"}, "observed": "g"}, "/distribution", "missing", "probs, logits"),
    (
        {"sample": "z", "distribution": {"type": "Bernoulli", "probs": 0.5, "logits": 0}, "observed": "g"},
        "/distribution",
        "conflict",
        "only one",
    ),
    ({"sample": "z", "distribution": {"type": "Poisson", "rate": 1}}, "/distribution", "discrete_latent", "NUTS"),
    ({"sample": "z", "distribution": FLAT}, "/sample", "improper_posterior", "no finite mass"),
    (within("simplex"), "/distribution/support", "wrong_shape", '"shape": ["K"]'),
    (within("corr_cholesky") | {"shape": ["K"]}, "/distribution/support", "wrong_shape", '"shape": ["K", "K"]'),
    ({"sample": "z", "distribution": NORMAL, "constraint": "ordered_vector"}, "/constraint", "wrong_shape", "1 axis"),
    (within("posit"), "/distribution/support/type", "unknown_type", "positive"),
    (within("interval"), "/distribution/support/lower_bound", "missing", "interval"),
    ({"sample": "z", "distribution": NORMAL, "constraint": "dependent"}, "/constraint/type", "unknown_type", "cannot be used"),
    ({"sample": "z", "distribution": NORMAL, "constraint": "positive", "observed": "y"}, "/constraint", "conflict", "truncate"),
    ({"sample": "z", "distribution": NORMAL, "shape": "K"}, "/shape", "wrong_type", "array"),
    ({"sample": "z", "distribution": NORMAL, "shape": ["alpha"]}, "/shape/0", "wrong_type", "one integer"),
    ({"sample": "z", "distribution": NORMAL | {"loc": "y"}, "shape": ["K"]}, "/shape", "wrong_shape", "differ"),
    ({"sample": "z", "distribution": NORMAL | {"loc": "beta"}, "observed": "y"}, "/observed", "wrong_shape", "observed"),
    ({"sample": "z", "distribution": NORMAL | {"loc": "y"}, "observed": "y[:, None]"}, "/observed", "wrong_shape", "same axes"),
    ({"sample": "z", "distribution": NORMAL, "observd": "y"}, "/observd", "unknown_field", "observed"),
    ({"plate": "p", "size": "sigma", "body": []}, "/size", "wrong_type", "one integer"),
    ({"plate": "p", "size": 2, "dim": 1, "body": []}, "/dim", "out_of_range", "-8 to -1"),
    ({"plate": "p", "size": 2, "body": [{"sample": "z", "distribution": NORMAL | {"x": 1}}]}, "/body/0/distribution/x",
     "unknown_argument", ""),
    ({"plate": "p", "size": 4, "index": "i", "body": [let("y[i]")]}, "/body/0/value", "out_of_range", "beyond"),
    (SCAN | {"next": {}}, "/next/s", "missing", "scan has it"),
    (SCAN | {"next": {"s": 1, "t": 1}}, "/next/t", "unknown_name", "not among"),
    (SCAN | {"over": {}}, "/length", "missing", "how many steps"),
    (SCAN | {"length": 4}, "/over", "wrong_shape", "differ"),
    (SCAN | {"body": [{"sample": "z", "distribution": NORMAL}]}, "/body/0/sample", "not_allowed", "only let"),
    (SCAN | {"next": {"s": "s + path"}}, "/next/s", "unknown_name", "path"),
    (SCAN | {"scan": {"alpha": 0}}, "/scan/alpha", "duplicate_name", "/model/body/0"),
    (ODE | {"times": "x"}, "/times", "wrong_shape", "list of times"),
    (ODE | {"solver": "euler"}, "/solver", "unknown_value", "rk4"),
    (ODE | {"rtol": 2}, "/rtol", "out_of_range", "between 0 and 1"),
    (ODE | {"derivative": {"u": "-v"}}, "/derivative/u", "unknown_name", '"v"'),
    ({"simple": "z"}, "", "missing", "sample, let"),
    ({"let": "z", "sample": "z"}, "", "conflict", "one of the fields"),
    ("z ~ normal(0, 1)", "", "wrong_type", "object"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("statement", "where", "code", "advice"),
    WRONG_STATEMENTS,
    ids=[f"{code}{where}-{at}" for at, (_, where, code, _) in enumerate(WRONG_STATEMENTS)],
)
def test_a_statement_is_refused_where_it_is_wrong(statement, where, code, advice):
    found = issues(statement)
    assert any(issue.pointer == BODY + where and issue.code == code and advice in issue.detail for issue in found), found


# (declarations, numbers, pointer, code, part of the message)
WRONG_DATA = [
    (DATA, {"x": [[1, 2]], "y": [1]}, "/data/args", "unbound", '"g"'),
    (DATA, NUMBERS | {"y": [1, 2]}, "/data/args/y", "wrong_shape", '"N", which is 3'),
    (DATA, NUMBERS | {"y": [[1], [2], [3]]}, "/data/args/y", "wrong_shape", "2 axes"),
    (DATA, NUMBERS | {"x": [1, 2, 3]}, "/data/args/x", "wrong_shape", "several columns"),
    (DATA, NUMBERS | {"y": 3}, "/data/args/y", "wrong_shape", "0 axes"),
    (DATA, NUMBERS | {"g": [0.5, 1, 2]}, "/data/args/g", "wrong_type", "real numbers"),
    (DATA | {"N": {"type": "int"}}, NUMBERS | {"N": 4}, "/data/args/x", "wrong_shape", "which is 4"),
    (DATA | {"y": {"shape": ["N"], "lower": 2}}, NUMBERS, "/data/args/y", "out_of_range", "below 2"),
    (DATA | {"y": {"shape": ["N"], "upper": 2}}, NUMBERS, "/data/args/y", "out_of_range", "above 2"),
    (DATA | {"g": {"type": "int", "shape": ["N"], "upper": "K - 1"}}, NUMBERS, "/data/args/g", "out_of_range", "above 1"),
    (DATA | {"g": {"type": "int", "shape": ["N"], "lower": "M"}}, NUMBERS, "/model/data/g/lower", "unknown_size", '"M"'),
    (DATA | {"y": {"shape": ["N"], "lower": True}}, NUMBERS, "/model/data/y/lower", "wrong_type", "integers of the data"),
    (DATA | {"y": {"shape": ["N - 1"]}}, NUMBERS, "/data/args/y", "wrong_shape", "which is 2"),
    (DATA | {"y": {"shape": [4]}}, NUMBERS, "/data/args/y", "wrong_shape", "declares 4"),
    (DATA | {"y": {"shapes": ["N"]}}, NUMBERS, "/model/data/y/shapes", "unknown_field", "shape"),
    (DATA | {"y": {"type": "float"}}, NUMBERS, "/model/data/y/type", "unknown_value", "real"),
    (DATA | {"y": {"shape": ["N -"]}}, NUMBERS, "/model/data/y/shape/0", "syntax", "column"),
    (DATA | {"y": ["N"]}, NUMBERS, "/model/data/y", "wrong_type", "object"),
    (["y"], NUMBERS, "/model/data", "wrong_type", "object"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "numbers", "pointer", "code", "advice"), WRONG_DATA, ids=[f"{each[3]}-{at}" for at, each in enumerate(WRONG_DATA)]
)
def test_data_that_is_not_what_a_program_declares(data, numbers, pointer, code, advice):
    found = issues(data=data, numbers=numbers)
    assert any(issue.pointer == pointer and issue.code == code and advice in issue.detail for issue in found), found


def test_data_binds_by_name_or_as_it_is_told():
    document = job(regression(), DATA, {"a": [1, 2], "b": [3, 4], "y": [1.0, 2.0], "g": [0, 0], "more": [1, 2, 3]})
    document["data"]["args"] = {"x": ["a", "b"]}
    assert read(document).resolved["data"]["args"] == {"x": ["a", "b"], "y": "y", "g": "g"}
    document["data"]["args"] = {"x": ["a", "b"], "z": "y"}
    assert [(issue.pointer, issue.code) for issue in faults(document)] == [("/data/args/z", "unknown_argument")]


def test_without_declarations_every_other_name_is_a_column():
    body = [{"sample": "s", "distribution": NORMAL}, {"factor": "f", "value": "-s * sum(y) * z"}]
    assert resolved(body, None, {"y": [1, 2], "z": 3, "more": [1]})["data"]["args"] == {"y": "y", "z": "z"}
    found = faults(job(body, None, {"y": [1, 2], "zz": 3}))
    assert [(issue.pointer, issue.code) for issue in found] == [("/model/body/1/value", "unknown_name")]
    assert "column 15" in found[0].detail
    assert '"zz"' in found[0].detail


def test_all_faults_are_told_at_once():
    found = issues(let("beto"), {"let": "w", "value": "y +"}, {"sample": "alpha", "distribution": {"type": "Norml"}}, data=DATA)
    assert sorted(issue.code for issue in found) == ["duplicate_site", "syntax", "unknown_name", "unknown_type"]


def test_a_flat_prior_must_reach_the_data_however_far():
    flat = {"sample": "m", "distribution": FLAT}
    alone = [flat, {"sample": "t", "distribution": NORMAL | {"loc": "m"}}, {"deterministic": "u", "value": "t + m"}]
    assert [(issue.pointer, issue.code) for issue in issues(*alone)] == [(f"{BODY}/sample", "improper_posterior")]
    through = {"plate": "p", "size": "N", "body": [{"sample": "w", "distribution": NORMAL | {"loc": "v"}, "observed": "y"}]}
    assert issues(*alone, {"let": "v", "value": "u ** 2"}, through) == []
    scanned = {"scan": {"s": "m"}, "over": {"e": "y"}, "next": {"s": "s + e"}, "stack": {}}
    assert issues(flat, scanned, {"factor": "f", "value": "-(s ** 2)"}) == []


def test_nothing_to_sample_is_told():
    found = faults(job([{"let": "z", "value": "sum(y)"}]))
    assert [(issue.pointer, issue.code) for issue in found] == [("/model/body", "no_parameters")]


def test_a_discrete_site_may_stand_under_a_plate_and_is_found_there():
    inner = {"plate": "p", "size": 3, "body": [{"sample": "z", "distribution": {"type": "Bernoulli", "probs": 0.5}}]}
    assert [issue.code for issue in issues(inner)] == ["discrete_latent"]


SCOPE = {
    "N": integer(5),
    "K": integer(2),
    "y": Value((5,), "real"),
    "x": Value((5, 2), "real"),
    "g": Value((5,), "int", None, 0, 3),
}


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("y[1:]", (4,)), ("y[K:N - 1]", (2,)), ("y[::-2]", (3,)), ("x[:, 0]", (5,)), ("x[0]", (2,)), ("x[..., None]", (5, 2, 1)),
        ("y[:, None] - y[None, :]", (5, 5)), ("y[g]", (5,)), ("x[g, 0]", (5,)), ("x.T @ y", (2,)), ("x.T", (2, 5)),
        ("x @ x.T", (5, 5)),
        ("sum(x, axis=1)", (5,)), ("sum(x)", ()), ("mean(x, axis=(0, 1))", ()), ("max(x, axis=-1, keepdims=True)", (5, 1)),
        ("[y, 2 * y]", (2, 5)), ("concatenate([[1.0], y])", (6,)), ("concatenate([y, y[1:], [0.5, 1]])", (11,)),
        ("column_stack([y, x])", None), ("concatenate([x, x[:2]])", (7, 2)), ("stack([y, y])", (2, 5)), ("zeros([N, K])", (5, 2)),
        ("arange(K, N)", (3,)), ("arange(K, N)[:, None] - 1 - arange(K)[None, :]", (3, 2)),
        ("y[arange(K, N)[:, None] - arange(K)]", (3, 2)),
        ("where(y > 0, y, 0)", (5,)), ("y if K > 1 else 0", (5,)), ("exp(x) * y[:, None]", (5, 2)), ("y.shape[0] + x.shape[1]", ()),
        ("cholesky(x @ x.T)", (5, 5)), ("0 < y < 1", (5,)), ("not (y > 0)", (5,)), ("ones([K, K]) * K ** 2", (2, 2)),
        ("linspace(0, 1, 3)", None), ("y[g == 1]", None), ("len(y) + size(x, 0)", ()), ("size(x)", ()),
    ],
    ids=str,
)  # fmt: skip
def test_shapes_are_followed_without_numpy(text, shape):
    assert follow(parse(text), SCOPE).shape == shape
