"""JSON Pointers (RFC 6901), and words for messages that must never carry more of the input than a short name."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable

MOST_SEARCHES = 32
MOST_CANDIDATES = 1000
LONGEST_NAME = 60
LONGEST_TOKEN = 200
"""A longer name from the input does not become part of a pointer: the pointer then leads to what holds it."""
FEW_NAMES = 12


def join(pointer: str, *tokens: object) -> str:
    """The pointer to a member: `join("/mesh", "axes", "a/b")` is `/mesh/axes/a~1b`."""
    return pointer + "".join("/" + str(token).replace("~", "~0").replace("/", "~1") for token in tokens)


def quoted(name: object) -> str:
    """A name from the input in quotes, cut to a length that a message can bear and free of what cannot be written as UTF-8."""
    text = str(name)
    short = text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}…"
    return '"' + short.encode("utf-8", "replace").decode() + '"'


def listed(names: Iterable[str]) -> str:
    """Names in quotes with commas between, the last joined by "or"."""
    words = [f'"{name}"' for name in names]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def nearest(name: object, legal: Iterable[str], where: str = "", before: int = 0) -> str:
    """What to write instead of a name that is not legal: the closest legal ones, or all of a few.

    Args:
        name: what was written.
        legal: what may be.
        where: a place that lists all, for when they are too many to name.
        before: how many such names came before this one. The closest are not searched for without end: that costs time.
    """
    if before >= MOST_SEARCHES:
        return "see the first such fault"
    names = list(itertools.islice(legal, MOST_CANDIDATES))
    if not names:
        return "none is known"
    lower = {known.lower(): known for known in names}
    close = difflib.get_close_matches(str(name)[:LONGEST_NAME].lower(), lower, n=3, cutoff=0.6)
    if close:
        return f"did you mean {listed(lower[match] for match in close)}?"
    if len(names) <= FEW_NAMES:
        return f"use {listed(sorted(names))}"
    return f"{where} lists all" if where else f"use one such as {listed(sorted(names)[:3])}"


def count_of(number: int, noun: str) -> str:
    """`1 row`, `2 rows`, `3 entries`."""
    many = f"{noun[:-1]}ies" if noun.endswith("ry") else f"{noun}s"
    return f"{number} {noun if number == 1 else many}"
