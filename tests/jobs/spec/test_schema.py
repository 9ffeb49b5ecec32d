"""The JSON Schema of a job agrees with the reader, as far as a schema can."""

from __future__ import annotations

import json

import jsonschema
import pytest

from jobs.spec.schema import job_schema
from tests.jobs.spec.documents import GONE, edited, formula, language, network, read, regression, schools, table, text

VALIDATOR = jsonschema.Draft202012Validator(job_schema())


def test_it_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(job_schema())
    assert job_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("document", [language, schools, formula, text, table, network, regression])
def test_it_takes_what_the_reader_takes(document):
    assert VALIDATOR.is_valid(document())
    assert VALIDATOR.is_valid(read(document()).resolved)


@pytest.mark.parametrize(
    ("document", "changes"),
    [
        (text, {"/kind": "svi"}),
        (text, {"/kind": GONE}),
        (text, {"/steps": GONE}),
        (text, {"/steps": 0}),
        (text, {"/steps": "100"}),
        (text, {"/stepz": 1}),
        (text, {"/model/type": "mlpp"}),
        (text, {"/model/type": "eight_schools"}),
        (text, {"/model/dim": GONE}),
        (text, {"/model/dropout": 1}),
        (text, {"/optimizer/type": "adm"}),
        (text, {"/optimizer/learning_rate": "x"}),
        (text, {"/optimizer/learning_rate": {"type": "cosine"}}),
        (text, {"/optimizer": {"type": "chain", "transforms": []}}),
        (text, {"/optimizer": {"type": "chain", "transforms": [{"type": "adm"}]}}),
        (text, {"/data": {}}),
        (text, {"/data/builtin": "spirals"}),
        (text, {"/data/uri": "s3://b/k"}),
        (text, {"/mesh": {"axes": {"data": 0}}}),
        (text, {"/mesh": {"sharding": "ddp"}}),
        (table, {"/loss/type": "absolute"}),
        (network, {"/model/layers/2/type": "rellu"}),
        (network, {"/model/layers/0/kernel_size": "3"}),
        (network, {"/model/layers": []}),
        (network, {"/model/layers/2": {"type": "RNN", "cell": {"type": "Linear", "in_features": 1, "out_features": 1}}}),
        (schools, {"/kernel/type": "ESS"}),
        (schools, {"/model/type": "transformer"}),
        (schools, {"/data/inline/y": "28"}),
        (schools, {"/data/batch_size": 3}),
        (schools, {"/thinning": 0}),
    ],
)
def test_it_refuses_what_a_schema_can_see(document, changes):
    assert not VALIDATOR.is_valid(edited(document(), changes))


def test_definitions_can_stand_elsewhere():
    schema = job_schema("#/components/schemas/")
    assert '"#/$defs/' not in json.dumps(schema)
    assert schema["oneOf"][0]["properties"]["optimizer"]["$ref"] == "#/components/schemas/optimizer"
    whole = {"components": {"schemas": schema.pop("$defs")}} | schema
    assert jsonschema.Draft202012Validator(whole).is_valid(text())


def test_every_field_is_described():
    for kind in job_schema()["oneOf"]:
        for name, schema in kind["properties"].items():
            assert "$ref" in schema or schema["description"], name
