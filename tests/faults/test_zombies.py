"""A worker that sleeps past its lease and wakes: another has done its work, and nothing that it says or does counts any more.

`MESHYARD_ZOMBIE_ROUNDS` says how often.
"""

from __future__ import annotations

import os
import re
import signal
from typing import Any

from tests.faults.conftest import StartAgent, StartService
from tests.worker.agent_process import AgentProcess
from tests.worker.polling import is_running, until
from tests.worker.service_process import ServiceProcess

ROUNDS = int(os.environ.get("MESHYARD_ZOMBIE_ROUNDS", "3"))
SCRIPT = [["steps", 1, 3], ["checkpoint", 3], ["once", "pid"], ["once", "chatter"], ["steps", 4, 6], ["checkpoint", 6]]


def everything(service: ServiceProcess, job: str) -> dict[str, Any]:
    """All that can be seen of a job."""
    parts = ("events", "attempts", "metrics", "checkpoints", "artifacts")
    return {part: service.get(f"/v1/jobs/{job}/{part}") for part in parts} | {"job": service.job(job), "log": service.log(job)}


def refused(service: ServiceProcess) -> int:
    """How many writes for attempts have been refused with 409."""
    found = re.findall(r'requests_total\{.*route="/v1/attempts/\S*".*status="409".*\} (\S+)', service.content("/metrics").decode())
    return int(sum(map(float, found)))


def worker_id(agent: AgentProcess) -> str:
    found = re.search(r"worker (wrk_\w+) ready", agent.out)
    assert found
    return found[1]


def test_what_a_zombie_writes_is_refused_and_changes_nothing(real: StartService, agent: StartAgent):
    service = real(lease_seconds=1.0)
    agents = [agent(service).ready() for _ in range(2)]
    by_id = {worker_id(each): each for each in agents}
    rounds = 0
    for number in range(3 * ROUNDS):
        rounds += haunt(service, by_id, number)
        if rounds == ROUNDS:
            break
    assert rounds == ROUNDS


def haunt(service: ServiceProcess, by_id: dict[str, AgentProcess], number: int) -> bool:
    """One round. False if the machine was so busy that the first attempt lost its lease by itself."""
    job = service.submit(SCRIPT, name=f"round {number}")
    until(lambda: "chatter" in service.log(job) or service.job(job)["status"] == "succeeded")
    first = service.attempts(job)[0]
    if first["ended_at"] is not None:
        service.until_status(job, "succeeded")
        return False
    frozen = by_id[first["workers"][0]]
    child = int(service.log(job).split("pid ")[1].split()[0])
    frozen.signal(signal.SIGSTOP)
    try:
        service.until_status(job, "succeeded")
        before, refusals = everything(service, job), refused(service)
    finally:
        frozen.signal(signal.SIGCONT)
    until(lambda: refused(service) > refusals)
    until(lambda: not is_running(child))
    # It works again, and not before its old child is gone.
    until(lambda: f"{first['id']} is over" in frozen.err)
    claims = [line for line in frozen.err.splitlines() if "claimed" in line or "is over" in line]
    assert first["id"] in next(line for line in reversed(claims) if first["id"] in line and "is over" in line)
    assert everything(service, job) == before
    told = [event["type"] for event in before["events"]["data"]]
    assert told.count("job.succeeded") == 1
    assert [attempt["fence"] for attempt in before["attempts"]["data"]] == list(range(1, len(before["attempts"]["data"]) + 1))
    assert sum("99" in str(series["values"]) for series in before["metrics"]["series"] if series["steps"][-1] > 6) == 0
    return True
