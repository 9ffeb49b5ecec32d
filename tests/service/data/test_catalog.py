from __future__ import annotations

import pytest

from jobs.spec.catalog import load
from jobs.spec.schema import job_schema

SECTIONS = {
    "models",
    "layers",
    "losses",
    "optimizers",
    "schedules",
    "kernels",
    "inits",
    "guides",
    "reparams",
    "distributions",
    "datasets",
}


def test_sections_are_listed_with_their_sizes(world):
    listed = world.get("/v1/catalog").json()
    assert {one["section"] for one in listed["data"]} == SECTIONS
    assert listed["digest"] == load().digest
    for one in listed["data"]:
        assert one["count"] == len(load().sections[one["section"]])


@pytest.mark.parametrize("section", sorted(SECTIONS))
def test_every_entry_has_a_schema_and_a_line(world, section):
    listed = world.get(f"/v1/catalog/{section}").json()
    assert (listed["object"], listed["has_more"]) == ("list", False)
    known = load().sections[section]
    assert [one["type"] for one in listed["data"]] == sorted(known)
    for one in listed["data"]:
        assert one["doc"]
        assert set(one["schema"]["properties"]) == set(known[one["type"]]["schema"]["properties"])


def references(schema):
    if isinstance(schema, dict):
        yield from [schema["$ref"]] if "$ref" in schema else []
        for part in schema.values():
            yield from references(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from references(part)


@pytest.mark.parametrize("section", ["optimizers", "schedules"])
def test_every_reference_of_an_entry_leads_somewhere(world, section):
    found = {one for entry in world.get(f"/v1/catalog/{section}").json()["data"] for one in references(entry["schema"])}
    assert found
    for reference in found:
        document, _, pointer = reference.partition("#/")
        place = world.get(document).json()
        for name in pointer.split("/"):
            place = place[name]
        assert place


def test_a_section_can_be_read_in_pages(world):
    found, after = [], ""
    while True:
        page = world.get(f"/v1/catalog/optimizers?limit=7{after}").json()
        found += [one["type"] for one in page["data"]]
        if not page["has_more"]:
            break
        after = f"&after={page['next']}"
    assert found == sorted(load().sections["optimizers"])


@pytest.mark.parametrize("section", ["nothing", "%00", "optimizers%2fadam"])
def test_an_unknown_section_is_not_found(world, section):
    assert world.get(f"/v1/catalog/{section}").status_code == 404


def test_the_schema_of_a_job(world):
    assert world.get("/v1/schemas/job").json() == job_schema()
