"""Workers, children and the server are killed at random while many short jobs run: none is lost, stuck, done twice or different.

`MESHYARD_CHAOS_JOBS` and `MESHYARD_CHAOS_KILLS` say how many, `MESHYARD_CHAOS_SECONDS` how far apart, `MESHYARD_CHAOS_SEED` which.
With MESHYARD_TEST_DATABASE=postgresql on PostgreSQL. What was measured on the way is printed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import statistics
import time
from contextlib import suppress
from datetime import datetime
from typing import Any

import httpx

from tests.faults.conftest import StartAgent, StartService
from tests.faults.test_zombies import worker_id
from tests.worker.polling import until
from tests.worker.service_process import SPEC, ServiceProcess

JOBS = int(os.environ.get("MESHYARD_CHAOS_JOBS", "40"))
KILLS = int(os.environ.get("MESHYARD_CHAOS_KILLS", "15"))
SECONDS = float(os.environ.get("MESHYARD_CHAOS_SECONDS", "1.0"))
WORKERS, STEPS, EVERY = 4, 40, 10
LEASE_SECONDS = 3.0

KEEP = {"keep_latest": 1000, "keep_best": None}
SCHOOLS: dict[str, Any] = {
    "kind": "mcmc",
    "model": {"type": "eight_schools"},
    "data": {"builtin": "eight_schools"},
    "num_warmup": 20,
    "num_samples": 20,
    "checkpoint": {"every_draws": EVERY, **KEEP},
}
KINDS = [SPEC | {"steps": STEPS, "checkpoint": {"every_steps": EVERY, **KEEP}}, SCHOOLS]


class Chaos:
    """Kills, and remembers when."""

    def __init__(self, service: ServiceProcess, start: StartAgent, chance: random.Random) -> None:
        self.service, self._start, self._chance = service, start, chance
        self.agents = [start(service) for _ in range(WORKERS)]
        self.kills = {"worker": 0, "child": 0, "server": 0}
        self.killed_at: dict[str, float] = {}
        self._struck: set[str] = set()

    def strike(self) -> None:
        """Kill one of them; what is gone is replaced."""
        what = self._chance.choice(["worker", "child", "child", "server"])
        if what == "child" and not self._strike_child():
            what = "worker"
        if what == "worker":
            self._strike_worker()
        elif what == "server":
            self.service.down(signal.SIGKILL)
            self.service.up()
        self.kills[what] += 1

    def _strike_worker(self) -> None:
        place = self._chance.randrange(WORKERS)
        agent = self.agents[place]
        agent.process.kill()
        agent.process.wait()
        if "ready" in agent.out:
            self.killed_at[worker_id(agent)] = time.time()
        self.agents[place] = self._start(self.service)

    def _strike_child(self) -> bool:
        """Kill a child of a worker whose job this has not happened to: twice at one step, and a job is taken to be at fault."""
        by_id = {worker_id(agent): agent for agent in self.agents if "ready" in agent.out}
        workers = [worker for worker in self.service.get("/v1/workers", limit=100)["data"] if worker["id"] in by_id]
        for worker in self._chance.sample(workers, len(workers)):
            jobs = {each["job_id"] for each in worker["running"]}
            children = by_id[worker["id"]].children()
            if jobs and children and not jobs & self._struck:
                self._struck |= jobs
                with suppress(ProcessLookupError):
                    os.kill(self._chance.choice(children), signal.SIGKILL)
                return True
        return False


def test_kills_of_anything_lose_nothing_and_double_nothing(real: StartService, agent: StartAgent):
    seed = int(os.environ.get("MESHYARD_CHAOS_SEED", "0")) or random.randrange(2**32)
    print(f"seed {seed}: {KILLS} kills over {JOBS} jobs")  # noqa: T201
    service = real(LEASE_SECONDS)
    script = [["compute", STEPS, EVERY, 0.03]]
    jobs = [service.post("/v1/jobs", KINDS[n % 2] | {"metadata": {"script": json.dumps(script)}})["id"] for n in range(JOBS)]
    chaos = Chaos(service, agent, random.Random(seed))
    for _ in range(KILLS):
        time.sleep(SECONDS)  # how far apart the kills are, no wait for anything
        chaos.strike()
    straight = service.post("/v1/jobs", KINDS[0] | {"metadata": {"script": json.dumps(script)}})["id"]
    for job in [*jobs, straight]:
        service.until_status(job, "succeeded", "failed", "cancelled")
    expected = outcome(service, straight)
    for job in jobs:
        assert outcome(service, job) == expected, service.attempts(job)
    print(measured(service, jobs, chaos))  # noqa: T201


def outcome(service: ServiceProcess, job: str) -> dict[str, Any]:
    """What a job has come to, and that it has come to it once."""
    kinds = [event["type"] for event in service.get(f"/v1/jobs/{job}/events", limit=100)["data"]]
    series = service.get(f"/v1/jobs/{job}/metrics", names="train/loss", max_points=10_000)["series"]
    files = service.get(f"/v1/jobs/{job}/artifacts")["data"]
    return {
        "status": service.job(job)["status"],
        "ends": [kind for kind in kinds if kind in ("job.succeeded", "job.failed", "job.cancelled")],
        "result": service.get(f"/v1/jobs/{job}/result"),
        "metrics": [(each["steps"], each["values"]) for each in series],
        "checkpoints": [(each["step"], each["bytes"]) for each in service.get(f"/v1/jobs/{job}/checkpoints")["data"]],
        "artifacts": [(file["path"], file["sha256"]) for file in files],
    }


def measured(service: ServiceProcess, jobs: list[str], chaos: Chaos) -> str:
    """What nobody publishes: silence until it is noticed, steps lost, attempts needed."""
    tries = [attempt for job in jobs for attempt in service.attempts(job)]
    lost = [attempt for attempt in tries if attempt["ending"] == "lost"]
    ended = [attempt for attempt in tries if attempt["cause"] is not None]
    silences = [silence for attempt in lost if (silence := _silence(attempt, chaos.killed_at)) is not None]
    noticed = f"{statistics.median(silences):.1f} s, at most {max(silences):.1f} s" if silences else "none was"
    steps = sum(attempt["steps_lost"] for attempt in ended)
    return (
        f"kills {chaos.kills}, attempts {len(tries)} for {len(jobs)} jobs, lost leases {len(lost)} (lease {LEASE_SECONDS} s)\n"
        f"from the kill of a worker to its job's way back into the queue: median {noticed}\n"
        f"steps lost: {steps} in {len(ended)} attempts that were cut off, {steps / max(1, len(ended)):.1f} each; finished twice: 0"
    )


def _silence(attempt: dict[str, Any], killed_at: dict[str, float]) -> float | None:
    """Seconds from the kill of an attempt's worker until the service had noticed."""
    killed = killed_at.get(attempt["workers"][0])
    return None if killed is None else datetime.fromisoformat(attempt["ended_at"]).timestamp() - killed


def test_a_submit_cut_off_on_its_way_makes_one_job_or_none(real: StartService):
    """A client that hangs up, at any byte of its request, and asks again under the same key has one job."""
    service = real(LEASE_SECONDS)
    body = json.dumps(SPEC).encode()
    for number in range(12):
        key = f"cut-{number}"
        head = f"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\nContent-Type: application/json\r\n"
        request = f"{head}Idempotency-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        send_and_hang_up(service.port, request[: len(request) * (number + 1) // 12])
        answers = [httpx.post(f"{service.url}/v1/jobs", content=body, headers=headers(key), timeout=60) for _ in range(2)]
        assert {reply.status_code for reply in answers} == {201}
        assert len({reply.json()["id"] for reply in answers}) == 1
    until(lambda: len(service.get("/v1/jobs", limit=100)["data"]) == 12)
    assert all(job["status"] == "queued" for job in service.get("/v1/jobs", limit=100)["data"])


def headers(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key, "Content-Type": "application/json"}


def send_and_hang_up(port: int, piece: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(piece)
