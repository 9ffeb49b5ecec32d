"""Each package imports what its part of pyproject.toml declares, and what is declared is used."""

import sys

import pytest
from packaging.utils import canonicalize_name

from tests.repository.project import PACKAGES, ROOT, imported_modules, modules_of, project_file, requirements

OURS = {*PACKAGES, "benchmarks", "examples", "tests"}
PARTS = {
    "jobs": ("service", "worker", "otel"),
    "service": ("service",),
    "migrations": ("service",),
    "worker": ("worker",),
    "meshyard": ("service",),
}
# Not imported by name: a database driver of SQLAlchemy, what ArviZ and `jax.export` write files with, the compiled half of JAX.
LOADED_BY_OTHERS = {"psycopg", "xarray", "h5netcdf", "h5py", "flatbuffers", "jaxlib"}
# Pydantic pins its core to one version and gives the errors that its API raises from there.
OF_PYDANTIC = {"pydantic_core"}
# Named by the mission; each must be asked for somewhere.
NAMED = {"jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpyro"}
NAMED |= {"fastapi", "uvicorn", "pydantic", "sqlalchemy", "httpx", "pytest"}


def _imports(folder: str) -> set[str]:
    return set[str]().union(*(imported_modules(path) for path in (ROOT / folder).rglob("*.py")))


def _declared(*extras: str) -> set[str]:
    return modules_of({canonicalize_name(wanted.name) for wanted in requirements(*extras)}) | OF_PYDANTIC


@pytest.mark.parametrize("folder", PARTS)
def test_a_package_imports_only_what_is_declared_for_it(folder: str) -> None:
    assert _imports(folder) - OURS - set(sys.stdlib_module_names) - _declared(*PARTS[folder]) == set()


@pytest.mark.parametrize("extra", ["service", "worker"])
def test_what_an_extra_declares_is_imported(extra: str) -> None:
    imported = set[str]().union(*(_imports(folder) for folder in PACKAGES)) | LOADED_BY_OTHERS
    names = (canonicalize_name(wanted.name) for wanted in requirements(extra))
    assert [name for name in names if not modules_of({name}) & imported] == []


def test_every_named_package_is_a_direct_dependency() -> None:
    extras = project_file()["project"]["optional-dependencies"]
    assert {canonicalize_name(wanted.name) for wanted in requirements(*extras)} >= NAMED
