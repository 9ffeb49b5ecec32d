"""Meshes: open axes, presets, and what lies where."""

from __future__ import annotations

import pytest

from jobs.spec.mesh import divisor, resolve_axes
from jobs.spec.models import logical_sizes
from jobs.spec.sharding import rules
from tests.jobs.spec.documents import edited, read, schools, table, text


@pytest.mark.parametrize(
    ("axes", "devices", "batch", "expected"),
    [
        ({"data": -1}, 8, 32, {"data": 8}),
        ({"data": -1}, 8, 12, {"data": 6}),
        ({"data": -1}, 8, 7, {"data": 7}),
        ({"data": -1}, 8, 11, {"data": 1}),
        ({"data": -1}, 8, 1, {"data": 1}),
        ({"data": -1, "model": 2}, 8, 32, {"data": 4, "model": 2}),
        ({"data": -1, "model": 3}, 8, 32, {"data": 2, "model": 3}),
        ({"data": -1, "model": 16}, 8, 32, None),
        ({"data": 4, "model": 2}, 8, 32, {"data": 4, "model": 2}),
        ({"data": 4, "model": 2}, 16, 32, {"data": 4, "model": 2}),
        ({"data": 4, "model": 2}, 7, 32, None),
        ({"chains": -1}, 8, 4, {"chains": 4}),
        ({"data": -1}, 8, 0, {"data": 8}),
        ({"data": -1}, 1_000_000, 2**24, {"data": 2**19}),
    ],
)
def test_an_open_axis_takes_what_there_is_and_divides(axes, devices, batch, expected):
    assert resolve_axes(axes, devices, batch) == expected


@pytest.mark.parametrize(
    ("preset", "overrides", "axes", "expected"),
    [
        ("replicated", {}, {"data": 2}, {}),
        ("dp", {}, {"data": 2}, {"batch": "data"}),
        ("fsdp", {}, {"data": 2}, {"batch": "data", "embed": "data"}),
        ("tp", {}, {"model": 2}, dict.fromkeys(("heads", "kv_heads", "mlp", "vocab"), "model")),
        (
            "tp",
            {},
            {"data": 2, "model": 2},
            {"batch": "data", "heads": "model", "kv_heads": "model", "mlp": "model", "vocab": "model"},
        ),
        (
            "fsdp_tp",
            {},
            {"data": 2, "model": 2},
            {"batch": "data", "embed": "data", "heads": "model", "kv_heads": "model", "mlp": "model", "vocab": "model"},
        ),
        (
            "fsdp_tp",
            {"vocab": None, "mlp": "data"},
            {"data": 2, "model": 2},
            {"batch": "data", "embed": "data", "heads": "model", "kv_heads": "model", "mlp": "data"},
        ),
    ],
)
def test_presets_and_overrides(preset, overrides, axes, expected):
    placed = rules(preset, overrides, axes)
    assert {logical: axis for logical, axis in placed.items() if axis is not None} == expected
    assert set(placed) == {"batch", "embed", "heads", "kv_heads", "mlp", "vocab"}


@pytest.mark.parametrize(
    ("document", "mesh", "expected"),
    [
        (text, {"axes": {"data": -1}}, 32),
        (text, {"axes": {"data": -1}, "sharding": "replicated"}, 0),
        (edited(text(), {"/model/dim": 48}), {"axes": {"data": -1}, "sharding": "fsdp"}, 16),
        (text, {"axes": {"model": -1}, "sharding": "tp"}, 4),
        (edited(text(), {"/grad_accumulation": 4}), {"axes": {"data": -1}}, 8),
        (text, {"axes": {"data": 2}}, 0),
        (schools, {"axes": {"chains": -1}}, 4),
    ],
)
def test_what_an_open_axis_must_divide(document, mesh, expected):
    base = document() if callable(document) else document
    assert divisor(read(edited(base, {"/mesh": mesh})).resolved) == expected


def test_an_open_axis_of_many_devices_always_fits_the_model():
    document = edited(text(), {"/mesh": {"axes": {"data": -1}, "sharding": "fsdp"}, "/model/dim": 48, "/data/batch_size": 60})
    resolved = read(document).resolved
    axes = resolve_axes(resolved["mesh"]["axes"], 8, divisor(resolved))
    assert axes == {"data": 6}
    assert read(edited(document, {"/mesh/axes": axes})).devices == 6


def test_sizes_point_to_where_they_are_set():
    model = read(edited(table(), {"/model/hidden": [64, 32, 16]})).resolved["model"]
    assert logical_sizes(model) == [
        ("embed", 2, "/model/in_features"),
        ("mlp", 64, "/model/hidden/0"),
        ("embed", 32, "/model/hidden/1"),
        ("mlp", 16, "/model/hidden/2"),
    ]
