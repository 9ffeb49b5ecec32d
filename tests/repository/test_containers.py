"""What the container files promise, read without an engine."""

from typing import Any

import pytest
import yaml

from tests.repository.project import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.mark.parametrize("service", COMPOSE["services"])
def test_every_service_has_a_health_check(service: str) -> None:
    assert COMPOSE["services"][service]["healthcheck"]["test"]


def test_the_only_published_port_is_on_the_loopback_address() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:8642:8642"]


def test_workers_can_be_scaled() -> None:
    assert not {"container_name", "ports", "hostname"} & set(COMPOSE["services"]["worker"])


def test_no_feature_that_an_old_compose_does_not_know() -> None:
    assert not {"name", "include"} & set(COMPOSE)
    assert "gpus" not in COMPOSE["services"]["worker"]
    assert not any("start_interval" in service.get("healthcheck", {}) for service in COMPOSE["services"].values())


def test_the_dockerfile_builds_without_buildkit() -> None:
    assert not [mark for mark in ("# syntax=", "RUN --mount", "<<") if mark in DOCKERFILE]


@pytest.mark.parametrize("target", ["service", "worker"])
def test_images_run_as_a_user_with_a_health_check(target: str) -> None:
    stage = DOCKERFILE.split(f"FROM base AS {target}\n")[1].split("\nFROM ")[0]
    assert "USER 10001" in stage
    assert "HEALTHCHECK" in stage


def test_the_service_image_installs_no_worker_extra() -> None:
    stage = DOCKERFILE.split("FROM base AS service\n")[1].split("\nFROM ")[0]
    assert "requirements/worker.txt" not in stage
    assert "requirements/service.txt" in stage
