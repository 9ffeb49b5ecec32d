"""From POST to restored checkpoint, through a real service and a real worker."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from safetensors.numpy import load_file

import meshyard
from meshyard import Client, cli
from meshyard.local import LocalStack, Running
from tests import specs
from tests.end_to_end.following import arrays, until, until_step
from tests.end_to_end.jobs import ALONE, long_sampling, long_training, on_text


def test_a_training_job_leaves_metrics_checkpoints_and_a_result(client: Client, trained: str) -> None:
    job = client.jobs.get(trained)
    assert (job.status, job.progress.step, job.error) == ("succeeded", 400, None)
    series = {each.name: each for each in client.jobs.metrics(trained, max_points=10_000).series}
    assert series["train/loss"].steps == list(range(1, 401))
    assert series["eval/loss"].steps == [100, 200, 300, 400]
    losses = [value or 0.0 for value in series["train/loss"].values]
    assert losses[-1] < 0.5 * losses[0]
    assert [each.step for each in client.checkpoints.list(trained)] == list(range(50, 401, 50))
    result = client.jobs.result(trained)
    assert result.final["eval/loss"] == series["eval/loss"].values[-1]
    assert result.best["eval/loss"] == min(value or 0.0 for value in series["eval/loss"].values)


def test_events_tell_the_story_without_a_gap(client: Client, trained: str) -> None:
    events = list(client.jobs.events(trained))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    kinds = [event.type for event in events]
    order = ["job.queued", "attempt.started", "compile.finished", "checkpoint.committed", "job.succeeded"]
    assert [kinds.index(kind) for kind in order] == sorted(kinds.index(kind) for kind in order)


def test_seconds_by_phase_are_kept(client: Client, trained: str) -> None:
    attempt = client.jobs.attempts(trained)[-1]
    assert {"compiling", "training", "evaluating"} <= set(attempt.seconds or {})
    assert (attempt.resumed_from, attempt.steps_lost) == (None, 0)


def test_a_checkpoint_comes_home_whole_in_every_form(client: Client, trained: str, tmp_path: Path) -> None:
    folder = Path(client.checkpoints.download(trained, 400, to=tmp_path))
    assert (folder / "state").is_dir()
    tar = client.checkpoints.download_archive(trained, 400, to=tmp_path / "400.tar")
    assert Path(tar).stat().st_size > sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    tensors = load_file(client.checkpoints.download_archive(trained, 400, to=tmp_path / "p.safetensors", format="safetensors"))
    assert tensors["blocks.0.attention.qkv.kernel"].shape == (32, 3, 8, 4)
    assert list(tensors) == sorted(tensors)
    assert "| eval/loss |" in (folder / "MODEL_CARD.md").read_text()


def test_a_trained_model_comes_home_ready_to_call(client: Client, trained: str, tmp_path: Path) -> None:
    model = meshyard.load(trained, "latest", client=client, to=tmp_path)
    tensors = load_file(client.checkpoints.download_archive(trained, 400, to=tmp_path / "p.safetensors", format="safetensors"))
    np.testing.assert_array_equal(model.embed.embedding.get_value(), tensors["embed.embedding"])
    assert model(np.zeros((1, 16), np.int32)).shape == (1, 16, 256)


def test_a_sampling_job_leaves_a_posterior(client: Client, sampled: str, tmp_path: Path) -> None:
    result = client.jobs.result(sampled)
    assert set(result.summary) == {"mu", "tau", *(f"theta[{i}]" for i in range(8))}
    assert abs(result.summary["mu"]["mean"] - 4.41) < 1.0
    names = [file.path for file in client.artifacts.list(sampled)]
    assert "posterior.nc" in names
    assert Path(client.artifacts.download(sampled, "posterior.nc", to=tmp_path)).stat().st_size > 0


def predicted(stack: LocalStack, job: str, folder: Path, to: str) -> Path:
    """A file of predictions for the eight schools, from the command line."""
    rows = folder / "schools.csv"
    rows.write_text("\n".join(["sigma", *map(str, specs.SCHOOLS["sigma"])]) + "\n")
    assert cli.run(["predict", job, str(rows), "--to", str(folder / to), "--server", stack.server]) == 0
    return folder / to


def test_a_guide_is_fitted_and_predicts_and_starts(stack: LocalStack, client: Client, worker: Running, tmp_path: Path) -> None:
    fitted = client.jobs.wait(client.jobs.submit(specs.fitted()))
    series = {each.name for each in client.jobs.metrics(fitted).series}
    assert {"train/loss", "elbo", "eval/loss", "eval/elbo"} <= series
    result = client.jobs.result(fitted).to_dict()
    assert set(result["summary"]) == {"mu", "tau", *(f"theta[{i}]" for i in range(8))}
    assert "posterior.nc" in [file.path for file in client.artifacts.list(fitted)]
    again = predicted(stack, fitted.id, tmp_path, "predicted.json")
    summary = json.loads(again.read_text())["summary"]
    for name in (f"theta[{i}]" for i in range(8)):
        assert summary[name]["mean"] == pytest.approx(result["summary"][name]["mean"], rel=1e-4)
    kernel = {"type": "NUTS", "inverse_mass_matrix": "init_from"}
    document = specs.schools(kernel=kernel, init_from={"job": fitted.id}, num_warmup=20, num_samples=40)
    started = client.jobs.wait(client.jobs.submit(document))
    assert (started.resolved_spec or {})["init_from"]["what"] == "params"
    chosen = next(event.data for event in client.jobs.events(started) if event.type == "sampler.chosen")
    assert chosen["chain_method"] == "vectorized"


def test_a_sampler_made_longer_has_the_draws_of_one_that_was_longer(client: Client, sampled: str, tmp_path: Path) -> None:
    document = long_sampling(num_samples=350, checkpoint={"every_draws": 100, "keep_latest": 1})
    first = client.jobs.wait(client.jobs.submit(document))
    longer = client.jobs.wait(client.jobs.extend(first, num_samples=250))
    assert longer.parent == meshyard.Parent(job=first.id, relation="extend")
    assert arrays(client, longer.id, 900) == arrays(client, sampled, 900)
    ours, straight = (client.jobs.result(each).to_dict() for each in (longer, sampled))
    assert ours["summary"] == straight["summary"]
    assert ours["diagnostics"] == straight["diagnostics"]
    drawn = [client.artifacts.download(each, "posterior.nc", to=tmp_path / each) for each in (longer.id, sampled)]
    one, other = (xr.open_dataset(path, engine="h5netcdf", group="posterior") for path in drawn)
    assert one.sizes["draw"] == 600
    assert all(np.array_equal(one[name].to_numpy(), other[name].to_numpy()) for name in other.data_vars)


def test_a_posterior_predicts_without_being_sampled_again(
    stack: LocalStack, client: Client, sampled: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = predicted(stack, sampled, tmp_path, "predicted.csv").read_text().splitlines()
    assert table[0].startswith("name,mean,sd,q05")
    assert {f"y[{at}]" for at in range(8)} <= {line.partition(",")[0] for line in table}
    capsys.readouterr()
    assert cli.run(["predict", sampled, str(tmp_path / "schools.csv"), "--server", stack.server]) == 0
    assert "y[7]" in capsys.readouterr().out
    file = predicted(stack, sampled, tmp_path, "predicted.nc")
    drawn = xr.open_datatree(client.artifacts.download(sampled, "posterior.nc", tmp_path), engine="h5netcdf")["posterior"]
    made = xr.open_datatree(file, engine="h5netcdf")["predictions"]
    assert np.allclose(made["theta"], drawn["theta"], rtol=1e-4, atol=1e-4)
    spread = (made["y"] - drawn["theta"].to_numpy()) / np.asarray(specs.SCHOOLS["sigma"])
    assert float(np.std(spread.to_numpy())) == pytest.approx(1.0, abs=0.05)


PLUGIN = """
from flax import nnx


class Net(nnx.Module):
    def __init__(self, width, *, rngs):
        self.first = nnx.Linear(2, width, rngs=rngs)
        self.last = nnx.Linear(width, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.first(x)))
"""


def test_a_model_that_an_operator_installed_waits_for_a_worker_that_has_it(
    stack: LocalStack, client: Client, worker: Running, tmp_path: Path
) -> None:
    (tmp_path / "operators_net.py").write_text(PLUGIN)
    info = tmp_path / "operators_net-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: operators_net\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[meshyard.models]\noperators-net = operators_net:Net\n")
    job = client.jobs.submit(specs.spirals(model={"type": "plugin", "name": "operators-net", "config": {"width": 8}}))
    until(lambda: "plugin:operators-net" in (client.jobs.get(job).reason or ""), "the job says what it waits for")
    found = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    stack.start_worker(PYTHONPATH=found)
    assert client.jobs.wait(job).status == "succeeded"
    assert client.jobs.result(job).final["train/loss"] < 2.0


def test_training_made_longer_ends_with_the_bits_of_one_that_was_longer(client: Client, dataset: str, trained: str) -> None:
    document = long_training(dataset, steps=230)
    first = client.jobs.wait(client.jobs.submit(document))
    longer = client.jobs.wait(client.jobs.extend(first, steps=170))
    assert arrays(client, longer.id, 400) == arrays(client, trained, 400)
    assert client.jobs.result(longer.id).final == client.jobs.result(trained).final


def test_pause_checkpoint_resume_and_cancel(stack: LocalStack, client: Client, dataset: str) -> None:
    worker = stack.start_worker(cpu_devices=1, MESHYARD_LABELS="alone=yes")
    endless = {"steps": 1_000_000, "eval_every": 500_000, "checkpoint": {"every_steps": 500_000}}
    job = client.jobs.submit(on_text(specs.transformer(**endless, **ALONE), dataset))
    until_step(client, job.id, 5)
    client.jobs.checkpoint(job)
    until(lambda: client.checkpoints.list(job), "a checkpoint is listed")
    client.jobs.pause(job)
    until(lambda: client.jobs.get(job).status == "paused", "the job is paused")
    step = client.checkpoints.list(job)[-1].step
    assert client.jobs.get(job).progress.step == step
    client.jobs.resume(job)
    until_step(client, job.id, step + 5)
    assert client.jobs.attempts(job)[-1].resumed_from == step
    client.jobs.cancel(job)
    until(lambda: client.jobs.get(job).status == "cancelled", "the job is cancelled")
    assert client.checkpoints.list(job)[-1].step > step
    worker.stop()


def test_documents_are_learned_with_a_tokenizer_and_evaluated_on_a_dataset_of_their_own(
    stack: LocalStack, client: Client, tmp_path: Path
) -> None:
    worker = stack.start_worker(cpu_devices=4)
    texts = specs.write_text(tmp_path / "text.txt", 20_000).read_text().split("\n")
    paths = {"train": tmp_path / "train.jsonl", "eval": tmp_path / "eval.jsonl"}
    for name, part in {"train": texts[:-20], "eval": texts[-20:]}.items():
        paths[name].write_text("".join(json.dumps({"body": text}) + "\n" for text in part))
    tokenizer = specs.write_tokenizer(tmp_path / "tokenizer.json", "\n".join(texts))
    uploaded = {name: client.datasets.upload(path).id for name, path in paths.items()}
    named = {"type": "tokenizers", "dataset": client.datasets.upload(tokenizer, format="tokenizer").id}
    data = {"dataset": uploaded["train"], "eval_dataset": uploaded["eval"], "args": {"text": "body"}, "tokenizer": named}
    document = specs.transformer(data=data | {"packing": "documents", "separator": "<|end|>", "batch_size": 8}, steps=24)
    document["model"]["vocab_size"] = 300
    job = client.jobs.wait(client.jobs.submit(specs.on_mesh(document, data=4)))
    assert (job.status, job.error) == ("succeeded", None)
    series = {each.name: each for each in client.jobs.metrics(job, max_points=100).series}
    assert len(series["eval/loss"].values) == 6
    assert (series["eval/loss"].values[-1] or 9) < (series["eval/loss"].values[0] or 0)
    again = client.artifacts.download(job, "tokenizer.json", to=tmp_path / "again")
    assert Path(again).read_bytes() == tokenizer.read_bytes()
    worker.stop()
