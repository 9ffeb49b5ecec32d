"""Code of users on a real worker: what it may do, and what a hostile bundle cannot. The worker goes on with the next job.

All jobs are submitted at once, for two slots: most of the time goes into starting processes. MESHYARD_HOSTILE=all adds more.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from meshyard import Client, JobFailed
from meshyard.local import LocalStack
from tests.jobs.spec.bundles import NET, zipped

SECRET = "the-secret-of-another-project"
LIMITS = {"MESHYARD_CODE": "on", "MESHYARD_CODE_START_SECONDS": "60", "MESHYARD_CODE_MEMORY_GIB": "1.2"}
IMPURE = "import random\n" + NET.replace("return each.mean()", "return each.mean() * (1 + 0 * random.random())")

INTRUDER = """
import ctypes, os, socket, subprocess, sys

def environments():
    for name in [*map(str, range(1, 50000)), str(os.getppid())]:
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                if SECRET.encode() in file.read():
                    return name
        except OSError:
            pass
    raise OSError("nowhere")

def own_environment():
    return [name for name in os.environ if name.startswith("MESHYARD")][0]

def system(call, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(call, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")

ATTEMPTS = {
    "read another's dataset": lambda: open(DATASET).read(),
    "list the artifacts": lambda: os.listdir(ROOT),
    "read the database": lambda: open(DATABASE, "rb").read(),
    "list the compile cache": lambda: os.listdir(CACHE),
    "read the agent's environment": environments,
    "find a setting of ours": own_environment,
    "connect": lambda: socket.create_connection(("127.0.0.1", PORT), 5),
    "make a Unix socket": lambda: socket.socket(socket.AF_UNIX),
    "fork": os.fork,
    "start a program": lambda: subprocess.run(["/bin/true"]),
    "write outside": lambda: open("/tmp/outside", "w"),
    "write into the job's folder": lambda: open(os.path.join(OWN, "outside"), "w"),
    "change its own bundle": lambda: open(__file__, "a"),
    "link to another's dataset": lambda: os.link(DATASET, os.path.join(os.environ["HOME"], "link")),
    "hide memory": lambda: os.memfd_create("x"),
    "enter a user namespace": lambda: system(272, 0x10000000),
    "mount": lambda: system(165, b"none", b"/", b"tmpfs", 0, None),
    "trace": lambda: system(101, 16, os.getppid(), 0, 0),
    "use io_uring": lambda: system(425, 8, None),
    "signal everybody": lambda: os.kill(-1, 0) if os.getppid() else os.kill(os.getppid() or 1, 9),
}

def outcome(attempt):
    try:
        return f"GOT IN {attempt()!r}"[:100]
    except Exception as error:
        return type(error).__name__

raise SystemError(str({name: outcome(attempt) for name, attempt in ATTEMPTS.items()}))
"""

HOARD = "hoard = []\nwhile True:\n    hoard.append("
# name → (source, codes that its job may end with)
GREEDY = {
    "shared memory": (f"import mmap\n{HOARD}mmap.mmap(-1, 64 << 20))\n    hoard[-1].write(b'x' * (64 << 20))", {"oom"}),
    "threads": (
        "import threading, time\nwhile True:\n    threading.Thread(target=time.sleep, args=(99,)).start()",
        {"user_code_error"},
    ),
    "crash": ("import os\nos.abort()", {"child_killed"}),
}
MORE_GREEDY = {
    "memory": (f"{HOARD}bytearray(b'x' * (64 << 20)))", {"oom"}),
    "hang": ("while True: pass", {"user_code_error"}),
    "hang while traced": (NET.replace("logits = model", "while True: pass\n    logits = model"), {"user_code_error"}),
    "exit": ("import os\nos._exit(3)", {"internal"}),
}
if os.environ.get("MESHYARD_HOSTILE") == "all":
    GREEDY |= MORE_GREEDY


def document(client: Client, source: str, **changes):
    own = {"type": "import", "code": client.code.upload(zipped({"own.py": source})).id}
    return {
        "kind": "train",
        "model": own | {"target": "own:Net", "config": {"width": 8}},
        "loss": own | {"target": "own:loss"},
        "data": {"builtin": "spirals", "batch_size": 24, "eval_fraction": 0.2},
        "optimizer": {"type": "adam", "learning_rate": 0.01},
        "steps": 6,
        "checkpoint": {"every_steps": 3},
        "retries": {"max_failures": 0, "max_infra_retries": 0},
    } | changes


POSTERIOR = """
import random
import numpyro
import numpyro.distributions as dist

def model(y, sigma):
    mu = numpyro.sample("mu", dist.Normal(0, 5 + random.random()))
    numpyro.sample("y", dist.Normal(mu, sigma), obs=y)
"""


def posterior(client: Client):
    return {
        "kind": "mcmc",
        "model": {"type": "import", "code": client.code.upload(zipped({"own.py": POSTERIOR})).id, "target": "own:model"},
        "data": {"builtin": "eight_schools"},
        "num_warmup": 200,
        "num_samples": 100,
        "num_chains": 1,
    }


def intruder(stack: LocalStack, dataset: str) -> str:
    root = stack.folder / "artifacts"
    names = {
        "SECRET": SECRET,
        "DATASET": str(root / "datasets" / dataset),
        "ROOT": str(root),
        "OWN": str(root / "jobs"),
        "DATABASE": str(stack.folder / "meshyard.db"),
        "CACHE": str(stack.folder / "work-1" / "0" / "compile-cache"),
        "PORT": int(stack.server.rpartition(":")[2]),
    }
    lines = [f"{name} = {value!r}" if name != "SECRET" else f"SECRET = {value[::-1]!r}[::-1]" for name, value in names.items()]
    return "\n".join(lines) + INTRUDER + NET


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with LocalStack(tmp_path_factory.mktemp("stack"), LIMITS | {"OUR_SECRET": SECRET}) as stack:
        stack.start_worker(cpu_devices=2, MESHYARD_SLOTS="2")
        yield stack


@pytest.fixture(scope="module")
def client(stack):
    with Client(stack.server) as client:
        yield client


@pytest.fixture(scope="module")
def jobs(stack, client):
    """Every job of these tests, submitted at once."""
    other = client.datasets.upload((SECRET + "\n").encode() * 10, format="text")
    sources = {
        "intruder": intruder(stack, other.sha256),
        "own": IMPURE,
        **{name: source if "class Net" in source else f"{source}\n{NET}" for name, (source, _) in GREEDY.items()},
    }
    submitted = {name: client.jobs.submit(document(client, source)) for name, source in sources.items()}
    return submitted | {"posterior": client.jobs.submit(posterior(client))}


def ended(client, job):
    try:
        return client.jobs.wait(job, timeout=300)
    except JobFailed as failure:
        return failure.job


def test_the_worker_tells_how_it_contains(client) -> None:
    worker = next(iter(client.workers.list())).to_dict()
    assert worker["code"]["willing"]
    assert {"files", "calls"} <= set(worker["code"]["measures"])


def test_a_hostile_bundle_gets_nowhere(client, jobs) -> None:
    failed = ended(client, jobs["intruder"])
    assert failed.status == "failed"
    assert failed.error.code == "user_code_error"
    assert failed.error.detail["file"] == "own.py"
    assert "read another's dataset" in failed.error.message
    assert "GOT IN" not in failed.error.message
    assert SECRET not in failed.error.message
    assert not Path("/tmp/outside").exists()


@pytest.mark.parametrize("name", GREEDY)
def test_what_takes_without_end_is_ended(client, jobs, name) -> None:
    failed = ended(client, jobs[name])
    assert failed.status == "failed"
    assert failed.error.code in GREEDY[name][1]


def test_an_own_model_is_trained_and_what_is_impure_told(client, jobs) -> None:
    done = ended(client, jobs["own"])
    assert done.status == "succeeded", done.error
    warned = [event.data for event in client.jobs.events(done) if event.type == "code.warning"]
    assert {warning["code"] for warning in warned} == {"impure_program"}
    assert [checkpoint.step for checkpoint in client.checkpoints.list(done)] == [3, 6]


def test_an_own_posterior_is_sampled_and_what_is_impure_told(client, jobs) -> None:
    done = ended(client, jobs["posterior"])
    assert done.status == "succeeded", done.error
    warned = [event.data for event in client.jobs.events(done) if event.type == "code.warning"]
    assert {(warning["code"], warning["file"]) for warning in warned} >= {("impure_program", "own.py")}
    assert client.jobs.result(done).summary["mu"]["mean"] < 30


def test_the_worker_is_none_the_worse(client, jobs) -> None:
    """After all of them it resumes a job of a user's own, from a checkpoint of one."""
    origin = ended(client, jobs["own"])
    again = document(client, NET, steps=9, init_from={"job": origin.id, "step": 3, "what": "all"})
    assert ended(client, client.jobs.submit(again)).status == "succeeded"
