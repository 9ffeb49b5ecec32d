"""The pins: exact, without addresses, whole, and within the ranges that pyproject.toml gives."""

import re

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.repository.project import ROOT, project_file, requirements

FILES = ("py311.txt", "py313.txt")
PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][A-Za-z0-9.+]*")


def _pins(name: str) -> dict[str, str]:
    lines = (ROOT / "constraints" / name).read_text(encoding="utf-8").splitlines()
    return {canonicalize_name(package): version for package, _, version in (line.partition("==") for line in lines)}


@pytest.mark.parametrize("name", FILES)
def test_every_line_is_a_name_and_a_version(name: str) -> None:
    lines = (ROOT / "constraints" / name).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not PIN.fullmatch(line)] == []


@pytest.mark.parametrize("name", FILES)
def test_every_direct_dependency_is_pinned_within_its_range(name: str) -> None:
    extras = [extra for extra in project_file()["project"]["optional-dependencies"] if extra not in {"cuda", "tpu"}]
    pins = _pins(name)
    asked = requirements(*extras)
    assert [str(wanted) for wanted in asked if not wanted.specifier.contains(Version(pins[canonicalize_name(wanted.name)]))] == []


def test_python_311_and_313_run_the_jax_versions_that_are_promised() -> None:
    assert (_pins("py311.txt")["jax"], _pins("py313.txt")["jax"][:5]) == ("0.10.2", "0.12.")
