"""Masks and labels over parameters, by patterns over their dotted paths.

A pattern is as in a shell, case and all: `*` stands for any characters, dots among them, `?` for one, `[ab]` for one of these.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from jobs.errors import UserFault
from jobs.spec.pointers import join, nearest, quoted

SHOWN = 6


def mask_tree(mask: Mapping[str, Sequence[str]], paths: Collection[str], pointer: str) -> dict[str, bool]:
    """Whether each parameter is one that `match` names and `except` does not.

    Args:
        mask: `{"match": [patterns], "except": [patterns]}`.
        paths: of all parameters.
        pointer: to the mask in the spec.

    Raises:
        UserFault: a pattern matches no parameter.
    """
    for name in ("match", "except"):
        _check(mask[name], paths, join(pointer, name))
    return {path: matches(path, mask["match"]) and not matches(path, mask["except"]) for path in paths}


def label_tree(entries: Sequence[Mapping[str, Any]], paths: Collection[str], pointer: str) -> dict[str, str]:
    """The label of each parameter: that of the first entry with a pattern that matches.

    Raises:
        UserFault: a pattern matches no parameter, or a parameter no pattern.
    """
    for at, entry in enumerate(entries):
        _check(entry["match"], paths, join(pointer, at, "match"))
    labels = {path: next((entry["label"] for entry in entries if matches(path, entry["match"])), None) for path in paths}
    bare = [path for path, label in labels.items() if label is None]
    if bare:
        message = f'no pattern matches the parameter "{bare[0]}": add a last entry {{"match": ["*"], "label": …}} for the rest'
        raise UserFault("compile_failed", message, pointer)
    return {path: label for path, label in labels.items() if label is not None}


def chosen(patterns: Sequence[str], paths: Collection[str], pointer: str) -> list[str]:
    """The parameters that fit one of the patterns.

    Raises:
        UserFault: a pattern matches no parameter.
    """
    _check(patterns, paths, pointer)
    return [path for path in paths if matches(path, patterns)]


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Whether a path fits one of the patterns."""
    return any(fnmatchcase(path, pattern) for pattern in patterns)


def _check(patterns: Sequence[str], paths: Collection[str], pointer: str) -> None:
    for at, pattern in enumerate(patterns):
        if not any(fnmatchcase(path, pattern) for path in paths):
            hint = nearest(pattern, paths, f"the parameters are {', '.join(list(paths)[:SHOWN])}, …")
            raise UserFault("compile_failed", f"the pattern {quoted(pattern)} matches no parameter: {hint}", join(pointer, at))
