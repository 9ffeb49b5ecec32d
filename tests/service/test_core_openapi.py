"""/openapi.json: what it promises is there, and what is there it tells."""

from __future__ import annotations

import re
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource

from tests.service.core_driver import Api, sampling, training

METHODS = {"get", "head", "put", "post", "delete", "patch"}
ABSENT = ("/v1/sweeps",)


@pytest.fixture
def document(api: Api) -> dict[str, Any]:
    return api.get("/openapi.json").json()


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, one) for path, methods in document["paths"].items() for method, one in methods.items() if method in METHODS
    ]


def conforms(document: dict[str, Any], name: str, value: Any) -> None:
    """Check a value against a schema of the document."""
    registry = Registry().with_resource("urn:openapi", Resource.from_contents({"$schema": DIALECT, **document}))
    jsonschema.Draft202012Validator({"$ref": f"urn:openapi#/components/schemas/{name}"}, registry=registry).validate(value)


DIALECT = "https://json-schema.org/draft/2020-12/schema"


def test_every_operation_has_a_name_of_its_own(document):
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z_]+", name) for name in names)


def test_every_operation_is_described(document):
    assert [path for path, _, operation in operations(document) if not operation.get("description")] == []


def test_every_reference_leads_somewhere(document):
    found = set(re.findall(r'"\$ref": ?"#/components/schemas/([^"]+)"', str(document).replace("'", '"')))
    assert found - set(document["components"]["schemas"]) == set()


def test_refusals_are_problems_and_told_where_they_can_come(document):
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for path, method, operation in operations(document):
        refusals = {status: reply for status, reply in operation["responses"].items() if int(status) >= 400}
        assert all(reply["content"] == problem for reply in refusals.values()), (path, method)
        assert {"403", "503"} <= set(refusals)
        assert ("404" in refusals) == ("{" in path)
        assert "requestBody" not in operation or {"413", "415", "422"} <= set(refusals)


def test_the_key_is_asked_for_where_there_is_one(start):
    with start(api_key="secret") as api:
        document = api.get("/openapi.json").json()
    assert document["components"]["securitySchemes"] == {"key": {"type": "http", "scheme": "bearer"}}
    for path, _, operation in operations(document):
        is_open = path in ("/healthz", "/readyz")
        assert operation.get("security") == (None if is_open else [{"key": []}])
        assert ("401" in operation["responses"]) != is_open


def test_what_is_not_built_yet_is_absent(document):
    assert [path for path in document["paths"] if path.endswith(ABSENT) or path == "/"] == []


def test_the_schema_of_a_job_is_the_specs_own(document, api: Api):
    body = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/JobSpec"}
    for spec in (sampling(), training()):
        conforms(document, "JobSpec", spec)
    with pytest.raises(jsonschema.ValidationError):
        conforms(document, "JobSpec", sampling(num_samples=-1))
    with pytest.raises(jsonschema.ValidationError):
        conforms(document, "JobSpec", sampling(shell="rm"))


def test_what_is_answered_is_what_is_promised(document, api: Api):
    job = api.submit()
    worker = api.worker()
    conforms(document, "Job", job)
    conforms(document, "JobList", api.get("/v1/jobs").json())
    attempt = worker.claim()
    conforms(document, "Assignment", attempt.given)
    conforms(document, "Beat", attempt.beat(1).json())
    conforms(document, "Worker", api.get(f"/v1/workers/{worker.id}").json())
    conforms(document, "Finished", attempt.fail("nan_loss").json())
    conforms(document, "Job", api.job(job["id"]))
    conforms(document, "EventList", api.get(f"/v1/jobs/{job['id']}/events").json())
    conforms(document, "AttemptList", api.get(f"/v1/jobs/{job['id']}/attempts").json())
    conforms(document, "Validation", api.post("/v1/jobs:validate", json=sampling()).json())
    conforms(document, "Problem", api.post(f"/v1/jobs/{job['id']}/pause").json())


def test_ids_are_led_to_where_they_are_asked_for(document):
    names = {operation["operationId"] for _, _, operation in operations(document)}
    links = document["paths"]["/v1/jobs"]["post"]["responses"]["201"]["links"]
    assert links["job_cancel_job"] == {"operationId": "cancel_job", "parameters": {"job_id": "$response.body#/id"}}
    assert {link["operationId"] for link in links.values()} < names
