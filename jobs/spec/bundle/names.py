"""What a dotted name in a Python file means: `jnp.where` is `jax.numpy.where` where `import jax.numpy as jnp` stands above."""

from __future__ import annotations

import ast

Imports = dict[str, str]
"""The dotted name behind each local one."""


def imports_of(tree: ast.Module) -> Imports:
    """Every name that an import anywhere in the file binds."""
    found: Imports = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                found[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return found


def dotted(node: ast.AST, imports: Imports) -> str | None:
    """The full dotted name of an expression; None where it is none, or does not begin with something imported."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id not in imports:
        return None
    return ".".join([imports[node.id], *reversed(parts)])
