"""A child's messages as its agent reads them (`channel.py` tells what each means).

The child may run code of a user, so nothing it says is taken unread: a line that does not fit ends the attempt.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from jobs.errors import MeshyardError
from jobs.preflight import Findings
from jobs.protocol import Ending, Failure, Happened, MetricName, RelativePath, Step
from jobs.spec.strict import Document, Json, Name, Text

Nonfinite = Literal["NaN", "Infinity", "-Infinity"]
Value = float | Nonfinite


class Misspoken(MeshyardError):
    """A child's line is not a message."""


class Devices(Document):
    """The devices the child has opened."""

    type: Literal["devices"]
    platform: Name
    device_kind: Name
    count: int


class Phased(Document):
    """A phase begins."""

    type: Literal["phase"]
    phase: Name
    step: Step
    seconds: dict[Name, float] = Field(default_factory=dict[str, float])


class Progress(Document):
    """A step is done on the devices."""

    type: Literal["progress"]
    step: Step
    seconds: dict[Name, float] = Field(default_factory=dict[str, float])


class Metrics(Document):
    """Columns of values at some steps."""

    type: Literal["metrics"]
    steps: list[Step]
    labels: dict[Name, Text] = Field(default_factory=dict[str, str])
    values: dict[MetricName, list[Value]]

    @model_validator(mode="after")
    def _of_one_length(self) -> Self:
        for name, column in self.values.items():
            if len(column) != len(self.steps):
                raise ValueError(f"{len(column)} values of {name} at {len(self.steps)} steps")
        return self


class Checkpointed(Document):
    """A checkpoint is whole on disk. `outputs`: all outputs of the job up to its step."""

    type: Literal["checkpoint"]
    step: Step
    metrics: dict[MetricName, Value | None] = Field(default_factory=dict[str, Value | None])
    outputs: list[RelativePath] = Field(default_factory=list[str])


class Kept(Document):
    """Files of the folder of outputs that are whole, to be listed, with the event that tells of them."""

    type: Literal["artifacts"]
    paths: list[RelativePath]
    event: Annotated[str, Field(max_length=100)]
    data: dict[str, Json] = Field(default_factory=dict[str, Json])

    def happened(self) -> Happened:
        """The event as the service hears it."""
        return Happened(type=self.event, data=self.data)


class Eventful(Document):
    """Something to be told among the job's events."""

    type: Literal["event"]
    event: Annotated[str, Field(max_length=100)]
    data: dict[str, Json] = Field(default_factory=dict[str, Json])

    def happened(self) -> Happened:
        """The same as the service hears it."""
        return Happened(type=self.event, data=self.data)


class Handled(Document):
    """A command has been carried out."""

    type: Literal["handled"]
    command: Name


class Found(Document):
    """What a look at a spec found; the last message of a preflight."""

    type: Literal["found"]
    found: Findings


class End(Document):
    """The last message."""

    type: Literal["end"]
    ending: Ending
    step: Step
    error: Failure | None = None
    seconds: dict[Name, float] = Field(default_factory=dict[str, float])
    result: dict[str, Json] | None = None
    artifacts: list[RelativePath] = Field(default_factory=list[str])


Heard = Devices | Phased | Progress | Metrics | Checkpointed | Kept | Eventful | Handled | Found | End

_READER: TypeAdapter[Heard] = TypeAdapter(Annotated[Heard, Field(discriminator="type")])


def read(line: bytes) -> Heard:
    """The message of a line.

    Raises:
        Misspoken: it is none.
    """
    try:
        # No text of ours may hold NUL: PostgreSQL cannot keep it.
        return _READER.validate_json(line.replace(b"\\u0000", b"\\ufffd"))
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise Misspoken(f"{place or 'line'}: {fault['msg']}") from error
