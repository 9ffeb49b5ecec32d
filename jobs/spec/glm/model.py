"""`model: {"type": "glm", …}`: from a formula and a table to a model in which nothing is left open.

The service does this when the job is submitted. Levels, means and scales are the fitted table's, and stay what they were: a
prediction for new rows is coded like the rows that were fitted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobs.errors import Issue
from jobs.spec import builtin
from jobs.spec.binding import told_missing
from jobs.spec.data import Data
from jobs.spec.dataset import ColumnFacts, DatasetFacts
from jobs.spec.glm import priors
from jobs.spec.glm.design import ColumnKind, Frame, Table, is_intercept, is_text
from jobs.spec.glm.expressions import Factor, FormulaFault, Moments, compute, mean_and_spread
from jobs.spec.glm.families import FAMILIES, PARAMETERS, Family, fault_of_values, response_levels
from jobs.spec.glm.formula import Formula, Group, parse
from jobs.spec.glm.priors import Parameter, Scales, parameters_of
from jobs.spec.pointers import count_of, join, listed, nearest, quoted

FORMULA = "/model/formula"
TABLES = ("csv", "jsonl", "npz", "parquet")
MOST_VALUES = 2_000_000
RESERVED = (*PARAMETERS, "coefficients", "cor", "sd")
Kinds = Mapping[str, ColumnKind]
FindTable = Callable[[str, Kinds], Table | None]
"""Columns of an uploaded dataset, or of a file by its URI, each read as what it is; None where they cannot be read."""


def no_table(_reference: str, _kinds: Kinds) -> Table | None:
    """Where there are no files to read."""
    return None


@dataclass
class Settled:
    """What came of a model.

    Attributes:
        model: as a resolved spec holds it; None where it cannot be fitted.
        args: the column of each variable.
        issues: all that is wrong.
        warnings: what its owner may not expect.
    """

    model: dict[str, Any] | None = None
    args: dict[str, str | list[str]] = field(default_factory=dict[str, str | list[str]])
    issues: list[Issue] = field(default_factory=list[Issue])
    warnings: list[Issue] = field(default_factory=list[Issue])


def settle(model: Mapping[str, Any], data: Data, facts: DatasetFacts, find_table: FindTable) -> Settled:
    """Settle a model.

    Args:
        model: the section with the catalog's defaults.
        data: what the job reads.
        facts: what that holds.
        find_table: reads it.
    """
    settling = _Settling(model, data, facts, find_table)
    try:
        settling.run()
    except FormulaFault as fault:
        settling.found.issues.append(Issue(FORMULA, fault.code, fault.detail))
    return settling.found


def frozen_frame(model: Mapping[str, Any], table: Table) -> Frame:
    """A table under a settled model: the one that was fitted, or new rows.

    Raises:
        FormulaFault: new rows hold a level that the fitted ones did not.
    """
    design = model["design"]
    levels = {variable: list(found) for variable, found in design["levels"].items()}
    moments = {name: (mean, spread) for name, (mean, spread) in design["moments"].items()}
    frame = Frame(parse(model["formula"]), table, levels, moments)
    frame.check_levels()
    return frame


def group_name(group: Group) -> str:
    """What a group term's groups are called."""
    return ":".join(group.by)


def response_name(factor: Factor) -> str:
    """The site of a response: the column's name, `log_earn` for `log(earn)`."""
    words = "".join(character if character.isascii() and character.isalnum() else "_" for character in factor.name)
    name = "_".join(part for part in words.split("_") if part)
    return name if name and not name[0].isdigit() else f"y_{name}" if name else "y"


class _Settling:
    """One walk from a section to a settled model."""

    def __init__(self, model: Mapping[str, Any], data: Data, facts: DatasetFacts, find_table: FindTable) -> None:
        self.model, self.data, self.facts, self.find_table = model, data, facts, find_table
        self.family: Family = FAMILIES[model["family"]]
        self.found = Settled()
        self.kinds: dict[str, ColumnKind] = {}

    def run(self) -> None:
        self._check_arguments()
        formula = parse(self.model["formula"])
        self._check_formula(formula)
        self._bind(formula)
        if self.found.issues:
            return
        table = self._table()
        if table is None:
            return
        frame = Frame(formula, {name: table[str(column)] for name, column in self.found.args.items()})
        frame.learn_levels()
        frame.check_work()
        response, levels = self._response(frame)
        if self.found.issues:
            return
        self._finish(frame, response, levels)

    def _fault(self, pointer: str, code: str, detail: str) -> None:
        self.found.issues.append(Issue(pointer, code, detail))

    # -- before the table is read --------------------------------------------------------------------------------------------

    def _check_arguments(self) -> None:
        name, family = self.model["family"], self.family
        if self.model["link"] is not None and self.model["link"] not in family.links:
            self._fault(
                "/model/link", "unknown_value", f"family {name} takes the link {listed(family.links)}; null is {family.links[0]}"
            )
        if name == "binomial" and self.model["trials"] is None:
            self._fault(
                "/model/trials",
                "missing",
                "is required for binomial: a column of the numbers of trials, or one number for all rows",
            )
        if name != "binomial" and self.model["trials"] is not None:
            self._fault("/model/trials", "conflict", f"is for the family binomial, and this one is {name}: leave it out")
        given = self.model["levels"]
        if given is not None and family.kind not in ("binary", "levels"):
            self._fault("/model/levels", "conflict", f"is for responses of levels, and {name} has none: leave it out")
        elif given is not None and len(set(given)) < len(given):
            self._fault("/model/levels", "duplicate", "names a level twice: give each once, in order")

    def _check_formula(self, formula: Formula) -> None:
        if formula.groups and self.model["family"] == "categorical":
            detail = "group-level terms are not known for categorical responses: leave them out, or write a program"
            raise FormulaFault("unsupported", detail, formula.groups[0].column)
        if self.model["family"] == "ordinal" and () not in formula.terms:
            raise FormulaFault("conflict", "an ordinal model has thresholds in the intercept's place: leave 0 and - 1 out", 0)
        named = set(formula.response.variables) & {name for term in formula.terms for name in term}
        if named:
            name = min(named)
            raise FormulaFault(
                "conflict", f"{quoted(name)} stands on both sides: leave it out on the right", formula.factors[name].column
            )
        twice = _first_double([group_name(group) + ":".join(term) for group in formula.groups for term in group.terms or ((),)])
        if twice is not None:
            raise FormulaFault(
                "conflict", "two group-level terms vary the same by the same groups: leave one out", formula.groups[-1].column
            )

    def _bind(self, formula: Formula) -> None:
        """The column of each variable, as given or of the same name, and whether it can be used."""
        wanted = {name: (FORMULA, f"column {column + 1}: ") for name, column in formula.variables.items()}
        if isinstance(self.model["trials"], str):
            wanted.setdefault(self.model["trials"], ("/model/trials", ""))
        given = self.data.args or {}
        for at, name in enumerate(name for name in given if name not in wanted):
            detail = f"the formula has no variable {quoted(name)}; {nearest(name, wanted, before=at)}"
            self._fault(join("/data/args", name), "unknown_argument", detail)
        columns = {column.name: column for column in self.facts.columns}
        for at, (name, (pointer, lead)) in enumerate(wanted.items()):
            column = given.get(name) or name
            where, begin = (join("/data/args", name), "") if given.get(name) is not None else (pointer, lead)
            if not isinstance(column, str):
                self._fault(where, "wrong_shape", "a variable of a formula is one column")
            elif column not in columns:
                detail = f"{begin}the data has no column {quoted(column)}; {nearest(column, columns, before=at)}"
                self._fault(where, "unknown_column", detail)
            else:
                self.found.args[name] = column
                self.kinds[name] = _kind(columns[column])
                self.found.issues += _faults_of_column(columns[column], where, begin)
        self._check_rows(columns)

    def _check_rows(self, columns: Mapping[str, ColumnFacts]) -> None:
        if self.found.issues:
            return
        lengths = {columns[str(column)].shape[0] for column in self.found.args.values()}
        if len(lengths) > 1:
            self._fault(
                "/data", "mismatch", f"the columns of the formula differ in length: {listed(map(str, sorted(lengths)))} rows"
            )
        elif max(lengths) * len(self.found.args) > MOST_VALUES:
            detail = f"the formula's columns hold {max(lengths) * len(self.found.args)} values, and at most {MOST_VALUES} are taken"
            self._fault("/data", "too_large", f"{detail}: use fewer rows")

    def _table(self) -> Table | None:
        if self.facts.format not in TABLES:
            self._fault(
                "/data", "wrong_kind", f"is {self.facts.format}, and a formula is about a table: csv, parquet, jsonl or npz"
            )
            return None
        kinds: dict[str, ColumnKind] = {str(column): self.kinds[variable] for variable, column in self.found.args.items()}
        if self.data.inline is not None:
            return {name: self.data.inline[name] for name in kinds}
        if self.data.builtin is not None:
            return {name: builtin.columns(self.data.builtin)[name] for name in kinds}
        table = self.find_table(self.data.uri or self.facts.id, kinds)
        if table is None:
            self._fault("/data", "unreadable", "the table could not be read again; submit the job once more")
        return table

    # -- with the table ------------------------------------------------------------------------------------------------------

    def _response(self, frame: Frame) -> tuple[list[float], list[Any] | None]:
        """The response as numbers, and its levels in order where it has any."""
        factor, table = frame.formula.response, frame.table
        raw = table[next(iter(factor.variables))] if factor.plain and factor.variables else None
        levels: list[Any] | None = None
        if raw is not None:
            levels, fault = response_levels(self.family, raw, self.model["levels"])
            if fault is not None:
                raise FormulaFault("out_of_range", f"{quoted(factor.name)} {fault}", factor.column)
        if raw is not None and levels is not None:
            places = {level: float(at) for at, level in enumerate(levels)}
            return [places[value] for value in raw], levels
        if self.family.kind == "levels" or (raw is not None and is_text(raw)):
            wanted = "a column of levels" if raw is None else "numbers, and this column holds texts"
            detail = f"{quoted(factor.name)}: family {self.model['family']} models {wanted}"
            raise FormulaFault("not_numeric", detail, factor.column)
        values = compute(factor, table, {})
        fault = fault_of_values(self.family, values, self._trials(frame))
        if fault is not None:
            raise FormulaFault("out_of_range", f"{quoted(factor.name)} {fault}; {_hint(self.model['family'])}", factor.column)
        return values, None

    def _trials(self, frame: Frame) -> Sequence[float] | None:
        trials = self.model["trials"]
        if trials is None:
            return None
        if isinstance(trials, int):
            return [float(trials)] * frame.rows
        values = frame.table[trials]
        row = next((row for row, value in enumerate(values) if isinstance(value, str) or value < 0 or value != int(value)), None)
        if row is not None:
            self._fault("/model/trials", "out_of_range", f"must be counts, and row {row + 1} holds {quoted(values[row])}")
        return [0.0 if isinstance(value, str) else float(value) for value in values] if row is None else None

    def _finish(self, frame: Frame, response: list[float], levels: list[Any] | None) -> None:
        design, measured = self._design(frame, levels)
        parameters = list(parameters_of(self.model, design))
        self._check_names(parameters, frame.formula)
        scales = _scales(self.model, response, self._spreads(frame, measured))
        settled, faults = priors.settle(parameters, self.model["priors"], scales)
        self.found.issues += faults
        self.found.warnings += _remarks(design, measured, frame.rows, settled)
        if self.model["design"] not in (None, design):
            self._fault("/model/design", "mismatch", "is not what this formula makes of this table: leave it out, and it is found")
        link = self.model["link"] or self.family.links[0]
        if not self.found.issues:
            self.found.model = {**self.model, "link": link, "priors": settled, "design": design}

    def _design(self, frame: Frame, levels: list[Any] | None) -> tuple[dict[str, Any], dict[str, Moments]]:
        """What is frozen of the table, and mean and spread of every column."""
        columns = frame.columns()
        intercept = bool(columns) and is_intercept(columns[0])
        measured = {column.name: mean_and_spread(frame.values(column)) for column in columns if not is_intercept(column)}
        groups = [self._group(frame, group) for group in frame.formula.groups]
        design = {
            "response": {"site": response_name(frame.formula.response), "levels": levels},
            "intercept": intercept,
            "columns": list(measured),
            "means": [mean if intercept else 0.0 for mean, _ in measured.values()],
            "offset": frame.offset() is not None,
            "kinds": dict(self.kinds),
            "levels": frame.levels,
            "moments": {name: list(pair) for name, pair in frame.moments.items()},
            "groups": groups,
        }
        return design, measured

    def _group(self, frame: Frame, group: Group) -> dict[str, Any]:
        columns = frame.columns_of(group)
        for column in columns:
            frame.values(column)
        return {
            "name": group_name(group),
            "by": list(group.by),
            "levels": frame.groups_of(group),
            "columns": [column.name for column in columns],
            "correlated": group.correlated and len(columns) > 1,
        }

    def _spreads(self, frame: Frame, measured: Mapping[str, tuple[float, float]]) -> dict[str, float]:
        """Standard deviations by column, those of group-level terms included."""
        found = {name: spread or 1.0 for name, (_, spread) in measured.items()}
        for group in frame.formula.groups:
            for column in frame.columns_of(group):
                if column.name not in found:
                    found[column.name] = 1.0 if is_intercept(column) else mean_and_spread(frame.values(column))[1] or 1.0
        return found

    def _check_names(self, parameters: list[Parameter], formula: Formula) -> None:
        """Names of columns that are also names of parameters, or of the response."""
        own = {response_name(formula.response), *RESERVED}
        names = [parameter.name for parameter in parameters if "coefficients" in parameter.classes]
        wrong = next((name for name in names if name in own or name.startswith("_")), None)
        if wrong is not None:
            at = formula.factors[wrong].column if wrong in formula.factors else 0
            detail = f"a coefficient cannot be called {quoted(wrong)}, which is a name of the model's own or begins with _"
            raise FormulaFault(
                "conflict", f'{detail}: rename the variable and bind it, as in data.args {{"x": {quoted(wrong)}}}', at
            )
        twice = _first_double([parameter.name for parameter in parameters])
        if twice is not None:
            raise FormulaFault("conflict", f"two parameters would be called {quoted(twice)}: rename a variable with data.args", 0)


def _kind(column: ColumnFacts) -> ColumnKind:
    if column.dtype == "string":
        return "text"
    return "bool" if column.dtype == "bool" else "number"


def _faults_of_column(column: ColumnFacts, pointer: str, lead: str) -> Iterator[Issue]:
    if len(column.shape) != 1 or column.dtype == "ragged":
        yield Issue(pointer, "wrong_shape", f"{lead}{quoted(column.name)} is not one plain column")
    elif column.missing:
        yield Issue(pointer, "missing_values", f"{lead}{told_missing(column)}")
    elif not column.dtype.startswith(("int", "uint", "float", "bool", "string")):
        yield Issue(pointer, "not_numeric", f"{lead}{quoted(column.name)} holds neither numbers nor texts")


def _scales(model: Mapping[str, Any], response: Sequence[float], columns: Mapping[str, float]) -> Scales:
    mean, spread = mean_and_spread(response)
    family = FAMILIES[model["family"]]
    if (model["link"] or family.links[0]) == "identity":
        return Scales(mean, spread or 1.0, spread or 1.0, columns)
    location = math.log(mean) if (model["link"] or family.links[0]) == "log" and mean > 0 else 0.0
    return Scales(location, 1.0, spread or 1.0, columns)


def _remarks(
    design: Mapping[str, Any], measured: Mapping[str, Moments], rows: int, settled: Mapping[str, Any]
) -> Iterator[Issue]:  # fmt: skip
    for name, (_, spread) in measured.items():
        if spread == 0 and design["intercept"]:
            detail = f"{quoted(name)} is the same in every row, which the intercept is already: its prior alone decides about it"
            yield Issue(FORMULA, "constant_column", detail)
    flat = sum(prior == "flat" for name, prior in settled.items() if name in measured or name == "Intercept")
    if flat > rows:
        detail = f"{count_of(flat, 'coefficient')} with flat priors, and {count_of(rows, 'row')}: the posterior is not proper"
        yield Issue(priors.POINTER, "improper", f"{detail}; leave the priors out, or use more data")


def _first_double(names: Sequence[str]) -> str | None:
    return next((name for at, name in enumerate(names) if name in names[:at]), None)


def _hint(family: str) -> str:
    return {
        "bernoulli": "encode it so, or use binomial for numbers of successes",
        "poisson": "use gaussian for measurements",
        "negative_binomial": "use gaussian for measurements",
        "binomial": "mend that row",
    }[family]
