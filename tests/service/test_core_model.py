"""The whole lifecycle against a plain model in memory: whatever is done in whatever order, the two agree after every step.

`MESHYARD_MODEL_SEQUENCES` says how many sequences, `MESHYARD_MODEL_STEPS` how long each is at most, `MESHYARD_MODEL_SEED` which.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from service.context import Context
from service.db.transaction import Write
from tests.service.core_driver import Api, Attempt, Worker, sampling
from tests.service.lifecycle_model import Lifecycle

SEQUENCES = int(os.environ.get("MESHYARD_MODEL_SEQUENCES", "300"))
STEPS = int(os.environ.get("MESHYARD_MODEL_STEPS", "16"))
THREADS, ACTS = 6, int(os.environ.get("MESHYARD_HISTORY_ACTS", "40"))


def test_the_service_does_what_the_model_does(context: Context):
    class Machine(Lifecycle):
        pass

    Machine.context = _patient(context)
    number = int(os.environ.get("MESHYARD_MODEL_SEED", "0")) or random.randrange(2**32)
    print(f"seed {number}, {SEQUENCES} sequences")  # noqa: T201
    chosen = settings(
        max_examples=SEQUENCES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        print_blob=True,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[*HealthCheck.__members__.values()],
    )
    run_state_machine_as_test(seed(number)(Machine), settings=chosen)


def _patient(context: Context) -> Context:
    """Nothing happens by the clock alone: priority outweighs age, nobody waits long enough for a worker to be kept."""
    changes: dict[str, Any] = {"priority_age_seconds": 1e6, "reserve_after_seconds": 1e9, "lease_seconds": 3600.0}
    return Context(context.settings.model_copy(update=changes), context.database, context.store, context.signals)


def test_histories_of_many_at_once_hold_together(api: Api, context: Context):
    """Users, workers and zombies at the same time, at random: then nothing is lost, doubled or left behind."""
    number = random.randrange(2**32)
    print(f"seed {number}")  # noqa: T201
    ids = [api.submit(sampling(seed=n, retries={"max_infra_retries": 1000}))["id"] for n in range(6)]
    with ThreadPoolExecutor(THREADS) as threads:
        statuses = sum(threads.map(lambda n: _live(api, context, ids, random.Random(number + n)), range(THREADS)), Counter())
    assert not [status for status in statuses if status >= 500], statuses
    for job_id in ids:
        _settle(api, context, job_id)
    for job_id in ids:
        told = api.events(job_id)
        assert [event["seq"] for event in told] == list(range(1, len(told) + 1))
        kinds = Counter(event["type"] for event in told)
        assert sum(kinds[f"job.{end}"] for end in ("succeeded", "failed", "cancelled")) == 1
        tries = api.get(f"/v1/jobs/{job_id}/attempts", params={"limit": 100}).json()["data"]
        assert [each["fence"] for each in tries] == list(range(1, len(tries) + 1))
        assert all(each["ended_at"] for each in tries)
        assert kinds["attempt.started"] == kinds["attempt.ended"] == len(tries)
        # No two attempts at one job overlap: each began when the one before had ended.
        assert all(later["started_at"] >= sooner["ended_at"] for sooner, later in pairwise(tries))
        assert sum(each["ending"] == "succeeded" for each in tries) <= 1
    with Write(context.database) as write:
        assert write.connection.exec_driver_sql("SELECT count(*) FROM leases").scalar_one() == 0


def _live(api: Api, context: Context, ids: list[str], chance: random.Random) -> Counter[int]:
    """One of many: a worker whose attempts may be anybody's by now, and a user beside it."""
    worker, mine = Worker(api), list[Attempt]()
    statuses: Counter[int] = Counter()
    for _ in range(ACTS):
        statuses[_act(api, context, worker, mine, chance.choice(ids), chance)] += 1
    return statuses


def _act(api: Api, context: Context, worker: Worker, mine: list[Attempt], job_id: str, chance: random.Random) -> int:
    verb = chance.choices(["claim", "write", "expire", "pause", "resume", "checkpoint", "cancel"], [6, 8, 2, 2, 3, 1, 0.1])[0]
    if verb == "claim":
        reply = worker.ask()
        if reply.status_code == 200:
            mine.append(Attempt(api, reply.json()))
        return reply.status_code
    if verb == "expire":
        with Write(context.database) as write:
            write.connection.exec_driver_sql("UPDATE leases SET expires_at = 0")
        return 200
    if verb != "write":
        return api.post(f"/v1/jobs/{job_id}/{verb}").status_code
    if not mine:
        return 204
    attempt = chance.choice(mine)  # an old one as likely as the newest
    acts = [lambda: attempt.beat(3), lambda: attempt.report(logs="a line\n"), lambda: attempt.finish("released", 3)]
    return chance.choices([*acts, lambda: attempt.finish("succeeded", 9)], [4, 4, 2, 0.3])[0]().status_code


def _settle(api: Api, context: Context, job_id: str) -> None:
    """Cancel what is left, and have every lease run out."""
    api.post(f"/v1/jobs/{job_id}/cancel")
    with Write(context.database) as write:
        write.connection.exec_driver_sql("UPDATE leases SET expires_at = 0")
    Worker(api).ask()
    assert api.job(job_id)["status"] in ("succeeded", "failed", "cancelled")
