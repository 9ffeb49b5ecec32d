"""Keys: shown once, hashed, over in time, rotated without a gap, revoked for good."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from service.db.queries import keys as key_rows
from service.db.tables import keys
from service.db.transaction import Read, Write
from service.domain.access import tokens
from service.domain.access.keys import note_used
from tests.service.access_driver import OPERATOR, Bearer, House, bearer, house
from tests.service.core_driver import Api, assert_problem, sampling

ALL = ["jobs:read", "jobs:write", "code:write", "worker", "admin"]


@pytest.fixture
def home(start) -> Iterator[House]:
    with house(start) as found:
        yield found


def set_columns(home: House, key: Bearer, **values: object) -> None:
    """Bring a key's row to where time would bring it."""
    app = home.api.app
    with Write(app.state.context.database) as write:
        key_rows.change(write.connection, key.made["id"], values)
    app.state.keyring.forget(key.made["id"])


def test_a_key_is_told_once_and_kept_as_a_hash(home: House):
    made = home.operator.post("/v1/keys", json={"name": "laptop", "scopes": ["jobs:write"]}).json()
    secret = made.pop("key")
    assert secret.startswith(f"my_{made['prefix']}_")
    assert home.operator.get(f"/v1/keys/{made['id']}").json() == made
    assert home.operator.get("/v1/keys").json()["data"] == [made]
    with Read(home.api.app.state.context.database) as read:
        row = read.connection.execute(select(keys)).one()
    assert not any(secret[-49:] in str(value) for value in row)
    assert row.hash == home.api.app.state.keyring.pepper.hash(tokens.Token(made["prefix"], secret))


def test_a_key_works_in_its_project_with_its_scopes(home: House):
    user = home.bearer("jobs:write", project=home.project("vision"))
    job = user.submit(sampling())
    assert job["project"] == user.made["project"] != "default"
    assert user.get("/v1/jobs").json()["data"] == [job]
    assert home.operator.get("/v1/jobs").json()["data"] == []
    assert home.operator.get(f"/v1/jobs/{job['id']}").status_code == 404
    assert home.operator.get(f"/v1/jobs/{job['id']}", headers={"Meshyard-Project": "vision"}).json() == job
    assert "jobs:read" not in assert_problem(user.post("/v1/keys", json={"scopes": ["jobs:read"]}), 403)["detail"]


def test_no_project_but_ones_own_can_be_named_without_all_projects(home: House):
    beta = home.project("beta")
    user, wide = home.bearer("jobs:read"), home.bearer("jobs:read", all_projects=True)
    assert user.get("/v1/jobs", headers={"Meshyard-Project": "default"}).status_code == 200
    assert_problem(user.get("/v1/jobs", headers={"Meshyard-Project": beta}), 403)
    assert wide.get("/v1/jobs", headers={"Meshyard-Project": beta}).status_code == 200
    assert_problem(wide.get("/v1/jobs", headers={"Meshyard-Project": "gamma"}), 422)
    assert_problem(user.get("/v1/usage", params={"project": beta}), 422)
    # What a project stores is noted in the background, nothing too.
    used = wide.get("/v1/usage", params={"project": beta}).json()["data"]
    assert {(each["project"], each["device_seconds"], each["stored_bytes"]) for each in used} <= {(beta, 0.0, 0)}


def test_a_refusal_names_the_scope_that_is_missing(home: House):
    problem = assert_problem(home.bearer("jobs:read").post("/v1/jobs", content=b"{"), 403)
    assert problem["code"] == "missing_scope"
    assert "jobs:write" in problem["detail"]


def test_a_key_is_over_when_it_says(home: House):
    user = home.bearer("jobs:read", expires_at="2999-01-01T00:00:00Z")
    assert user.get("/v1/jobs").status_code == 200
    set_columns(home, user, expires_at=1)
    assert_problem(user.get("/v1/jobs"), 401)
    assert home.operator.get(f"/v1/keys/{user.made['id']}").json()["status"] == "expired"
    assert_problem(home.operator.post(f"/v1/keys/{user.made['id']}/rotate"), 409)


def test_a_revoked_key_opens_nothing_any_more_not_even_once(home: House):
    user = home.bearer("jobs:read")
    assert user.get("/v1/jobs").status_code == 200
    for _ in range(2):
        assert home.operator.delete(f"/v1/keys/{user.made['id']}").status_code == 204
        reply = user.get("/v1/jobs")
        assert_problem(reply, 401)
        assert reply.headers["www-authenticate"] == "Bearer"
    assert home.operator.get(f"/v1/keys/{user.made['id']}").json()["status"] == "revoked"


def test_rotation_leaves_no_gap_and_no_third_secret(home: House):
    first = home.bearer("worker")
    worker = home.worker(first)
    path = f"/v1/keys/{first.made['id']}/rotate"
    second = Bearer(home.api, home.operator.post(path, json={"overlap_seconds": 3600}).json()["key"])
    assert second.key != first.key
    assert {caller.get(f"/v1/workers/{worker.id}").status_code for caller in (first, second)} == {200}
    third = Bearer(home.api, home.operator.post(path).json()["key"])
    assert [caller.get(f"/v1/workers/{worker.id}").status_code for caller in (first, second, third)] == [401, 200, 200]
    set_columns(home, first, previous_expires_at=1)
    assert [caller.get(f"/v1/workers/{worker.id}").status_code for caller in (second, third)] == [401, 200]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["root"]}, "/scopes/0"),
        ({"scopes": ["jobs:read"], "project": "nowhere"}, "/project"),
        ({"scopes": ["jobs:read"], "expires_at": "2001-01-01T00:00:00Z"}, "/expires_at"),
        ({"scopes": ["jobs:read"], "expires_at": "soon"}, "/expires_at"),
        ({"scopes": ["jobs:read"], "secret": "mine"}, "/secret"),
        ({}, "/scopes"),
    ],
    ids=["no-scope", "unknown-scope", "unknown-project", "past", "no-instant", "unknown-field", "empty"],
)
def test_a_key_that_makes_no_sense_is_refused_where_it_does_not(home: House, body, pointer: str):
    problem = assert_problem(home.operator.post("/v1/keys", json=body), 422)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


def test_an_administrator_of_one_project_stays_in_it(home: House):
    beta = home.project("beta")
    admin, theirs = home.bearer("admin", project=beta), home.bearer("jobs:read")
    made = admin.post("/v1/keys", json={"scopes": ["jobs:read", "admin"]}).json()
    assert made["project"] == beta
    assert {key["project"] for key in admin.get("/v1/keys").json()["data"]} == {beta}
    assert [project["id"] for project in admin.get("/v1/projects").json()["data"]] == [beta]
    assert_problem(admin.post("/v1/keys", json={"scopes": ["jobs:read"], "project": "default"}), 422)
    assert (
        assert_problem(admin.post("/v1/keys", json={"scopes": ["admin"], "all_projects": True}), 403)["code"] == "bound_to_project"
    )
    assert_problem(admin.patch(f"/v1/projects/{beta}", json={"quotas": {"max_devices": 1000}}), 403)
    assert_problem(admin.delete(f"/v1/keys/{theirs.made['id']}"), 404)
    wide = home.bearer("worker", project=beta, all_projects=True)
    assert_problem(admin.delete(f"/v1/keys/{wide.made['id']}"), 403)


def test_when_a_key_was_last_used_is_written_down(home: House):
    user = home.bearer("jobs:read")
    assert home.operator.get(f"/v1/keys/{user.made['id']}").json()["last_used_at"] is None
    user.get("/v1/jobs")
    note_used(home.api.app.state.context, home.api.app.state.keyring)
    assert home.operator.get(f"/v1/keys/{user.made['id']}").json()["last_used_at"] is not None


def test_a_key_that_is_remembered_costs_no_look_at_the_database(start, database_url: str):
    with house(start, key_cache_seconds=300) as home:
        user = home.bearer("jobs:read")
        assert user.get("/v1/jobs").status_code == 200
        with Write(home.api.app.state.context.database) as write:  # as another replica would
            key_rows.change(write.connection, user.made["id"], {"revoked_at": 1})
        assert user.get("/v1/jobs").status_code == 200
    with house(start, key_cache_seconds=0) as home:
        assert Bearer(home.api, user.key).get("/v1/jobs").status_code == 401


def test_every_replica_knows_a_key_under_the_same_pepper(start, tmp_path: Path):
    with house(start, key_pepper="salt and more") as one, house(start, key_pepper="salt and more") as other:
        user = one.bearer("jobs:read")
        assert Bearer(other.api, user.key).get("/v1/jobs").status_code == 200
    with house(start, key_pepper="another") as stranger:
        assert_problem(Bearer(stranger.api, user.key).get("/v1/jobs"), 401)


def test_the_pepper_is_made_once_and_for_its_owner_alone(start, database_url: str, tmp_path: Path):
    with house(start) as home:
        user = home.bearer("jobs:read")
    with house(start) as home:
        assert Bearer(home.api, user.key).get("/v1/jobs").status_code == 200
    folder = tmp_path if database_url.startswith("sqlite") else tmp_path / "artifacts"
    found = [path for path in folder.iterdir() if path.name.endswith(".key-pepper")]
    assert [oct(path.stat().st_mode & 0o777) for path in found] == ["0o600"]


def test_a_text_is_a_key_only_whole():
    token = tokens.mint()
    assert tokens.read(token.text) == token
    assert tokens.mint(token.prefix).text != token.text
    for place in range(len(token.text)):
        other = "1" if token.text[place] != "1" else "2"
        assert tokens.read(token.text[:place] + other + token.text[place + 1 :]) is None, place
    assert tokens.read(token.text + "\n") is None
    assert tokens.read(token.text[:-1]) is None


def test_without_an_operators_key_this_machine_may_all_and_a_key_only_what_it_may(api: Api):
    made = api.post("/v1/keys", json={"scopes": ["jobs:read"]}).json()
    assert api.get("/v1/audit").json()["data"][0]["key_id"] == "local"
    assert_problem(api.post("/v1/jobs", json=sampling(), headers=bearer(made["key"])), 403)
    assert_problem(api.get("/v1/jobs", headers=bearer(made["key"][:-1] + "_")), 401)
    assert api.get("/v1/jobs", headers=bearer("any other word")).status_code == 200


def test_the_operators_key_has_no_row_and_cannot_be_lost(home: House):
    assert home.operator.get("/v1/keys").json()["data"] == []
    made = home.bearer(*ALL, all_projects=True)
    assert made.delete(f"/v1/keys/{made.made['id']}").status_code == 204
    assert home.api.get("/v1/jobs", headers=bearer(OPERATOR)).status_code == 200
