"""The functions of expressions as the page about programs lists them."""

from __future__ import annotations

import textwrap

from jobs.spec.program.functions import FUNCTIONS, Function

WIDTH = 150


def listing() -> str:
    """A table in Markdown: arguments, and the functions that take them."""
    names: dict[str, list[str]] = {}
    for name, function in FUNCTIONS.items():
        names.setdefault(arguments_of(function), []).append(name)
    many = [_line(arguments, found) for arguments, found in names.items() if len(found) > 1]
    single = ", ".join(f"`{found[0]}({arguments})`" for arguments, found in names.items() if len(found) == 1)
    return "\n".join([*many, _wrapped(f"- others: {single}")])


def arguments_of(function: Function) -> str:
    """`x, min, max?`."""
    return ", ".join(each if at < function.least else f"{each}?" for at, each in enumerate(function.names))


def _line(arguments: str, names: list[str]) -> str:
    return _wrapped(f"- `f({arguments})`: {', '.join(f'`{name}`' for name in names)}")


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_long_words=False))
