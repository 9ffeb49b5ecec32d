"""A settled regression as a `program`, and its data: what is sampled is what anybody could have written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jobs.spec.glm.coding import shown
from jobs.spec.glm.design import Frame, Table, is_intercept
from jobs.spec.glm.expressions import compute
from jobs.spec.glm.families import likelihood
from jobs.spec.glm.model import frozen_frame

Statement = dict[str, Any]
Model = Mapping[str, Any]


def as_program(model: Model) -> dict[str, Any]:
    """The program of a settled model. Its data is what `program_data` gives."""
    return _Translation(model).program()


def program_data(model: Model, table: Table, *, response: bool = True) -> dict[str, Any]:
    """The data of a model's program: arrays as lists, columns of matrices side by side.

    Args:
        model: settled.
        table: the fitted rows, or new ones, by variable.
        response: whether the table holds what is modelled; a prediction needs none.

    Raises:
        FormulaFault: a row holds what the fitted ones did not.
    """
    frame = frozen_frame(model, table)
    design = model["design"]
    found: dict[str, Any] = {}
    columns = [column for column in frame.columns() if not (design["intercept"] and is_intercept(column))]
    if columns:
        means = design["means"]
        found["_X"] = [[value - mean for value in frame.values(column)] for column, mean in zip(columns, means, strict=True)]
    offset = frame.offset()
    if offset is not None:
        found["_offset"] = list(offset)
    if model["trials"] is not None:
        trials = model["trials"]
        found["_trials"] = [int(value) for value in table[trials]] if isinstance(trials, str) else [trials] * frame.rows
    for at, group in enumerate(design["groups"]):
        found[f"_g{at}"] = list(frame.indices(frame.formula.groups[at], group["levels"]))
        if group["columns"] != ["Intercept"]:
            found[f"_Z{at}"] = [list(frame.values(column)) for column in frame.columns_of(frame.formula.groups[at])]
    if response:
        found[design["response"]["site"]] = _response(model, frame)
    return found


def is_matrix(name: str) -> bool:
    """Whether data of this name holds columns, each a list."""
    return name == "_X" or name.startswith("_Z")


def _response(model: Model, frame: Frame) -> Sequence[float]:
    factor, levels = frame.formula.response, model["design"]["response"]["levels"]
    if levels is None:
        return compute(factor, frame.table, {})
    places = {level: at for at, level in enumerate(levels)}
    return [places[value] for value in frame.table[next(iter(factor.variables))]]


class _Translation:
    """Statement by statement."""

    def __init__(self, model: Model) -> None:
        self.model, self.design, self.priors = model, model["design"], model["priors"]
        self.family: str = model["family"]
        self.site: str = self.design["response"]["site"]
        self.columns: list[str] = self.design["columns"]
        self.body: list[Statement] = []

    def program(self) -> dict[str, Any]:
        terms = self._categories() if self.family == "categorical" else [*self._population(), *self._groups()]
        if self.design["offset"]:
            terms.append("_offset")
        self.body.append({"let": "_eta", "value": " + ".join(terms) or "zeros(_N)"})
        self._add_parameters()
        rows: Statement = {"sample": self.site, "distribution": likelihood(self.family, self.model["link"]), "observed": self.site}
        self.body.append({"plate": "_rows", "size": "_N", "body": [rows]})
        return {"type": "program", "data": self._declarations(), "body": self.body}

    def _declarations(self) -> dict[str, Any]:
        whole = self.family not in ("gaussian", "student_t")
        declared: dict[str, Any] = {self.site: {"type": "int" if whole else "real", "shape": ["_N"]}}
        if self.columns:
            declared["_X"] = {"shape": ["_N", len(self.columns)]}
        if self.design["offset"]:
            declared["_offset"] = {"shape": ["_N"]}
        if self.model["trials"] is not None:
            declared["_trials"] = {"type": "int", "shape": ["_N"], "lower": 0}
        for at, group in enumerate(self.design["groups"]):
            declared[f"_g{at}"] = {"type": "int", "shape": ["_N"], "lower": 0, "upper": len(group["levels"]) - 1}
            if group["columns"] != ["Intercept"]:
                declared[f"_Z{at}"] = {"shape": ["_N", len(group["columns"])]}
        return declared

    # -- the population ------------------------------------------------------------------------------------------------------

    def _population(self) -> list[str]:
        """Intercept (or thresholds) and slopes. Predictors are centred, so the sampled intercept is the one at their means."""
        terms: list[str] = []
        if self.columns:
            self._add_vector("_b", self.columns)
            terms.append("_X @ _b")
            self.body.append({"let": "_means", "value": self.design["means"]})
        shift = " - dot(_means, _b)" if self.columns else ""
        if self.family == "ordinal":
            self._add_thresholds(shift.replace("-", "+"))
        elif self.design["intercept"]:
            self._sample("_Intercept", self.priors["Intercept"])
            self.body.append({"deterministic": "Intercept", "value": f"_Intercept{shift}"})
            terms.insert(0, "_Intercept")
        self._name(self.columns, "_b")
        return terms

    def _add_thresholds(self, shift: str) -> None:
        size = len(self.design["response"]["levels"]) - 1
        prior = self.priors["threshold"]
        flat = {"type": "ImproperUniform", "support": "ordered_vector", "batch_shape": [], "event_shape": [size]}
        drawn = (
            {"distribution": flat} if prior == "flat" else {"shape": [size], "constraint": "ordered_vector", "distribution": prior}
        )
        self.body.append({"sample": "_threshold", **drawn})
        self.body.append({"deterministic": "threshold", "value": f"_threshold{shift}"})

    def _categories(self) -> list[str]:
        """A predictor for each level but the first, whose own is 0."""
        levels = [shown(level) for level in self.design["response"]["levels"][1:]]
        width, term = len(levels), ""
        if self.design["intercept"]:
            self._add_vector("_Intercept", [f"Intercept[{level}]" for level in levels])
            term = "_Intercept"
        if self.columns:
            names = [f"{column}[{level}]" for column in self.columns for level in levels]
            self._add_vector("_b", names)
            self.body.append({"let": "_B", "value": f"reshape(_b, ({len(self.columns)}, {width}))"})
            self.body.append({"let": "_means", "value": self.design["means"]})
            term += " + _X @ _B" if term else "_X @ _B"
        if self.design["intercept"]:
            self.body.append({"let": "_I", "value": "_Intercept - _means @ _B" if self.columns else "_Intercept"})
            self._name([f"Intercept[{level}]" for level in levels], "_I")
        if self.columns:
            self._name([f"{column}[{level}]" for column in self.columns for level in levels], "_b")
        self.body.append({"let": "_others", "value": f"zeros((_N, {width})) + {term}" if term else f"zeros((_N, {width}))"})
        return ["concatenate([zeros((_N, 1)), _others], 1)"]

    # -- groups --------------------------------------------------------------------------------------------------------------

    def _groups(self) -> list[str]:
        return [self._group(at, group) for at, group in enumerate(self.design["groups"])]

    def _group(self, at: int, group: Mapping[str, Any]) -> str:
        """One group-level term, non-centred: standard normal draws, scaled, and correlated where the term says so."""
        names = [f"sd_{group['name']}__{column}" for column in group["columns"]]
        size, count = len(group["levels"]), len(names)
        self._add_vector(f"_s{at}", names)
        self._name(names, f"_s{at}")
        standard = {"type": "Normal", "loc": 0.0, "scale": 1.0, "expand": [size, count], "to_event": 2}
        self.body.append({"sample": f"_z{at}", "distribution": standard})
        mixed = f"_z{at} * _s{at}"
        if group["correlated"]:
            concentration = self.priors[f"cor_{group['name']}"]["concentration"]
            self.body.append(
                {"sample": f"_L{at}", "distribution": {"type": "LKJCholesky", "dimension": count, "concentration": concentration}}
            )
            mixed = f"_z{at} @ transpose(expand_dims(_s{at}, 1) * _L{at})"
            self._name_correlations(at, group)
        self.body.append({"let": f"_r{at}", "value": mixed})
        for place, column in enumerate(group["columns"]):
            self.body.append({"deterministic": f"r_{group['name']}__{column}", "value": f"_r{at}[:, {place}]"})
        return f"_r{at}[_g{at}, 0]" if group["columns"] == ["Intercept"] else f"sum(_r{at}[_g{at}] * _Z{at}, 1)"

    def _name_correlations(self, at: int, group: Mapping[str, Any]) -> None:
        columns = group["columns"]
        for one in range(len(columns)):
            for other in range(one + 1, len(columns)):
                name = f"cor_{group['name']}__{columns[one]}__{columns[other]}"
                self.body.append({"deterministic": name, "value": f"dot(_L{at}[{one}], _L{at}[{other}])"})

    # -- what all have in common ---------------------------------------------------------------------------------------------

    def _add_parameters(self) -> None:
        for name in ("sigma", "nu", "shape"):
            if name in self.priors and self.family in ("gaussian", "student_t", "negative_binomial"):
                self._sample(name, self.priors[name], positive=True)

    def _sample(self, name: str, prior: Any, *, positive: bool = False, size: int | None = None) -> None:
        if prior == "flat":
            shape = [] if size is None else [size]
            prior = {
                "type": "ImproperUniform",
                "support": "positive" if positive else "real",
                "batch_shape": shape,
                "event_shape": [],
            }
        self.body.append({"sample": name, "distribution": prior | ({} if size is None else {"to_event": 1})})

    def _add_vector(self, name: str, names: Sequence[str]) -> None:
        """One site for many parameters: a vector for each type of prior, put together in order."""
        kinds: dict[tuple[str, ...], list[int]] = {}
        for at, parameter in enumerate(names):
            prior = self.priors[parameter]
            kinds.setdefault(("flat",) if prior == "flat" else (prior["type"], *sorted(set(prior) - {"type"})), []).append(at)
        parts: list[str] = []
        for number, (kind, places) in enumerate(kinds.items()):
            part = name if len(kinds) == 1 else f"{name}_{number}"
            chosen = [self.priors[names[place]] for place in places]
            stacked = (
                "flat" if kind == ("flat",) else {"type": kind[0], **{key: [prior[key] for prior in chosen] for key in kind[1:]}}
            )
            self._sample(part, stacked, size=len(places))
            parts.append(part)
        if len(kinds) > 1:
            drawn = [place for places in kinds.values() for place in places]
            order = [drawn.index(place) for place in range(len(names))]
            self.body.append({"let": name, "value": f"concatenate([{', '.join(parts)}])[{order}]"})

    def _name(self, names: Sequence[str], vector: str) -> None:
        self.body += [{"deterministic": name, "value": f"{vector}[{at}]"} for at, name in enumerate(names)]
