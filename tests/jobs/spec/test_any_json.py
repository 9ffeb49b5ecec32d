"""Whatever JSON comes, a job is accepted or refused with reasons: nothing else ever happens."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.jobs.spec.documents import edited, faults, formula, language, read, schools, table, text

NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([0, -1, 1, 2**31, 2**53, 2**64, 10**400, 1e308, 5e-324]))
TEXTS = st.one_of(st.text(max_size=20), st.sampled_from(["", "type", "x", "ds_text", "adam", "chain", "\ud800", "a/b~c"]))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
JSON = st.recursive(
    SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)), max_leaves=12
)
BASES = [language(), schools(), formula(), text(), table()]


def pointers(value, at=""):
    """Every place in a document."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in members:
        yield f"{at}/{key}"
        yield from pointers(inner, f"{at}/{key}")


PLACES = [(base, pointer) for base in BASES for pointer in pointers(base)]


def settle(document):
    """Read it. An acceptance is whole: it can be written as JSON, and read again to the same end."""
    found = faults(document)
    assert all(issue.code and issue.detail for issue in found)
    if not found:
        resolved = read(document).resolved
        assert read(json.loads(json.dumps(resolved, allow_nan=False))).resolved == resolved


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_any_document(document):
    settle(document)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["train", "mcmc"]),
    st.dictionaries(st.sampled_from(sorted({key for base in BASES for key in base})), JSON, max_size=8),
)
def test_any_values_of_known_fields(kind, fields):
    settle(fields | {"kind": kind})


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(PLACES), JSON)
def test_any_value_at_any_place_of_a_right_document(place, value):
    base, pointer = place
    settle(edited(base, {pointer: value}))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PLACES), st.sampled_from(PLACES), NUMBERS, NUMBERS)
def test_any_two_numbers_in_a_right_document(first, second, one, other):
    base, pointer = first
    changed = edited(base, {pointer: one})
    if second[0] is base and not second[1].startswith(pointer):
        changed = edited(changed, {second[1]: other})
    settle(changed)
