"""The retry policy, as a table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobs.errors import FAULT_OF_CODE, NEVER_RETRIED
from jobs.protocol import Failure
from jobs.states import Phase, Status
from service.domain.endings import DEADLINE, LOST, End, Spent, decide

FRESH = Spent(failures=0, infra_retries=0, max_failures=0, max_infra_retries=100)
RUNNING = Status.RUNNING


def failed(code: str, *, again: bool = False) -> End:
    return End("failed", 10, Failure(code=code, message="It broke."), "att_1", again)


def test_success_is_success():
    verdict = decide(RUNNING, None, FRESH, End("succeeded", 10, None, "att_1"))
    assert (verdict.status, verdict.error, verdict.failures, verdict.infra_retries) == (Status.SUCCEEDED, None, 0, 0)


@pytest.mark.parametrize("ending", ["released", "paused", "cancelled"])
def test_handing_back_costs_nothing(ending):
    verdict = decide(RUNNING, None, FRESH, End(ending, 10, None, "att_1"))
    assert (verdict.status, verdict.phase, verdict.wait_seconds) == (Status.QUEUED, Phase.PREEMPTED, 0)
    assert (verdict.failures, verdict.infra_retries) == (0, 0)


def test_a_lost_lease_is_tried_again_at_once():
    verdict = decide(RUNNING, None, FRESH, End("lost", 10, LOST, "att_1"))
    assert (verdict.status, verdict.wait_seconds, verdict.failures, verdict.infra_retries) == (Status.QUEUED, 0, 0, 1)


def test_lost_leases_end_a_job_when_the_budget_is_spent():
    verdict = decide(RUNNING, None, replace(FRESH, max_infra_retries=0), End("lost", 10, LOST, "att_1"))
    assert verdict.status == Status.FAILED
    assert verdict.error is not None
    told = {key: verdict.error[key] for key in ("code", "fault", "retryable", "attempt_id", "param")}
    assert told == {"code": "worker_lost", "fault": "infra", "retryable": True, "attempt_id": "att_1", "param": None}


@pytest.mark.parametrize("code", sorted(NEVER_RETRIED))
def test_some_codes_are_never_tried_again(code):
    verdict = decide(RUNNING, None, replace(FRESH, max_failures=9), failed(code))
    assert verdict.status == Status.FAILED
    assert verdict.error is not None
    assert (verdict.error["code"], verdict.error["retryable"]) == (code, False)


@pytest.mark.parametrize(
    "code", sorted(code for code, fault in FAULT_OF_CODE.items() if fault == "user" and code not in NEVER_RETRIED)
)
def test_a_fault_of_the_job_spends_its_own_budget(code):
    spent = replace(FRESH, max_failures=2)
    for failures in range(2):
        verdict = decide(RUNNING, None, replace(spent, failures=failures), failed(code))
        assert (verdict.status, verdict.phase, verdict.failures, verdict.infra_retries) == (
            *(Status.QUEUED, Phase.BACKOFF),
            *(failures + 1, 0),
        )
    verdict = decide(RUNNING, None, replace(spent, failures=2), failed(code))
    assert (verdict.status, verdict.error and verdict.error["fault"]) == (Status.FAILED, "user")


@pytest.mark.parametrize("code", ["child_killed", "stalled", "storage_failed", "internal", "preempted", "no_such_code"])
def test_other_faults_spend_the_other_budget(code):
    verdict = decide(RUNNING, None, FRESH, failed(code))
    assert (verdict.status, verdict.failures, verdict.infra_retries) == (Status.QUEUED, 0, 1)


@pytest.mark.parametrize(
    ("code", "retries", "least", "most"),
    [
        ("child_killed", 0, 0, 0),
        ("child_killed", 1, 0.5, 1),
        ("child_killed", 2, 1, 2),
        ("child_killed", 50, 30, 60),
        ("stalled", 0, 0.5, 1),
        ("stalled", 1, 1, 2),
        ("storage_failed", 90, 30, 60),
        ("checkpoint_corrupt", 5, 0, 0),
        ("worker_lost", 5, 0, 0),
    ],
)
def test_waiting_doubles_up_to_a_minute(code, retries, least, most):
    for _ in range(50):
        verdict = decide(RUNNING, None, replace(FRESH, infra_retries=retries), failed(code))
        assert verdict.status == Status.QUEUED
        assert least <= verdict.wait_seconds <= most
        assert verdict.phase == (Phase.BACKOFF if most else Phase.WAITING_CAPACITY)


def test_the_same_step_killing_twice_is_the_jobs_own_fault():
    verdict = decide(RUNNING, None, FRESH, failed("child_killed", again=True))
    assert verdict.status == Status.FAILED
    assert verdict.error is not None
    assert (verdict.error["code"], verdict.error["fault"], verdict.error["retryable"]) == ("child_killed", "user", False)
    assert "same step" in verdict.error["message"]


def test_a_defect_of_ours_that_repeats_is_not_tried_for_ever():
    verdict = decide(RUNNING, None, FRESH, failed("internal", again=True))
    assert (verdict.status, verdict.error and verdict.error["fault"]) == (Status.FAILED, "service")


def test_storage_that_fails_twice_at_one_step_is_tried_again():
    assert decide(RUNNING, None, FRESH, failed("storage_failed", again=True)).status == Status.QUEUED


def test_a_failure_without_a_reason_is_ours():
    verdict = decide(RUNNING, None, replace(FRESH, max_infra_retries=0), End("failed", 10, None, "att_1"))
    assert (verdict.status, verdict.error and verdict.error["code"]) == (Status.FAILED, "internal")


@pytest.mark.parametrize("ending", ["cancelled", "failed", "lost", "released", "paused"])
def test_a_job_out_of_time_fails(ending):
    verdict = decide(RUNNING, DEADLINE, FRESH, End(ending, 10, None, "att_1"))
    assert verdict.status == Status.FAILED
    assert verdict.error is not None
    assert (verdict.error["code"], verdict.error["param"], verdict.error["fault"]) == (
        "deadline_exceeded",
        "/timeout_seconds",
        "user",
    )


def test_a_job_that_succeeds_at_the_last_moment_has_succeeded():
    assert decide(RUNNING, DEADLINE, FRESH, End("succeeded", 10, None, "att_1")).status == Status.SUCCEEDED


@pytest.mark.parametrize(("status", "target"), [(Status.PAUSING, Status.PAUSED), (Status.CANCELLING, Status.CANCELLED)])
@pytest.mark.parametrize("ending", ["succeeded", "failed", "paused", "cancelled", "released", "lost"])
def test_a_job_that_is_to_stop_stops(status, target, ending):
    verdict = decide(status, "cancel", FRESH, End(ending, 10, None, "att_1"))
    assert (verdict.status, verdict.error, verdict.infra_retries) == (target, None, 0)


def test_a_killed_child_that_keeps_coming_further_is_tried_again_at_once():
    spent = replace(FRESH, infra_retries=9)
    cause = Failure(code="child_killed", message="Killed.")
    assert decide(RUNNING, None, spent, End("failed", 10, cause, "att_1", kept=True)).wait_seconds == 0.0
    assert decide(RUNNING, None, spent, End("failed", 10, cause, "att_1", kept=False)).wait_seconds > 0.0


def test_a_state_that_cannot_be_kept_is_tried_twice():
    first, second = failed("checkpoint_failed"), failed("checkpoint_failed", again=True)
    verdict = decide(RUNNING, None, FRESH, first)
    assert (verdict.status, verdict.phase, verdict.infra_retries) == (Status.QUEUED, Phase.BACKOFF, 1)
    verdict = decide(RUNNING, None, FRESH, second)
    assert (verdict.status, verdict.error["code"], verdict.error["fault"]) == (Status.FAILED, "checkpoint_failed", "infra")
    assert verdict.error["message"].endswith("The attempt before could not keep its state either, so it is not tried again.")
    assert decide(RUNNING, None, FRESH, replace(second, kept=True)).status == Status.QUEUED
