"""Every relative link in the documents leads somewhere, its heading included."""

import re
from pathlib import Path

import pytest

from tests.repository.project import ROOT, tracked_files

LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)|!\[[^\]\n]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
DOCUMENTS = [path for path in tracked_files() if path.suffix == ".md"]


def _without_code(path: Path) -> str:
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def _anchor(heading: str) -> str:
    """The anchor that forges give a heading: lower case, punctuation out, blanks to hyphens."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def _anchors(path: Path) -> set[str]:
    return {_anchor(re.sub(r"[`*]", "", line.lstrip("#"))) for line in _without_code(path).splitlines() if line.startswith("#")}


def _is_broken(document: Path, target: str) -> bool:
    if re.match(r"[a-z]+:", target):
        return False
    name, _, anchor = target.partition("#")
    path = (document.parent / name).resolve() if name else document
    return not path.exists() or bool(anchor and path.suffix == ".md" and anchor not in _anchors(path))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    targets = [text or image for text, image in LINK.findall(_without_code(document))]
    assert [target for target in targets if _is_broken(document, target)] == []
