"""What the catalog's posteriors ask of their columns, without JAX."""

from __future__ import annotations

import pytest

from tests.jobs.spec.documents import edited, faults, read, schools

X, Y = [0.5, 1.5, 2.5, 3.5], [0, 1, 1, 0]
LONG = {"subject": [0, 0, 3, 1], "item": [0, 1, 0, 1], "y": Y}
GROUPED = {"x": X, "y": X, "group": [0, 1, 1, 2]}


def _of(model: str, inline: dict, **arguments):
    return edited(schools(), {"/model": {"type": model, **arguments}, "/data": {"inline": inline}})


def test_the_number_of_groups_follows_from_the_data():
    assert read(_of("item_response", LONG)).resolved["model"] == {
        "type": "item_response",
        "form": "2pl",
        "subjects": 4,
        "items": 2,
        "prior_scale_difficulty": 3.0,
        "prior_scale_discrimination": 0.5,
    }
    assert read(_of("hierarchical_regression", GROUPED, groups=9)).resolved["model"]["groups"] == 9


# (model, columns, arguments, [(pointer, code), …], part of the message)
WRONG = [
    ("logistic_regression", {"x": X, "y": [0, 1, 2, 1]}, {}, [("/data/args/y", "out_of_range")], "must be 0 or 1"),
    ("logistic_regression", {"x": X, "y": X}, {}, [("/data/args/y", "out_of_range")], "go from 0.5 to 3.5"),
    ("poisson_regression", {"x": X, "y": [1, -2, 0, 1]}, {}, [("/data/args/y", "out_of_range")], "must be counts"),
    ("eight_schools_centered", {"y": X, "sigma": [1, 1, 0, 1]}, {}, [("/data/args/sigma", "out_of_range")], "positive"),
    ("hierarchical_regression", GROUPED | {"group": X}, {}, [("/data/args/group", "out_of_range")], "count from 0"),
    ("hierarchical_regression", GROUPED | {"group": [-1, 0, 1, 1]}, {}, [("/data/args/group", "out_of_range")], "go from -1"),
    ("hierarchical_regression", GROUPED, {"groups": 2}, [("/data/args/group", "out_of_range")], "must be below 2"),
    ("hierarchical_regression", {"x": X, "y": X}, {}, [("/data/args", "unbound")], 'argument "group"'),
    ("item_response", LONG | {"y": [[0], [1], [1], [0]]}, {}, [("/data/args/y", "wrong_shape")], "one plain column"),
    ("item_response", LONG, {"form": "3pl"}, [("/model/form", "unknown_value")], '"2pl" or "1pl"'),
    ("stochastic_volatility", {"y": [0.1, 0.2]}, {}, [("/data/args/y", "too_small")], "at least 3"),
    (
        "gaussian_process_regression",
        {"x": [0.5] * 5001, "y": [0.5] * 5001},
        {},
        [("/data/args/y", "too_large")],
        "at most 5000",
    ),
    (
        "import",
        {"y": X},
        {"code": "code_nets", "target": "nets:Net", "context": 4},
        [("/model/context", "conflict")],
        "leave it out",
    ),
    ("import", {"y": X}, {"code": "code_nets", "target": "nets:modl"}, [("/model/target", "not_found")], "defines no"),
]


@pytest.mark.parametrize(
    ("model", "inline", "arguments", "expected", "told"), WRONG, ids=[f"{i}-{row[0]}" for i, row in enumerate(WRONG)]
)
def test_wrong_columns_are_refused_where_they_are_bound(model, inline, arguments, expected, told):
    issues = faults(_of(model, inline, **arguments))
    assert [(issue.pointer, issue.code) for issue in issues] == expected
    assert told in issues[0].detail
