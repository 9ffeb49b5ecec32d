"""Texts: any UTF-8."""

from __future__ import annotations

import codecs
from typing import BinaryIO

import numpy as np

from jobs.spec.dataset import TextFacts
from service.domain.inspection.columns import Facts, refuse

BLOCK_BYTES = 4 * 1024 * 1024
CODE_POINTS = 0x110000


def inspect_text(stream: BinaryIO) -> Facts:
    """Read a text through. Raises DatasetInvalid where it is not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    seen = np.zeros(CODE_POINTS, np.bool_)
    size = characters = max_byte = 0
    while block := stream.read(BLOCK_BYTES):
        points = np.frombuffer(_decoded(decoder, block, size).encode("utf-32-le"), np.uint32)
        seen[points] = True
        size, characters = size + len(block), characters + len(points)
        max_byte = max(max_byte, int(np.frombuffer(block, np.uint8).max()))
    _decoded(decoder, b"", size, final=True)
    return Facts(text=TextFacts(size, characters, int(seen.sum()), max_byte))


def _decoded(decoder: codecs.IncrementalDecoder, block: bytes, before: int, *, final: bool = False) -> str:
    pending = len(decoder.getstate()[0])
    try:
        return decoder.decode(block, final)
    except UnicodeDecodeError as error:
        at = before - pending + error.start
        raise refuse(f"The text is not UTF-8: {error.reason} at byte {at}. Save it as UTF-8 and upload it again.") from error
