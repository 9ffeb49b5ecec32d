"""Bundles of code: packed, uploaded, listed, brought home."""

from __future__ import annotations

import io
import zipfile
from os import PathLike
from pathlib import Path

from jobs.spec.bundle.archive import DEFAULT_MODULE
from meshyard.effects import Flow, Items, Request
from meshyard.errors import ConfigurationInvalid
from meshyard.flows.download import OnBytes, Wanted, download_to, ignore_bytes
from meshyard.flows.requests import fetch, get, paged, part, query
from meshyard.models import Code, File

SKIPPED = frozenset({"__pycache__", "node_modules"})
SUFFIXES = frozenset({".py", ".json", ".txt", ".toml", ".yaml", ".yml", ".csv"})
MOST_BYTES = 32 * 1024 * 1024


def upload(source: str | PathLike[str] | bytes, *, name: str | None = None, module: str | None = None) -> Flow[Code]:
    """Upload a bundle of Python files. The same bytes are stored once and have one id.

    Args:
        source: a folder, which is packed (its Python files and small data files, always to the same bytes); a zip, tar.gz or .py
            file; or the bytes of one.
        name: for people; by default the file's or folder's name.
        module: what a single .py is called when it is imported; by default its own name.
    """
    path = None if isinstance(source, bytes) else Path(source)
    body = source if isinstance(source, bytes) else _packed(Path(source))
    module = module or (path.stem if path is not None and path.suffix == ".py" else DEFAULT_MODULE)
    values = query(name=name or (path.resolve().name if path is not None else None), module=module)
    headers = {"Content-Type": "application/octet-stream"}
    return (yield from fetch(Code, Request("POST", "/v1/code", values, headers, body, read_seconds=120.0)))


def get_code(code: str | Code) -> Flow[Code]:
    """What is known of a bundle: its files, the names its modules define, and warnings."""
    return (yield from fetch(Code, get(_path(code))))


def list_code(*, limit: int | None = None) -> Items[Code]:
    """Bundles; pages are fetched as they are needed."""
    return paged(Code, "/v1/code", limit)


def download(code: str | Code, to: str | PathLike[str] | None = None, *, on_bytes: OnBytes = ignore_bytes) -> Flow[Path]:
    """Bring a bundle home as it was uploaded, checked against its SHA-256.

    Args:
        code: the bundle, or its id.
        to: the file, or a folder that exists; by default its id, here.
        on_bytes: called with the number of bytes that have just come in.
    """
    found = yield from get_code(code)
    target, name = Path(to) if to is not None else Path(), f"{found.id}.bundle"
    file = File(path=name, bytes=found.bytes, sha256=found.sha256)
    return (yield from download_to(Wanted(f"{_path(found)}/content", file), target / name if target.is_dir() else target, on_bytes))


def pack(folder: Path) -> bytes:
    """A zip of a folder's Python and small data files: the same bytes for the same files, whenever and wherever it is made.

    Raises:
        ConfigurationInvalid: there is no Python file in it, or far too much else.
    """
    stream = io.BytesIO()
    paths = sorted(path for path in folder.rglob("*") if _belongs(folder, path))
    if not any(path.suffix == ".py" for path in paths):
        raise ConfigurationInvalid(f"there is no Python file in {folder}")
    if sum(path.stat().st_size for path in paths) > MOST_BYTES:
        raise ConfigurationInvalid(f"{folder} holds more than {MOST_BYTES} bytes: upload data as a dataset, not as code")
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:  # stored: compressors differ from machine to machine
        for path in paths:
            archive.writestr(zipfile.ZipInfo(path.relative_to(folder).as_posix()), path.read_bytes())
    return stream.getvalue()


def _packed(path: Path) -> bytes:
    return pack(path) if path.is_dir() else path.read_bytes()


def _belongs(folder: Path, path: Path) -> bool:
    parts = path.relative_to(folder).parts
    hidden = any(name.startswith(".") or name in SKIPPED for name in parts)
    return not hidden and path.is_file() and not path.is_symlink() and path.suffix in SUFFIXES


def _path(code: str | Code) -> str:
    return f"/v1/code/{part(code.id if isinstance(code, Code) else code)}"
