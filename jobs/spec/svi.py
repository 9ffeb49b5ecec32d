"""A job that fits a family of distributions to a posterior."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from jobs.spec.checkpoint import Every, TrainCheckpoint
from jobs.spec.data import Data
from jobs.spec.envelope import Envelope
from jobs.spec.outputs import PosteriorOutputs
from jobs.spec.stop import TrainStop

MOST_STEPS = 10**9
MOST_DRAWS = 10**7


class Svi(Envelope):
    """Stochastic variational inference. `model`, `guide`, `optimizer` and `loss` are fitted to the catalog."""

    kind: Literal["svi"] = Field(description='"svi".')
    model: Any = Field(description='a model of the catalog, such as {"type": "eight_schools"}')
    data: Data = Field(description='what was observed, such as {"builtin": "eight_schools"}')
    guide: Any = Field(default={"type": "AutoNormal"}, description="The family that is fitted.")
    optimizer: Any = Field(default={"type": "adam", "learning_rate": 0.01}, description="How it is fitted.")
    loss: Any = Field(default={"type": "Trace_ELBO"}, description="What is minimised: an estimate of the negative ELBO.")
    reparam: Any = Field(default=None, description="Other forms of sites: by name, or auto.")
    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)] = Field(default=2000, description="Optimizer updates.")
    num_samples: Annotated[int, Field(ge=1, le=MOST_DRAWS)] = Field(
        default=1000, description="Draws from what was fitted, for the result."
    )
    eval_every: Every | None = Field(
        default=None, description="Steps between evaluations; left out: as often as checkpoints, null: none."
    )
    eval_particles: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=100, description="Draws from the guide that an evaluation averages over."
    )
    outputs: PosteriorOutputs = Field(default=PosteriorOutputs(), description="What is made of the draws.")
    log_every: Every = Field(default=10, description="Steps between metrics.")
    checkpoint: TrainCheckpoint = Field(default=TrainCheckpoint(), description="When the job is saved.")
    stop: TrainStop = Field(default=TrainStop(), description="When the job ends early.")
