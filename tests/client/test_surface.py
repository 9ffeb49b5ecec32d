"""What users import is a fact, and importing it is cheap."""

from __future__ import annotations

import subprocess
import sys

import pytest

import meshyard
from meshyard import AsyncClient, Client
from meshyard.operations import Resource, iteration, operation

NAMES = """
APIConnectionError APIError APIResponseError APIStatusError APITimeoutError AsyncClient Attempt AuditEntry AuthenticationError
BadRequestError CatalogEntry Checkpoint Client Code ConfigurationInvalid ConflictError Dataset DownloadCorrupt Event Fault File
Job JobFailed Key MeshyardError Metrics MissingExtra NoArtifact NoCheckpoint NotFoundError Parent PermissionDeniedError Place
Policy Problem ProblemItem Progress Project RateLimitError Result Series ServerError StatusReason UnprocessableEntityError Usage
Validation WaitTimedOut Webhook WebhookDelivery Worker load
"""
OPERATIONS = {
    "jobs": "attempts cancel checkpoint clone delete events extend follow_logs get list logs metrics pause place profile program"
    " result resume retry submit update validate wait watch",
    "checkpoints": "download download_archive expire files find list pin",
    "artifacts": "download list",
    "code": "download get list upload",
    "datasets": "download get list upload",
    "workers": "drain list",
    "webhooks": "add delete deliveries get list redeliver rotate test update",
    "keys": "create get list revoke rotate",
    "projects": "create delete get list update",
    "usage": "audit days now",
    "catalog": "job_schema section",
    "service": "examine ready",
}


def test_the_public_names_are_these():
    assert sorted(meshyard.__all__) == sorted(NAMES.split())


@pytest.mark.parametrize("name", NAMES.split())
def test_every_public_name_is_there(name):
    assert getattr(meshyard, name).__name__ == name


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = meshyard.nonsense


@pytest.mark.parametrize(("resource", "names"), OPERATIONS.items())
def test_both_clients_offer_these_operations(resource, names):
    for client in (Client("http://127.0.0.1:1"), AsyncClient("http://127.0.0.1:1")):
        group = getattr(client, resource)
        assert isinstance(group, Resource)
        offered = {name for name, value in vars(type(group)).items() if isinstance(value, (operation, iteration))}
        assert offered == set(names.split())


def test_every_operation_says_what_it_does():
    for group in (getattr(Client("http://127.0.0.1:1"), name) for name in OPERATIONS):
        for name, value in vars(type(group)).items():
            if isinstance(value, (operation, iteration)):
                assert getattr(group, name).__doc__, f"{type(group).__name__}.{name}"


HEAVY = ("fastapi", "sqlalchemy", "jax", "numpy", "pyarrow", "service", "worker", "alembic")


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("import meshyard", (*HEAVY, "httpx", "pydantic", "rich", "typer")),
        ("import meshyard.client", (*HEAVY, "typer")),
        ("from meshyard.cli import run; run(['--help'])", (*HEAVY, "httpx", "pydantic")),
        ("from meshyard.cli import run; run(['submit', '--help'])", (*HEAVY, "httpx")),
        ("from meshyard.cli import run; run(['ps', '--server', 'http://127.0.0.1:1'])", HEAVY),
    ],
)
def test_imports_stay_away_from_what_they_do_not_need(code, forbidden):
    probe = f"{code}\nimport sys\nprint('found:', [name for name in {forbidden!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "found: []"


@pytest.mark.parametrize("address", ["ftp://x", "nonsense", "http://", "http://[", "http://x:99999"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(meshyard.ConfigurationInvalid, match="not the address of a server"):
        Client(address)
