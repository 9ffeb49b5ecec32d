"""A sampling job."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from jobs.spec.checkpoint import McmcCheckpoint
from jobs.spec.data import Data
from jobs.spec.envelope import Envelope
from jobs.spec.outputs import PosteriorOutputs
from jobs.spec.stop import McmcStop

MOST_DRAWS = 10**9
MOST_CHAINS = 2**16


class Mcmc(Envelope):
    """A sampling job. `model` and `kernel` are fitted to the catalog."""

    kind: Literal["mcmc"] = Field(description='"mcmc".')
    model: Any = Field(description='a model of the catalog, such as {"type": "eight_schools"}')
    data: Data = Field(description='what was observed, such as {"builtin": "eight_schools"}')
    kernel: Any = Field(default={"type": "NUTS"}, description="How chains move.")
    reparam: Any = Field(default=None, description="Other forms of sites: by name, or auto.")
    num_warmup: Annotated[int, Field(ge=0, le=MOST_DRAWS)] = Field(
        default=1000, description="Transitions of each chain to adapt in."
    )
    num_samples: Annotated[int, Field(ge=1, le=MOST_DRAWS)] = Field(
        default=1000, description="Transitions of each chain after those."
    )
    num_chains: Annotated[int, Field(ge=1, le=MOST_CHAINS)] = Field(default=4, description="Chains in all.")
    thinning: Annotated[int, Field(ge=1, le=MOST_DRAWS)] = Field(default=1, description="Keep every so manyth draw.")
    chain_method: Literal["auto", "vectorized", "parallel", "sequential"] = Field(
        default="auto", description="How chains run that share a device: together, or one after another; auto chooses and says why."
    )
    checkpoint: McmcCheckpoint = Field(default=McmcCheckpoint(), description="When the job is saved.")
    stop: McmcStop = Field(default=McmcStop(), description="When the job ends early.")
    outputs: PosteriorOutputs = Field(default=PosteriorOutputs(), description="What is made of the draws.")
