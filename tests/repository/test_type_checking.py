"""Pyright is strict everywhere but in the numerical code, and a new file does not slip through."""

from tests.repository.project import ROOT, project_file

CHILD_SIDE = {
    *("attempt.py", "checkpoint.py", "child_main.py", "compilations.py", "devices.py", "handed.py", "ledger.py", "limits.py"),
    *("memory.py", "nonfinite.py", "pace.py", "performance.py", "preflight.py", "profiling.py", "run.py", "talk.py"),
}


def _strict() -> list[str]:
    return project_file()["tool"]["pyright"]["strict"]


def test_every_worker_module_is_strict_or_runs_in_the_child() -> None:
    modules = {str(path.relative_to(ROOT / "worker")) for path in (ROOT / "worker").rglob("*.py") if path.name != "__init__.py"}
    strict = {entry.removeprefix("worker/") for entry in _strict() if entry.startswith("worker/")}
    assert modules == strict | (modules & CHILD_SIDE)


def test_every_other_package_is_strict_as_a_whole() -> None:
    assert {"service", "meshyard", "migrations", "jobs/*.py", "jobs/spec"} <= set(_strict())


def test_jobs_holds_no_other_folder() -> None:
    folders = {path.name for path in (ROOT / "jobs").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == {"spec", "programs"}
