"""What each process may load, checked in a fresh interpreter that refuses everything else."""

import json
import subprocess
import sys
from importlib.metadata import packages_distributions

from tests.repository.project import PACKAGES, ROOT, closure, module_names, modules_of, project_file, requirements

ONLY = """
import importlib, json, sys
refused, names = json.loads(sys.argv[1])
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise ImportError(f"{name} is not installed here")
sys.meta_path.insert(0, Refuse())
for name in sorted(names):
    importlib.import_module(name)
"""
LOADED = """
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
from jobs import tracing
with tracing.from_environment({}, "test").attempt(None) as trail:
    trail.end("failed", 0, "oom")
print(json.dumps(sorted(sys.modules)))
"""
# What FastAPI loads of OpenTelemetry is its interface alone.
TRACING = ("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.proto")
NUMERICAL = {"jax", "jaxlib", "flax", "optax", "orbax", "numpyro", "grain"}


def _python(program: str, argument: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(argument)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _import_with_only(extras: tuple[str, ...], names: list[str]) -> None:
    refused = set(packages_distributions()) - modules_of(closure(requirements(*extras))) - set(PACKAGES)
    assert {"jax", "flax", "schemathesis"} <= refused
    _python(ONLY, [sorted(refused), names])


def _agent_modules() -> list[str]:
    strict = project_file()["tool"]["pyright"]["strict"]
    return [entry.removesuffix(".py").replace("/", ".") for entry in strict if entry.startswith("worker/")]


def test_the_base_install_imports_the_client_and_the_command_line() -> None:
    names = [*module_names("meshyard"), *(name for name in module_names("jobs") if not name.startswith("jobs.programs"))]
    _import_with_only((), names)


def test_the_service_imports_with_its_own_extra() -> None:
    _import_with_only(("service",), [name for name in module_names("service") if name != "service.__main__"])


def test_the_service_loads_no_numerical_library_and_nothing_for_traces() -> None:
    loaded = json.loads(_python(LOADED, [name for name in module_names("service") if name != "service.__main__"]))
    assert {name.partition(".")[0] for name in loaded} & NUMERICAL == set()
    assert [name for name in loaded if name.startswith(TRACING)] == []


def test_the_agent_loads_no_numerical_library_and_nothing_for_traces() -> None:
    loaded = json.loads(_python(LOADED, [name for name in _agent_modules() if name != "worker.__main__"]))
    assert {name.partition(".")[0] for name in loaded} & {*NUMERICAL, "opentelemetry"} == set()


def test_a_child_loads_nothing_that_most_jobs_do_without() -> None:
    loaded = json.loads(_python(LOADED, ["worker.attempt", "worker.preflight"]))
    assert set(loaded) & {"arviz_stats", "matplotlib", "pandas", "scipy.stats", "xarray"} == set()
