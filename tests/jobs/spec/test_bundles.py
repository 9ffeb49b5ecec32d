from __future__ import annotations

import pytest

from jobs.spec.bundle.archive import read_files
from jobs.spec.bundle.facts import BundleInvalid
from jobs.spec.bundle.source import read_bundle
from tests.jobs.spec.bundles import HOSTILE, NET, tarred, zipped


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_uploads_are_refused_with_their_reason(name):
    content, code, detail = HOSTILE[name]
    with pytest.raises(BundleInvalid) as caught:
        read_bundle(read_files(content))
    assert caught.value.issues[0].code == code
    assert detail in caught.value.issues[0].detail


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_an_archive_gives_its_files_and_their_names(pack):
    members = {"net.py": NET, "pkg/__init__.py": "from .a import *\n", "pkg/a.py": "b: int = 1\n", "words.txt": "a b"}
    found = read_bundle(read_files(pack({**members, "__pycache__/net.pyc": b"\x00", "__MACOSX/._net.py": b"\x00"})))
    assert found.files == {path: len(content) for path, content in sorted(members.items())}
    assert found.modules["net"].names == ["jax", "nnx", "Net", "loss"]
    assert found.modules["pkg"].open
    assert found.modules["pkg.a"].names == ["b"]
    assert found.remarks == []


def test_folders_and_leading_dots_of_a_tar_do_no_harm():
    assert list(read_files(tarred({"./a/net.py": NET}, name="./a", type=b"5"))) == ["a/net.py"]


def test_a_single_file_is_a_module():
    assert read_bundle(read_files(NET.encode(), "net")).modules["net"].names == ["jax", "nnx", "Net", "loss"]


def test_names_defined_under_conditions_count():
    guarded = "try:\n    import a\nexcept ImportError:\n    a = None\n"
    either = "if a:\n    def f(): x = 1\nelse:\n    f, (g, *h) = a\n"
    source = (guarded + either + "for i in a: j = 2\n").encode()
    assert read_bundle(read_files(source)).modules["main"].names == ["a", "f", "g", "h", "i", "j"]


def remarks(source: str) -> list[tuple[str, int]]:
    return [(remark.code, remark.line) for remark in read_bundle(read_files(source.encode())).remarks]


IMPURE = [
    "import random\ndef f(x):\n    return x + random.random()",
    "import numpy as np\ndef f(x):\n    return x + np.random.normal(size=3)",
    "from numpy.random import normal\ndef f(x):\n    return x + normal()",
    "import time\ndef f(x):\n    return x + time.time()",
    "from datetime import datetime\ndef f(x):\n    return datetime.now()",
    "count = 0\ndef f(x):\n    global count",
    "class Net:\n  def __call__(self, x):\n    print(x)",
]


@pytest.mark.parametrize("source", IMPURE)
def test_impure_functions_are_remarked_upon(source):
    assert remarks(source) == [("impure_program", 3)]


PURE = [
    "import random\nseed = random.random()\nprint(seed)",
    "import jax\ndef f(key):\n    return jax.random.normal(key)",
    "import numpy as np\nclass Net:\n    def __init__(self):\n        self.table = np.random.normal(size=3)",
    "def f(time):\n    return time.time()",
    "import jax\ndef f(x):\n    jax.debug.print('{}', x)",
]


@pytest.mark.parametrize("source", PURE)
def test_what_is_pure_or_runs_once_by_intent_is_not(source):
    assert remarks(source) == []
