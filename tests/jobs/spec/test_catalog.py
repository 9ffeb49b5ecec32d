"""The catalog: what is listed, that it is what the libraries have, and how values are fitted to it."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from importlib import resources

import jsonschema
import pytest

from jobs.programs.catalog.document import build, render
from jobs.spec.catalog import REFERENCES, load, named
from jobs.spec.schema import arguments_schema, job_schema

ENTRIES = [(section, name) for section, entries in load().sections.items() for name in entries]
LIBRARY = [(section, name) for section, name in ENTRIES if load().entry(section, name)["source"] != "meshyard"]


def test_the_committed_file_is_what_the_installed_libraries_give():
    assert render(build()) == (resources.files("jobs.spec") / "catalog.json").read_text("utf-8")


def test_sections_are_those_of_the_api():
    assert list(load().sections) == [
        "models",
        "layers",
        "losses",
        "optimizers",
        "schedules",
        "kernels",
        "distributions",
        "datasets",
        "guides",
        "inits",
        "reparams",
    ]


@pytest.mark.parametrize(
    ("section", "least", "some"),
    [
        ("models", 5, {"transformer", "mlp", "cnn", "eight_schools", "linear_regression"}),
        ("layers", 15, {"Linear", "Embed", "Conv", "RMSNorm", "MultiHeadAttention"}),
        ("losses", 15, {"next_token", "squared_error", "softmax_cross_entropy_with_integer_labels"}),
        (
            "optimizers",
            110,
            {
                "adamw",
                "sgd",
                "lion",
                "muon",
                "chain",
                "masked",
                "partition",
                "sophia",
                "scale_by_adam",
                "clip_by_global_norm",
                "MultiSteps",
            },
        ),
        ("schedules", 14, {"warmup_cosine_decay_schedule", "cosine_decay_schedule", "join_schedules"}),
        (
            "kernels",
            10,
            {"NUTS", "HMC", "BarkerMH", "SA", "ESS", "AIES", "HMCECS", "MixedHMC", "DiscreteHMCGibbs"},
        ),
        ("guides", 11, {"AutoNormal", "AutoDelta", "AutoLaplaceApproximation", "AutoBNAFNormal", "AutoIAFNormal"}),
        ("inits", 6, {"init_to_uniform", "init_to_median", "init_to_value"}),
        ("reparams", 6, {"LocScaleReparam", "TransformReparam"}),
        ("distributions", 70, {"Normal", "HalfCauchy", "Gamma", "StudentT"}),
        ("datasets", 3, {"eight_schools", "line", "spirals"}),
    ],
)
def test_a_section_lists_what_one_would_look_for(section, least, some):
    entries = load().sections[section]
    assert len(entries) >= least
    assert some <= set(entries)


@pytest.mark.parametrize(("section", "name"), ENTRIES)
def test_an_entry_is_whole(section, name):
    entry = load().entry(section, name)
    assert entry["type"] == name
    assert 0 < len(entry["doc"]) <= 120
    jsonschema.Draft202012Validator.check_schema(entry["schema"])
    assert entry["schema"]["additionalProperties"] is False


@pytest.mark.parametrize(("section", "name"), LIBRARY)
def test_an_entry_bears_the_librarys_own_name(section, name):
    module, attribute = load().entry(section, name)["source"].rsplit(".", 1)
    assert attribute == name
    assert callable(getattr(importlib.import_module(module), attribute))


@pytest.mark.parametrize(("section", "name"), ENTRIES)
def test_every_default_fits_its_own_schema(section, name):
    validator = jsonschema.Draft202012Validator
    for argument, schema in load().entry(section, name)["schema"]["properties"].items():
        options = [option for option in schema.get("anyOf", [schema]) if "$ref" not in option]
        if schema.get("$ref") in REFERENCES and "default" in schema:
            assert load().fit(REFERENCES[schema["$ref"]][0], schema["default"], "").value == schema["default"]
        elif isinstance(schema.get("default"), dict) and "type" in schema["default"]:
            assert load().fit("optimizers", schema["default"], "").value == schema["default"]
        elif "default" in schema and options:
            assert any(validator(option).is_valid(schema["default"]) for option in options), argument


def test_what_is_left_out_says_why():
    excluded = load().excluded
    assert excluded["optimizers"]["stateless"] == "needs f, which cannot be written in JSON"
    assert not {name for section, reasons in excluded.items() for name in reasons if name in load().sections[section]}


def test_offers_are_named_by_section():
    offers = load().offers()
    assert {"models/transformer", "optimizers/adamw", "kernels/NUTS"} <= set(offers)
    assert offers == sorted(offers)


def test_the_digest_is_of_the_content_and_not_of_its_layout():
    assert len(load().digest) == 64
    assert load() is load()


def test_the_spec_is_read_without_the_libraries():
    """In a fresh process: nothing of the numerical stack is imported by the whole job language."""
    heavy = ["jax", "numpy", "optax", "flax", "numpyro", "pyarrow"]
    code = f"import sys, jobs.spec.schema as s; s.job_schema(); sys.exit(any(m in sys.modules for m in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_named_walks_inwards_with_pointers():
    schedule = {"type": "constant_schedule", "value": 0.1}
    optimizer = {"type": "chain", "transforms": [{"type": "identity"}, {"type": "sgd", "learning_rate": schedule}]}
    fitted = load().fit("optimizers", optimizer, "/optimizer").value
    assert [(section, value["type"], pointer) for section, value, pointer in named("optimizers", fitted, "/optimizer")] == [
        ("optimizers", "chain", "/optimizer"),
        ("optimizers", "identity", "/optimizer/transforms/0"),
        ("optimizers", "sgd", "/optimizer/transforms/1"),
        ("schedules", "constant_schedule", "/optimizer/transforms/1/learning_rate"),
    ]


def test_a_default_is_never_shared_between_jobs():
    first = load().fit("optimizers", {"type": "prodigy"}, "").value
    first["betas"][0] = 0.0
    assert load().fit("optimizers", {"type": "prodigy"}, "").value["betas"] == [0.9, 0.999]


def test_references_lead_into_the_schema_of_a_job():
    schema = arguments_schema(load().entry("optimizers", "adamw"))
    assert schema["properties"]["learning_rate"]["anyOf"][1] == {"$ref": "/v1/schemas/job#/$defs/schedule"}
    assert "schedule" in job_schema()["$defs"]
    json.dumps(schema)
