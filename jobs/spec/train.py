"""A training job."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from jobs.spec.checkpoint import Every, TrainCheckpoint
from jobs.spec.data import TrainData
from jobs.spec.envelope import Envelope
from jobs.spec.remat import SCHEMA as REMAT
from jobs.spec.stop import TrainStop
from jobs.spec.strict import Document, Name

MOST_STEPS = 10**9
MOST_MEMBERS = 1024


class Ema(Document):
    """An exponential moving average of the parameters, free of the bias to its start."""

    decay: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = Field(
        default=0.999, description="How much of the average is left after a step."
    )


class Export(Document):
    """What is made of the model when training is done, beside its checkpoint."""

    jax_export: bool = Field(
        default=False, description="The forward pass with its parameters as the artifact model.jax_export, readable for six months."
    )


class Train(Envelope):
    """A training job. `model`, `loss` and `optimizer` are fitted to the catalog."""

    kind: Literal["train"] = Field(description='"train".')
    model: Any = Field(description='a model of the catalog, such as {"type": "mlp", "in_features": 2, "out_features": 3}')
    data: TrainData = Field(description='the data to learn from, such as {"dataset": "ds_…"} or {"builtin": "spirals"}')
    loss: Any = Field(default=None, description="What is minimised; left out: the model's own objective.")
    optimizer: Any = Field(description='an optimizer of the catalog, such as {"type": "adamw", "learning_rate": 0.001}')
    grad_accumulation: Annotated[int, Field(ge=1, le=10**6)] = Field(
        default=1, description="Parts that a batch is computed in, one after another."
    )
    ensemble: Annotated[int, Field(ge=1, le=MOST_MEMBERS)] | None = Field(
        default=None, description="Trainings side by side that differ in their seed alone: seed, seed + 1, …"
    )
    ema: Ema | None = Field(default=None, description="An average of the parameters to evaluate and hand out in their place.")
    metrics: Annotated[list[Name], Field(max_length=20)] | None = Field(
        default=None, description="Metrics beside the loss, such as accuracy; left out: the usual one of the loss."
    )
    remat: Annotated[Any, WithJsonSchema(REMAT)] = Field(
        default="none",
        description="Which activations of a block are computed again in the backward pass: a policy, for each block or every k-th.",
    )
    offload: Literal["none", "opt_state"] = Field(
        default="none", description="What lies in the host's memory between steps and is copied to the devices for each."
    )
    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)] = Field(description="the number of optimizer updates, such as 1000")
    eval_every: Every | None = Field(default=None, description="Steps between evaluations; left out: as often as checkpoints.")
    log_every: Every = Field(default=1, description="Steps between metrics.")
    checkpoint: TrainCheckpoint = Field(default=TrainCheckpoint(), description="When the job is saved.")
    export: Export = Field(default=Export(), description="Other forms of the trained model, made at the end.")
    stop: TrainStop = Field(default=TrainStop(), description="When the job ends early.")
