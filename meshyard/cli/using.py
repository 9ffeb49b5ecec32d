"""`generate` and `predict`: trained models at work on this machine, posteriors in a job of their own."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meshyard.cli.answer import Answer
from meshyard.cli.command import command
from meshyard.cli.files import bytes_bar, which
from meshyard.cli.following import finish, follow
from meshyard.cli.jobref import resolve
from meshyard.cli.report import UsageFault
from meshyard.cli.session import Output, Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from jobs.programs.trained import Trained
    from meshyard.models import Job, Result

SUFFIXES = (".csv", ".json", ".npz")
OF_DRAWS = (".csv", ".json", ".nc")
POSTERIORS = ("mcmc", "svi")
"""Kinds of job whose draws a job of kind `predict` uses."""

ModelArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="As everywhere, or the folder of a downloaded checkpoint.", show_default=False)
]
TrialOption = Annotated[int | None, typer.Option("--trial", min=0, help="The member of an ensemble.", show_default=False)]
StepOption = Annotated[
    str | None, typer.Option("--step", help="latest, best, or a number.", show_default="best, if one was measured")
]


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    panel = "Using what was trained"
    shown = (
        'meshyard generate char-lm --prompt "ROMEO:" --tokens 200 --temperature 0.8 --top-k 40',
        "meshyard generate ./checkpoints/400 --temperature 0 -o json",
    )
    command(app, "generate", *shown, panel=panel)(generate)
    shown = (
        "meshyard predict iris flowers.csv",
        "meshyard predict @last rows.parquet --to predictions.npz",
        "meshyard predict eight-schools schools.csv --to predictions.nc",
    )
    command(app, "predict", *shown, panel=panel)(predict)


def generate(  # noqa: PLR0913, PLR0917 - every option
    session: Session,
    job: ModelArgument,
    prompt: Annotated[str, typer.Option("--prompt", help="What the text goes on from.")] = "\n",
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="How many to draw.")] = 200,
    temperature: Annotated[float, typer.Option("--temperature", min=0, help="0 takes the likeliest token each time.")] = 1.0,
    top_k: Annotated[int | None, typer.Option("--top-k", min=1, help="Draw among so many of the likeliest only.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="The same text again for the same seed.")] = 0,
    step: StepOption = None,
    trial: TrialOption = None,
) -> Answer:
    """Have a language model go on with a text, computed here from its checkpoint."""
    trained = _trained(session, job, step, trial)
    from jobs.programs.generation import Sampling, generate

    pieces = generate(trained, prompt, Sampling(tokens, temperature, top_k, seed))
    text = "".join(_shown(pieces, prompt) if session.output is Output.TABLE else pieces)
    document = {"object": "generation", "job": trained.card["job"], "step": trained.card["step"], "prompt": prompt, "text": text}
    return Answer(document, [text])


def _shown(pieces: Iterator[str], prompt: str) -> Iterator[str]:
    """The same pieces, each put on standard output as it comes."""
    sys.stdout.write(prompt)
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
        yield piece
    sys.stdout.write("\n")


def predict(
    session: Session,
    job: ModelArgument,
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            exists=True,
            dir_okay=False,
            readable=True,
            help="CSV, Parquet, JSON Lines or npz: with x for a network, with the columns of its data for a posterior.",
        ),
    ],
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            "-d",
            help="File for the predictions: .csv, .json, .npz; .nc for a posterior's.",
            show_default=False,
        ),
    ] = None,
    step: StepOption = None,
    trial: TrialOption = None,
) -> Answer:
    """Have a model predict every row of a file: a network from its checkpoint, here; a posterior from its draws, in a job."""
    source = None if Path(job).is_dir() else session.client.jobs.get(resolve(session.client, job))
    if source is not None and source.kind in POSTERIORS:
        if step is not None or trial is not None:
            raise UsageFault("--step and --trial are for networks: of a posterior all draws are used")
        _check_suffix(to, OF_DRAWS)
        return _from_draws(session, source, data, to)
    _check_suffix(to, SUFFIXES)
    trained = _trained(session, job if source is None else source.id, step, trial)
    from jobs.programs.prediction import predict_file

    arrays = predict_file(trained, data)
    document = {"object": "predictions", "job": trained.card["job"], "step": trained.card["step"], "rows": len(arrays["output"])}
    if to is None:
        return Answer(document | _listed(arrays), show=lambda: _csv(arrays))
    _write(to, arrays, document)
    return Answer(document | {"path": str(to)}, [str(to)], lambda: str(to))


def _check_suffix(to: Path | None, known: tuple[str, ...]) -> None:
    if to is not None and to.suffix.lower() not in known:
        raise UsageFault(f"--to {to}: name it {', '.join(known)}")


def _from_draws(session: Session, source: Job, data: Path, to: Path | None) -> Answer:
    """Upload a file, predict for it with the draws of a job in another one, and show what came of it."""
    from meshyard.cli.views.posterior import result_view

    with bytes_bar(session, data.name, data.stat().st_size) as on_bytes:
        dataset = session.client.datasets.upload(data, on_bytes=on_bytes)
    document = {"kind": "predict", "posterior": {"job": source.id}, "data": {"dataset": dataset.id}}
    job = session.client.jobs.submit(document)
    session.attached = job.id
    job = follow(session, job)
    if job.status != "succeeded":
        return finish(session, job, exit_status=True)
    found = session.client.jobs.result(job)
    if to is None:
        return Answer(found.to_dict(), [job.id], lambda: result_view(found))
    _write_result(session, job, found, to)
    return Answer(found.to_dict() | {"path": str(to)}, [str(to)], lambda: str(to))


def _write_result(session: Session, job: Job, found: Result, to: Path) -> None:
    """Write every draw (.nc), or what the table says of each row."""
    suffix, whole = to.suffix.lower(), "summary.csv"
    if suffix == ".nc":
        session.client.artifacts.download(job, "predictions.nc", to)
    elif suffix == ".json":
        to.write_text(json.dumps(found.to_dict()) + "\n")
    elif any(file.path == whole for file in session.client.artifacts.list(job)):  # where the table is longer than a result may be
        session.client.artifacts.download(job, whole, to)
    else:
        columns = next(iter(found.summary.values())).keys()
        rows = ((name, *("" if row[column] is None else row[column] for column in columns)) for name, row in found.summary.items())
        to.write_text(_table(["name", *columns], rows))


def _trained(session: Session, job: str, step: str | None, trial: int | None) -> Trained:
    from meshyard.trained import fetch, numerical

    programs = numerical()
    if Path(job).is_dir():
        return programs.load(Path(job), trial)
    wanted = None if step is None else which(step)
    return programs.load(fetch(resolve(session.client, job), wanted, client=session.client), trial)


def _listed(arrays: dict[str, Any]) -> dict[str, Any]:
    return {name: array.tolist() for name, array in arrays.items()}


def _csv(arrays: dict[str, Any]) -> str:
    """A column for each number; arrays of more than one axis are spread over numbered ones."""
    columns: dict[str, Any] = {}
    for name, array in arrays.items():
        flat = array.reshape(len(array), -1)
        spread = {name: flat[:, 0]} if array.ndim == 1 else {f"{name}_{i}": flat[:, i] for i in range(flat.shape[1])}
        columns |= spread
    return _table(columns, zip(*(column.tolist() for column in columns.values()), strict=True))


def _table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return sink.getvalue()


def _write(to: Path, arrays: dict[str, Any], document: dict[str, Any]) -> None:
    import numpy as np

    if to.suffix.lower() == ".npz":
        np.savez(to, allow_pickle=False, **arrays)
    else:
        to.write_text(_csv(arrays) if to.suffix.lower() == ".csv" else json.dumps(document | _listed(arrays)) + "\n")
