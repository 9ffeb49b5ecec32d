"""The program that a sampling job's model is, or is translated into."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel
from sqlalchemy.engine import Connection

from jobs.spec.glm.translate import as_program
from service.db.queries import jobs
from service.domain.errors import Conflict, NotFound


class NoProgram(Conflict):
    """A job's model is none that a program stands for."""

    code = "no_program"


class JobProgram(BaseModel):
    """The program that a job samples.

    `model` is a `model` section of type `program`. For a formula `design` tells what its data holds: the columns of `_X` (less
    their `means`), the levels of every categorical variable, and for group-level term i the groups that `_g<i>` counts and the
    columns of `_Z<i>`. It is null for a program that the job was given.
    """

    object: Literal["program"] = "program"
    job: str
    model: dict[str, Any]
    design: dict[str, Any] | None


def program_of(connection: Connection, project: str, job_id: str) -> JobProgram:
    """A job's program.

    Raises:
        NotFound: no such job.
        NoProgram: its model is a function of the catalog or a user's own, or it trains.
    """
    job = jobs.get(connection, project, job_id)
    if job is None:
        raise NotFound("There is no such job.")
    model: dict[str, Any] = job.resolved_spec["model"]
    if model["type"] == "glm":
        return JobProgram(job=job_id, model=as_program(model), design=model["design"])
    if model["type"] == "program":
        return JobProgram(job=job_id, model=model, design=None)
    detail = f"The model {model['type']} is no program: only jobs with a model of type glm or program have one."
    raise NoProgram(detail)
