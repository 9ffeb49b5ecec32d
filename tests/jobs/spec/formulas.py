"""Formulas and a table for them. Run with `formulaic` installed, this file writes what that library makes of them.

python -m tests.jobs.spec.formulas > tests/jobs/spec/data/formulas.json
"""

from __future__ import annotations

import json
import sys
from typing import Any

TABLE: dict[str, list[Any]] = {
    "x": [round(0.5 + ((row * 7) % 12) / 4, 3) for row in range(24)],
    "z": [round(((row * 5) % 11) / 3 - 1, 3) for row in range(24)],
    "a": [["p", "q", "r"][row % 3] for row in range(24)],
    "b": [["v", "u"][(row // 3) % 2] for row in range(24)],
    "k": [[3, 1, 2, 2][row % 4] for row in range(24)],
}
RIGHT = [
    "1",
    "0",
    "x",
    "x + z",
    "x - 1",
    "0 + x",
    "x + 0 + z",
    "x*z",
    "x:z",
    "x/z",
    "(x + z)^2",
    "(x + z)**3",
    "x*z - x:z",
    "a",
    "0 + a",
    "a - 1",
    "a + b",
    "0 + a + b",
    "a*b",
    "0 + a*b",
    "a:b",
    "0 + a:b",
    "a/b",
    "x:a",
    "x + x:a",
    "x*a",
    "0 + x:a",
    "x*a*b",
    "x:a:b",
    "(a + b + x)^2",
    "a*b*C(k)",
    "C(k)",
    "0 + C(k) + x",
    "C(k):x",
    "C(k)*a - a",
    "a:x + b:x",
    "a + a:x + a:x:b",
    "b:a + a",
    "k + C(k)",
    "k*C(k)",
    "k:C(k) + k",
    "log(x)",
    "I(x ** 2) + x",
    "scale(x)",
    "center(x):a",
    "log(x):C(k)",
    "x + a:b",
    "b/x",
    "x*(z + a)",
    "z + (x + a):b",
    "(x + z + a)^3 - x:z:a",
]

if __name__ == "__main__":
    import formulaic  # pyright: ignore[reportMissingImports]
    import pandas as pd

    made: dict[str, Any] = {}
    for right in RIGHT:
        matrix = formulaic.model_matrix(right, pd.DataFrame(TABLE))
        made[right] = {name: [round(float(value), 9) for value in matrix[name]] for name in matrix.columns}
    json.dump({"formulaic": formulaic.__version__, "matrices": made}, sys.stdout, separators=(",", ":"))
