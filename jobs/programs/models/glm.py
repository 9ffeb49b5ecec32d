"""A settled regression as a NumPyro function, by way of the program that it stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jobs.errors import UserFault
from jobs.programs.models import program
from jobs.spec.glm.expressions import FormulaFault
from jobs.spec.glm.translate import as_program, is_matrix, program_data
from jobs.spec.program.document import read_program


def build(model: Mapping[str, Any]) -> Callable[..., None]:
    """The NumPyro function of a settled model; its keyword arguments are what `arrays_of` gives."""
    return program.build(normalised(model))


def normalised(model: Mapping[str, Any]) -> dict[str, Any]:
    """The program of a settled model, with every field of every statement present."""
    found, issues = read_program(as_program(model))
    if issues:
        raise UserFault("compile_failed", f"the formula makes no sound program: {issues[0].pointer}: {issues[0].detail}", "/model")
    return found.model


def arrays_of(model: Mapping[str, Any], table: Mapping[str, Sequence[Any]], *, response: bool = True) -> dict[str, np.ndarray]:
    """The data of a model's program.

    Args:
        model: settled.
        table: the rows that were fitted, or new ones, by variable (`jobs.programs.tables`).
        response: whether the table holds what is modelled; a prediction needs none.

    Raises:
        UserFault: `dataset_invalid`, where a row holds a level or a group that the fitted rows did not.
    """
    try:
        found = program_data(model, table, response=response)
    except FormulaFault as fault:
        raise UserFault("dataset_invalid", fault.detail, "/data") from fault
    arrays = {name: np.column_stack(values) if is_matrix(name) else np.asarray(values) for name, values in found.items()}
    declared = normalised(model)
    whole = {name for name, item in declared["data"].items() if item["type"] == "int"}
    return program.arrays_of(declared, {name: array.astype(np.int64 if name in whole else float) for name, array in arrays.items()})
