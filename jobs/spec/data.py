"""The data a job reads: which, and in what portions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, WithJsonSchema
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from jobs.errors import Issue, MeshyardError
from jobs.spec.builtin import NAMES as BUILTIN
from jobs.spec.builtin import describe
from jobs.spec.columns import facts_of_columns, faults_of_columns
from jobs.spec.dataset import DatasetFacts, Format, TokenizerFacts
from jobs.spec.pointers import LONGEST_TOKEN, listed, nearest, quoted
from jobs.spec.strict import Document, Name, as_list, as_object, without_nul

MOST_INLINE_BYTES = 2**20
MOST_ROWS_IN_BATCH = 2**24
SOURCES = ("dataset", "uri", "inline", "builtin")
TOKENIZERS = ("bytes", "char")

FORMAT_OF_ENDING: dict[str, Format] = {
    "txt": "text", "npz": "npz", "csv": "csv", "parquet": "parquet", "jsonl": "jsonl", "array_record": "arrayrecord",
    "arrayrecord": "arrayrecord",
}  # fmt: skip

FindDataset = Callable[[str], DatasetFacts | None]
"""What the service knows of an uploaded dataset; None for an id that it does not have. Given a URI, it may raise DataRefused."""


class DataRefused(MeshyardError):
    """A file that a job names by its URI cannot be read: a code and a sentence."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_TOKEN and "\x00" not in value


def _check_bound(value: Any) -> Any:
    if value is None or _is_name(value):
        return value
    names = as_list(value) or []
    if 0 < len(names) <= 10_000 and all(map(_is_name, names)):
        return names
    raise PydanticCustomError("wrong_type", "must be the name of a column, an array of such names, or null")


def _check_tokenizer(value: Any) -> Any:
    if value is None or value in TOKENIZERS:
        return value
    file = as_object(value)
    if file is not None and file.keys() == {"type", "dataset"} and file["type"] == "tokenizers" and _is_name(file["dataset"]):
        return file
    wanted = '"bytes" or "char", or {"type": "tokenizers", "dataset": "ds_…"} with the id of an uploaded tokenizer.json'
    raise PydanticCustomError("unknown_value", "must be {wanted}", {"wanted": wanted})


_NAME_SCHEMA: JsonDict = {"type": "string", "minLength": 1, "maxLength": LONGEST_TOKEN}
_NAMES_SCHEMA: JsonDict = {"type": "array", "items": _NAME_SCHEMA, "minItems": 1, "maxItems": 10_000}
_COLUMN_SCHEMA: JsonDict = {"type": ["number", "array"], "items": {"type": ["number", "array", "string"]}, "minItems": 1}
_COLUMNS_SCHEMA: JsonDict = {"type": "object", "additionalProperties": _COLUMN_SCHEMA, "minProperties": 1}
_KINDS_OF_SOURCE = {"dataset": "string", "uri": "string", "inline": "object", "builtin": "string"}
_ONE_SOURCE: JsonDict = {
    "oneOf": [{"required": [name], "properties": {name: {"type": kind}}} for name, kind in _KINDS_OF_SOURCE.items()]
}

_TOKENIZER_SCHEMA: JsonDict = {"anyOf": [{"enum": ["bytes", "char"]}, {
    "type": "object", "properties": {"type": {"const": "tokenizers"}, "dataset": _NAME_SCHEMA},
    "required": ["type", "dataset"], "additionalProperties": False}, {"type": "null"}]}  # fmt: skip

Bound = Annotated[Any, AfterValidator(_check_bound), WithJsonSchema({"anyOf": [_NAME_SCHEMA, _NAMES_SCHEMA, {"type": "null"}]})]
Tokenizer = Annotated[Any, AfterValidator(_check_tokenizer), WithJsonSchema(_TOKENIZER_SCHEMA)]
Columns = Annotated[dict[Name, Any], Field(max_length=1000), WithJsonSchema(_COLUMNS_SCHEMA)]
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Separator = Annotated[str, StringConstraints(min_length=1, max_length=1000), AfterValidator(without_nul)]
Uri = Annotated[str, StringConstraints(min_length=1, max_length=2000), AfterValidator(without_nul)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Data(Document):
    """What a job reads: one of `dataset`, `uri`, `inline` and `builtin`."""

    model_config = ConfigDict(json_schema_extra=_ONE_SOURCE)

    dataset: Name | None = Field(default=None, description="The id of an uploaded dataset.")
    uri: Uri | None = Field(
        default=None, description="A file on the service's machine, `file:///…`, below a folder that the operator allows."
    )
    inline: Columns | None = Field(
        default=None,
        description="Columns of numbers by name, at most 1 MiB of JSON; texts, where a formula takes them as levels; single numbers"
        " for a program.",
    )
    builtin: Annotated[Name, WithJsonSchema({"enum": list(BUILTIN)})] | None = Field(
        default=None, description="A dataset of the catalog."
    )
    args: Annotated[dict[Name, Bound], Field(max_length=1000)] | None = Field(
        default=None,
        description="The column, or the columns, of each argument of the model; null: columns bind to arguments of their name.",
    )


class TrainData(Data):
    """What a training job reads, and in what portions."""

    batch_size: Annotated[int, Field(ge=1, le=MOST_ROWS_IN_BATCH)] = Field(
        default=32, description="Samples of one optimizer step, in all."
    )
    shuffle_seed: Seed = Field(default=0, description="Seed of the order of samples.")
    eval_fraction: Fraction = Field(default=0.0, description="The part at the end that is held out for evaluation.")
    eval_batches: Annotated[int, Field(ge=1, le=10**9)] | None = Field(
        default=None, description="Batches of an evaluation; null: all of the part."
    )
    eval_dataset: Name | None = Field(default=None, description="An uploaded dataset to evaluate on, in place of a part.")
    separator: Separator | None = Field(
        default=None,
        description="What ends a document: a text is cut behind it; a column of texts gets it behind each, by default a line end.",
    )
    packing: Literal["stream", "documents"] | None = Field(
        default=None, description='"stream": windows over all text; "documents": whole documents side by side; null: "stream".'
    )
    tokenizer: Tokenizer = Field(
        default=None, description='How text becomes tokens: "bytes", "char", or an uploaded `tokenizers` file; null: "bytes".'
    )

    @property
    def evaluates(self) -> bool:
        """Whether there is anything to evaluate on."""
        return self.eval_fraction > 0 or self.eval_dataset is not None


def find_facts(data: Data, find_dataset: FindDataset) -> tuple[DatasetFacts | None, list[Issue]]:
    """What is known of the data that a job names, or why nothing is."""
    given = [name for name in SOURCES if getattr(data, name) is not None]
    if len(given) != 1:
        detail = (
            f"names no data: give one of {listed(SOURCES)}" if not given else f"names data twice: give only one of {listed(given)}"
        )
        return None, [Issue("/data", "conflict" if given else "missing", detail)]
    if data.uri is not None:
        return _facts_of_uri(data.uri, find_dataset)
    if data.dataset is not None:
        found = _uploaded(data.dataset, find_dataset)
        detail = f"there is no dataset {quoted(data.dataset)}; GET /v1/datasets lists them, POST /v1/datasets uploads one"
        if found is not None and found.tokenizer is not None:
            return None, [
                Issue("/data/dataset", "wrong_kind", "is a tokenizer: name it in data.tokenizer, and a text or a table here")
            ]
        return found, [] if found is not None else [Issue("/data/dataset", "not_found", detail)]
    return _facts_at_hand(data)


def is_uri(reference: str) -> bool:
    """Whether this is a URI, and not an id."""
    return "://" in reference


def format_of_uri(uri: str) -> Format:
    """The format that a file's name ends in.

    Raises:
        DataRefused: it ends in none that is known.
    """
    form = FORMAT_OF_ENDING.get(uri.rpartition(".")[2].lower())
    if form is None:
        raise DataRefused("unknown_format", f"must end in one of {listed(['.' + ending for ending in FORMAT_OF_ENDING])}")
    return form


def _facts_of_uri(uri: str, find_dataset: FindDataset) -> tuple[DatasetFacts | None, list[Issue]]:
    try:
        _check_uri(uri)
        return find_dataset(uri), []
    except DataRefused as refused:
        return None, [Issue("/data/uri", refused.code, refused.detail)]


def _check_uri(uri: str) -> None:
    scheme = uri.partition("://")[0].lower()
    if scheme in ("s3", "gs"):
        raise DataRefused("unsupported", f"{scheme}:// is not read by this version: mount it and use file://, or upload it")
    if not uri.startswith(("file:///", "file://localhost/")) or "?" in uri or "#" in uri:
        raise DataRefused("wrong_format", 'must be "file:///path/of/a/file.csv"')
    format_of_uri(uri)


def _uploaded(dataset_id: str, find_dataset: FindDataset) -> DatasetFacts | None:
    return None if is_uri(dataset_id) else find_dataset(dataset_id)


def find_tokenizer(data: TrainData, find_dataset: FindDataset) -> tuple[TokenizerFacts | None, list[Issue]]:
    """What is known of the tokenizer that a job names by its file; nothing where it names none."""
    named = as_object(data.tokenizer)
    if named is None:
        return None, []
    pointer, found = "/data/tokenizer/dataset", _uploaded(named["dataset"], find_dataset)
    if found is None:
        detail = f"there is no dataset {quoted(named['dataset'])}; upload a tokenizer.json with POST /v1/datasets?format=tokenizer"
        return None, [Issue(pointer, "not_found", detail)]
    if found.tokenizer is None:
        detail = f"is a dataset of format {found.format}, not a tokenizer; upload a tokenizer.json with format=tokenizer"
        return None, [Issue(pointer, "wrong_kind", detail)]
    return found.tokenizer, []


def find_evaluation(data: TrainData, find_dataset: FindDataset) -> tuple[DatasetFacts | None, list[Issue]]:
    """What is known of the dataset that a job evaluates on; nothing where it names none."""
    if data.eval_dataset is None:
        return None, []
    found = _uploaded(data.eval_dataset, find_dataset)
    if found is None:
        detail = f"there is no dataset {quoted(data.eval_dataset)}; GET /v1/datasets lists them, POST /v1/datasets uploads one"
        return None, [Issue("/data/eval_dataset", "not_found", detail)]
    if found.tokenizer is not None:
        return None, [Issue("/data/eval_dataset", "wrong_kind", "is a tokenizer: name data to evaluate on")]
    return found, []


def datasets_beside(data: Mapping[str, Any]) -> dict[str, str]:
    """The uploaded files that a resolved `data` section names beside the data itself: their ids by what they are for."""
    named = {role: data[role]["dataset"] for role in ("tokenizer", "fitted") if as_object(data.get(role)) is not None}
    named["eval"] = data.get("eval_dataset")
    return {role: dataset_id for role, dataset_id in named.items() if dataset_id is not None}


def pointer_of(role: str) -> str:
    """Where a job names the file that it reads for this."""
    return {"tokenizer": "/data/tokenizer/dataset", "eval": "/data/eval_dataset", "fitted": "/posterior/job"}.get(role, "/data")


def part_sizes(length: int, eval_fraction: float) -> tuple[int, int]:
    """How many of `length` samples or tokens are trained on, and how many are held out."""
    held_out = int(length * eval_fraction)
    return length - held_out, held_out


def _facts_at_hand(data: Data) -> tuple[DatasetFacts | None, list[Issue]]:
    if data.builtin is not None:
        if data.builtin in BUILTIN:
            return describe(data.builtin).facts, []
        detail = f"unknown dataset {quoted(data.builtin)}; {nearest(data.builtin, BUILTIN)}"
        return None, [Issue("/data/builtin", "unknown_value", detail)]
    columns = data.inline or {}
    if len(json.dumps(columns, separators=(",", ":"))) > MOST_INLINE_BYTES:
        detail = "is more than 1 MiB of JSON: upload it with POST /v1/datasets and name it in data.dataset"
        return None, [Issue("/data/inline", "too_large", detail)]
    issues = faults_of_columns(columns, "/data/inline")
    return (None, issues) if issues else (facts_of_columns("inline", columns), [])
