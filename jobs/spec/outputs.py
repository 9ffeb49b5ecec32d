"""What is made of the draws once a job has them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from jobs.spec.strict import Document

MOST_PRIOR_DRAWS = 10**6


class PosteriorOutputs(Document):
    """What is made of the draws beside the table and `posterior.nc`."""

    hdi_prob: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = Field(
        default=0.94, description="Probability of the interval of highest density in the table, `hdi_low` to `hdi_high`."
    )
    zarr: bool = Field(default=False, description="Whether to write the groups of posterior.nc as a Zarr store too.")
    prior_predictive: Annotated[int, Field(ge=0, le=MOST_PRIOR_DRAWS)] = Field(
        default=0, description="How many draws to take from the prior, with what they predict; 0: none."
    )
    posterior_predictive: bool = Field(default=False, description="Whether to draw the data anew with the parameters of each draw.")
    log_likelihood: bool = Field(
        default=False, description="Whether to keep the log likelihood of every observation and draw; LOO and WAIC follow from it."
    )
    plots: bool = Field(default=False, description="Whether to draw the usual plots, as PNG and as numbers for a page.")
