"""Uploads, sound and hostile, for the tests of whoever reads them."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
from typing import Any

NET = """
import jax
from flax import nnx


class Net(nnx.Module):
    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.first = nnx.Linear(2, width, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.last = nnx.Linear(width, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(self.dropout(nnx.relu(self.first(x))))


def loss(model, batch):
    logits = model(batch["x"])
    each = -jax.nn.log_softmax(logits)[jax.numpy.arange(len(batch["y"])), batch["y"]]
    accuracy = (logits.argmax(-1) == batch["y"]).mean()
    return each.mean(), {"accuracy": accuracy}
"""


def zipped(members: dict[str, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, compress_type=method)
    return stream.getvalue()


def zipped_link(target: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        member = zipfile.ZipInfo("link.py")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, target)
        archive.writestr("net.py", NET)
    return stream.getvalue()


def tarred(members: dict[str, str | bytes], **special: Any) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        if special:
            member = tarfile.TarInfo(special.pop("name", "special.py"))
            for field, value in special.items():
                setattr(member, field, value)
            archive.addfile(member)
    return stream.getvalue()


# name → (content, code of the fault, part of its detail)
HOSTILE: dict[str, tuple[bytes, str, str]] = {
    "climbs": (zipped({"../evil.py": "x = 1"}), "bad_path", "below the bundle"),
    "climbs from a tar": (tarred({"a/../../evil.py": "x = 1"}), "bad_path", "below the bundle"),
    "absolute": (tarred({"/etc/evil.py": "x = 1"}), "bad_path", "below the bundle"),
    "backslash": (zipped({"a\\..\\evil.py": "x = 1"}), "bad_path", "below the bundle"),
    "link": (zipped_link("/etc/passwd"), "special_file", "a link"),
    "link in a tar": (tarred({"net.py": NET}, type=tarfile.SYMTYPE, linkname="/etc/passwd"), "special_file", "a link"),
    "hard link": (tarred({"net.py": NET}, type=tarfile.LNKTYPE, linkname="/etc/passwd"), "special_file", "a link"),
    "device": (tarred({"net.py": NET}, type=tarfile.CHRTYPE, devmajor=1, devminor=3), "special_file", "a link"),
    "bomb": (zipped({"net.py": NET, **{f"{i}.txt": bytes(4 * 2**20) for i in range(9)}}), "too_large", "unpacks to more than"),
    "bomb in one file": (zipped({"net.py": NET, "a.txt": bytes(40 * 2**20)}), "too_large", "has more than"),
    "bomb in a tar": (gzip.compress(bytes(100 * 2**20)), "too_large", "unpacks to more than"),
    "too many": (zipped({f"{i}.py": "" for i in range(1001)}), "too_many", "more than 1000 files"),
    "too many by far": (zipped({f"{i}.py": "" for i in range(4001)}), "too_many", "more than 1000 files"),
    "too deep": (zipped({"a/" * 17 + "net.py": NET}), "bad_path", "folders deep"),
    "twice": (tarred({"net.py": NET}, name="net.py"), "repeated", "stands twice"),
    "a file that is a folder": (zipped({"a.py": "", "a.py/b.py": ""}), "repeated", "below a file"),
    "pickle": (zipped({"net.py": NET, "weights.pkl": b"\x80"}), "forbidden_file", "no pickles"),
    "compiled": (zipped({"net.py": NET, "fast.so": b"\x7fELF"}), "forbidden_file", "no compiled code"),
    "no Python": (zipped({"readme.txt": "hello"}), "empty", "no Python file"),
    "broken zip": (zipped({"net.py": NET})[:-30], "broken", "zip archive is broken"),
    "broken content": (zipped({"net.py": NET}).replace(b"\x00\x00net.py", b"\x00\x00nit.py", 1), "broken", "is broken"),
    "broken tar": (gzip.compress(b"no tar at all" * 100), "broken", "no sound tar.gz"),
    "cut tar": (tarred({"net.py": NET})[:-20], "broken", "no sound tar.gz"),
    "syntax error": (zipped({"net.py": "def f(:\n"}), "syntax_error", "net.py, line 1: "),
    "syntax error further down": (b"x = 1\n\nclass A\n", "syntax_error", "main.py, line 3: "),
    "NUL": (b"x = 1\x00", "syntax_error", "main.py, line 1: "),
    "too nested": (b"-" * 200_000 + b"1", "syntax_error", "main.py, line 1: "),
    "long chain": (b"a" + b".b" * 200_000, "syntax_error", "main.py, line 1: "),
    "other encoding": (b"# coding: nonsense\n", "syntax_error", "main.py, line 1: "),
    "long number": (b"x = " + b"9" * 10_000, "syntax_error", "main.py, line 1: "),
}
