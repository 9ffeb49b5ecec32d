"""Nothing that is committed names a machine, a home folder or a package index."""

import re

import pytest

from tests.repository.project import ROOT, tracked_text

# Put together from parts, so that this file does not hold what it looks for.
HOSTS = [".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("deb", "debian", "org"))]
MACHINE_PATHS = re.compile(
    r"(?<![\w.~-])/(?:" + "|".join(("roo" + "t", "wor" + "k", "hom" + "e/[a-z]", "opt/py" + "pi", "tmp/[a-z]+/")) + r")(?:/|\b)"
)
INDEX_OPTIONS = re.compile(r"--(?:extra-)?index-url|--find-links|--trusted-host")


@pytest.mark.parametrize("host", HOSTS)
def test_no_tracked_file_names_a_package_index(host: str) -> None:
    assert [str(path.relative_to(ROOT)) for path, text in tracked_text() if host in text] == []


def test_no_tracked_file_holds_a_path_of_a_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}" for path, text in tracked_text() for match in MACHINE_PATHS.finditer(text)
    ]
    assert found == []


def test_no_tracked_file_tells_pip_where_to_look() -> None:
    own = ROOT / "tests" / "repository" / "test_tracked_files.py"
    assert [str(path.relative_to(ROOT)) for path, text in tracked_text() if path != own and INDEX_OPTIONS.search(text)] == []


def test_no_tracked_file_is_large() -> None:
    sizes = {str(path.relative_to(ROOT)): len(text) for path, text in tracked_text()}
    assert {name: size for name, size in sizes.items() if size > 1_000_000} == {}
