"""Small files that are made once and then stay: whoever comes first writes, everybody reads the same."""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path


def kept_text(path: Path, mode: int) -> str:
    """The text of a file; 256 random bits if it was not there yet, which `mode` says who may read."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(path, secrets.token_hex(32), mode)
    return path.read_text()


def _write_whole(path: Path, text: str, mode: int) -> None:
    """Write a file that nobody ever sees half written; one that is there by now stays."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    draft.touch(mode=mode)
    draft.write_text(text)
    with suppress(FileExistsError):
        path.hardlink_to(draft)
    draft.unlink()
