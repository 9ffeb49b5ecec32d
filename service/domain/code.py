"""Bundles of user code: received like datasets, read as syntax trees, kept once. The service never runs a line of them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel
from sqlalchemy.engine import Connection, Row

from jobs.ids import new_id
from jobs.spec.bundle.archive import DEFAULT_MODULE, read_files
from jobs.spec.bundle.facts import BundleFacts, BundleInvalid, ModuleFacts, Remark
from jobs.spec.bundle.source import read_bundle
from service.context import Context
from service.db.queries.contents import BUNDLES
from service.domain.errors import CodeDisabled, CodeInvalid, NotFound
from service.domain.incoming import Incoming, keep_once
from service.domain.instants import wire

ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b")


class CodeFile(BaseModel):
    """A file of a bundle."""

    path: str
    bytes: int


class CodeModule(BaseModel):
    """A Python module of a bundle with the names it defines, each of which a job may name as a target: `name:Net`."""

    name: str
    defines: list[str]


class CodeWarning(BaseModel):
    """Something in a bundle that its owner may not expect: `impure_program` or `outdated_snippet`."""

    code: str
    file: str
    line: int
    detail: str


class Code(BaseModel):
    """A bundle of user code."""

    object: Literal["code"] = "code"
    id: str
    name: str | None
    sha256: str
    bytes: int
    files: list[CodeFile]
    modules: list[CodeModule]
    warnings: list[CodeWarning]
    created_at: str


def check_enabled(context: Context) -> None:
    """Raise CodeDisabled unless the operator has turned user code on."""
    if context.settings.code == "off":
        raise CodeDisabled("This service takes no user code: its operator can turn it on with MESHYARD_CODE=on.")


def keep(context: Context, project: str, name: str | None, module: str, incoming: Incoming) -> tuple[Row[Any], bool]:
    """Make a bundle of what has come in; tells also whether it is new.

    Raises:
        CodeInvalid: it is no sound bundle. Nothing is kept.
    """
    with incoming.open() as stream:
        content = stream.read()
    module = "" if content.startswith(ARCHIVES) else module
    key = f"code/{incoming.sha256}"
    identity = {"id": new_id("code"), "project": project, "name": name, "module": module, "key": key}
    return keep_once(context, BUNDLES, identity, incoming, lambda: {"facts": asdict(_read(content, module))})


def _read(content: bytes, module: str) -> BundleFacts:
    try:
        return read_bundle(read_files(content, module or DEFAULT_MODULE))
    except BundleInvalid as error:
        raise CodeInvalid("The body is no bundle of sound Python files; see errors.", error.issues) from None


def get(connection: Connection, project: str, code_id: str) -> Row[Any]:
    """A bundle's row.

    Raises:
        NotFound: the project has no such bundle.
    """
    row = BUNDLES.get(connection, project, code_id)
    if row is None:
        raise NotFound("There is no such code bundle.")
    return row


def facts(connection: Connection, project: str, code_id: str) -> BundleFacts | None:
    """What is known of a bundle, enough to check a spec against it; None if the project has no such bundle."""
    row = BUNDLES.get(connection, project, code_id)
    return facts_of(row) if row is not None else None


def facts_of(row: Row[Any]) -> BundleFacts:
    """What a row tells of its bundle."""
    found = row.facts
    modules = {name: ModuleFacts(**module) for name, module in found["modules"].items()}
    return BundleFacts(found["files"], modules, [Remark(**remark) for remark in found["remarks"]])


def shown(row: Row[Any]) -> Code:
    """A bundle as users see it."""
    found = facts_of(row)
    return Code(
        id=row.id,
        name=row.name,
        sha256=row.sha256,
        bytes=row.bytes,
        files=[CodeFile(path=path, bytes=size) for path, size in found.files.items()],
        modules=[CodeModule(name=name, defines=module.names) for name, module in found.modules.items()],
        warnings=[CodeWarning(**asdict(remark)) for remark in found.remarks],
        created_at=wire(int(row.created_at)),
    )
