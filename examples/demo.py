"""The main job from end to end on this machine, in a few minutes: `make demo`.

Starts a service and a worker with eight virtual devices, uploads the sources of Python's standard library, trains a byte-level
transformer on a mesh of four by two, kills the training process half-way and watches the job resume and finish, samples eight
schools with four chains, brings the best checkpoint home, checks every digest, and hands it to a script that knows nothing of
Meshyard. Exits non-zero if any step falls short.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from meshyard import Client
from meshyard.local import LocalStack

DEVICES = 8
TEXT_BYTES = 2_000_000
STEPS = 400
CHILD = "worker.child_main"

TRAIN: dict[str, Any] = {
    "kind": "train",
    "name": "stdlib-lm",
    "model": {"type": "transformer", "vocab_size": 256, "dim": 128, "n_layers": 4, "n_heads": 4, "context": 64, "dropout": 0.1},
    "optimizer": {
        "type": "chain",
        "transforms": [
            {"type": "clip_by_global_norm", "max_norm": 1.0},
            {
                "type": "adamw",
                "weight_decay": 0.01,
                "learning_rate": {
                    "type": "warmup_cosine_decay_schedule",
                    "init_value": 0.0,
                    "peak_value": 3e-3,
                    "warmup_steps": 40,
                    "decay_steps": STEPS,
                },
            },
        ],
    },
    "mesh": {"axes": {"data": 4, "model": 2}, "sharding": "fsdp_tp"},
    "steps": STEPS,
    "eval_every": 100,
    "checkpoint": {"every_steps": 50, "keep_latest": 3, "keep_best": {"metric": "eval/loss", "mode": "min", "count": 1}},
}
SCHOOLS: dict[str, Any] = {
    "kind": "mcmc",
    "name": "eight-schools",
    "model": {"type": "eight_schools"},
    "data": {"inline": {"y": [28, 8, -3, 7, -1, 1, 18, 12], "sigma": [15, 10, 16, 11, 9, 11, 10, 18]}},
    "num_chains": 4,
    "mesh": {"axes": {"chains": 4}},
}


def say(text: str) -> None:
    """Tell how far the demo is, with the seconds since it began."""
    print(f"[{time.monotonic() - BEGAN:5.0f} s] {text}", flush=True)


def require(truth: object, complaint: str) -> None:
    """End the demo with a complaint unless something holds."""
    if not truth:
        sys.exit(f"the demo fell short: {complaint}")


def standard_library() -> bytes:
    """Python's own sources: text that every machine has."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    return (
        "\n".join(file.read_text("utf-8", errors="ignore") for file in files)
        .encode()[:TEXT_BYTES]
        .decode("utf-8", "ignore")
        .encode()
    )


def busiest_child(worker: int) -> int | None:
    """The process that computes for a worker: of its children, the one that has used the processors most."""
    spent: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == worker and CHILD in (entry / "cmdline").read_text():
                spent[int(entry.name)] = int(fields[11]) + int(fields[12])
    return max(spent, key=lambda pid: spent[pid], default=None)


def kill_half_way(client: Client, job_id: str, worker: int) -> int:
    """Wait until a job is half done, then end its process with SIGKILL. Gives the step."""
    while True:
        job = client.jobs.get(job_id)
        require(job.status in ("queued", "running"), f"the job is {job.status} before it was half done: {job.error}")
        if job.progress.step is not None and job.progress.step >= STEPS // 2:
            break
        time.sleep(0.1)
    pid = busiest_child(worker)
    require(pid, "no child process was found")
    os.kill(pid or 0, signal.SIGKILL)
    return job.progress.step


def show_progress(client: Client, job_id: str, done: threading.Event) -> None:
    """Print a line whenever the job has come further."""
    shown = None
    while not done.wait(2.0):
        job = client.jobs.get(job_id)
        now = (job.status, job.phase, job.progress.step)
        if now != shown:
            say(f"{job.name}: {job.status} {job.phase or ''} {job.progress.step}/{job.progress.total}")
            shown = now


def train(client: Client, worker: int) -> str:
    """The training job, killed once on its way."""
    dataset = client.datasets.upload(standard_library(), format="text", name="python-stdlib")
    say(f"uploaded {dataset.bytes:,} bytes of Python sources as {dataset.id}")
    job = client.jobs.submit(TRAIN | {"data": {"dataset": dataset.id, "batch_size": 16, "eval_fraction": 0.02, "eval_batches": 20}})
    say(f"posted {job.id}: {STEPS} steps on mesh data=4, model=2")
    done = threading.Event()
    teller = threading.Thread(target=show_progress, args=(client, job.id, done))
    teller.start()
    try:
        step = kill_half_way(client, job.id, worker)
        say(f"killed its process with SIGKILL at step {step}")
        client.jobs.wait(job.id)
    finally:
        done.set()
        teller.join()
    attempts = client.jobs.attempts(job.id)
    require(len(attempts) == 2, f"{len(attempts)} attempts instead of two")
    resumed = attempts[1].resumed_from
    require(resumed, "the second attempt began from nothing")
    say(f"it resumed from step {resumed} and finished: {client.jobs.result(job.id).final}")
    return job.id


def sample(client: Client) -> str:
    """The sampling job."""
    job = client.jobs.submit(SCHOOLS)
    client.jobs.wait(job.id)
    summary = client.jobs.result(job.id).summary
    require(max(row["r_hat"] for row in summary.values()) < 1.05, "the chains have not mixed")
    say(f"sampled eight schools: {len(summary)} quantities, largest R-hat {max(row['r_hat'] for row in summary.values()):.3f}")
    return job.id


def bring_home(client: Client, training: str, sampling: str, folder: Path) -> list[str]:
    """Download the best checkpoint and what belongs to it. Gives the arguments of the script that uses them."""
    checkpoint = Path(client.checkpoints.download(training, "best", to=folder))
    best = client.checkpoints.find(training, "best")
    for file in client.checkpoints.files(training, best.step):
        digest = hashlib.sha256((checkpoint / file.path).read_bytes()).hexdigest()
        require(digest == file.sha256, f"{file.path} came home damaged")
    tensors = client.checkpoints.download_archive(training, best.step, to=folder / "params.safetensors", format="safetensors")
    posterior = client.artifacts.download(sampling, "posterior.nc", to=folder / "posterior.nc")
    say(f"downloaded step {best.step} (eval/loss {best.metrics['eval/loss']:.3f}), every digest checked\n")
    return ["--checkpoint", str(checkpoint), "--safetensors", str(tensors), "--posterior", str(posterior)]


def main() -> None:
    """Run the demo in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="meshyard-demo-") as name, LocalStack(Path(name)) as stack:
        folder = Path(name)
        say(f"a service at {stack.server}")
        worker = stack.start_worker(cpu_devices=DEVICES)
        say(worker.ready)
        with Client(stack.server) as client:
            training = train(client, worker.process.pid)
            sampling = sample(client)
            arguments = bring_home(client, training, sampling, folder)
        script = Path(__file__).with_name("restore.py")
        # The script runs from elsewhere with a clean path: it could not import this project's modules if it tried.
        code = subprocess.run([sys.executable, "-P", str(script), *arguments], cwd=folder, check=False).returncode
        require(code == 0, "the checkpoint could not be used with plain Orbax and plain safetensors")
    say("done")


BEGAN = time.monotonic()

if __name__ == "__main__":
    main()
