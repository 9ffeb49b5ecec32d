"""A plain model of a job's whole life, and a machine that does the same to it and to the service and compares the two.

The model is the contract once more, in as few words as possible and without a database.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import func, insert, select, update

from jobs.ids import new_id
from jobs.protocol import Assignment, Claim, Failure, Finish, Heartbeat, Report
from jobs.states import Phase
from service.context import Context
from service.db.queries import attempts as attempt_rows
from service.db.queries import workers as worker_rows
from service.db.tables import attempts, events, jobs, leases, projects, workers
from service.db.transaction import Read, Write
from service.domain import attempts as held_attempts
from service.domain import conclusion, control, queue, submission, sweeper
from service.domain.callers import local
from service.domain.errors import IllegalTransition, Superseded
from service.domain.idempotency import ticket
from service.domain.lifecycle import Change
from tests.service.core_driver import OFFERS, sampling

TERMINAL = {"succeeded", "failed", "cancelled"}
ACTIVE = {"running", "pausing", "cancelling"}
BEATEN = {"checkpoint": "checkpoint", "pause": "pause", "cancel": "cancel", "drain": "drain", None: "continue"}
USERS, NEVER, INFRA = "nan_loss", "oom", "stalled"
CODES = [USERS, NEVER, INFRA, "child_killed", "checkpoint_corrupt", "what is this"]
DEVICES, SLOTS = (2, 2, 4), (1, 1, 2)
WANTS = st.tuples(st.integers(-1, 1), st.sampled_from([1, 2, 4]), st.integers(0, 1), st.sampled_from([0, 9]))
"""Priority, devices, `max_failures` and `max_infra_retries` of a job."""


@dataclass
class Job:
    """All that matters of a job."""

    priority: int
    devices: int
    max_failures: int
    max_infra: int
    came: int
    status: str = "queued"
    command: str | None = None
    sequence: int = 0
    attempt: str | None = None
    worker: int | None = None
    attempts: int = 0
    failures: int = 0
    infra: int = 0
    resumed: bool = False
    waits: bool = False
    """It is in backoff."""
    before: tuple[str, int] | None = None
    """Code and step of the end of the last attempt."""
    over: bool = False
    """The lease of its attempt has run out."""

    def queue(self, *, waits: bool = False) -> None:
        """Back into the queue."""
        self.status, self.waits = "queued", waits
        self.leave()

    def leave(self) -> None:
        """Nobody runs it any more."""
        self.attempt = self.worker = self.command = None
        self.over = False

    def end(self, ending: str, code: str | None, step: int) -> None:
        """The attempt that holds it has ended."""
        again = code is not None and self.before == (code, step)
        self.before = None if code is None else (code, step)
        if self.status in ("pausing", "cancelling"):
            self.status = {"pausing": "paused", "cancelling": "cancelled"}[self.status]
            self.leave()
        elif ending == "succeeded":
            self.status = "succeeded"
            self.leave()
        elif code is None:
            self.queue()
        else:
            self._fail(code, again=again)

    def _fail(self, code: str, *, again: bool) -> None:
        repeated = again and code in ("child_killed", "internal")
        self.failures += code == USERS and not repeated
        self.infra += code not in (USERS, NEVER) and not repeated
        if code == NEVER or repeated or self.failures > self.max_failures or self.infra > self.max_infra:
            # What is refused is not spent.
            self.failures -= code == USERS and not repeated
            self.infra -= code not in (USERS, NEVER) and not repeated
            self.status = "failed"
            self.leave()
            return
        at_once = code in ("worker_lost", "checkpoint_corrupt") or (code == "child_killed" and self.infra < 2)
        self.queue(waits=not at_once)


@dataclass
class Given:
    """An attempt as its worker knows it."""

    id: str
    job: str
    fence: int
    batch: int = 0
    ending: str | None = None
    """What its worker has said of its end, and the service has taken."""


@dataclass
class Here:
    """A worker."""

    id: str
    devices: int
    slots: int
    draining: bool = False
    given: list[Given] = field(default_factory=list)


class Lifecycle(RuleBasedStateMachine):
    """Does to the service what may be done, in any order, and to the model the same."""

    context: Context

    def __init__(self) -> None:
        super().__init__()
        self.project = new_id("prj")
        self.jobs: dict[str, Job] = {}
        self.workers: list[Here] = []
        self.ended: list[Given] = []
        self.ticks = 0

    # -- the two sides -------------------------------------------------------------------------------------------------------

    def change(self, act: Any) -> Any:
        """One transaction of the service."""
        with Write(self.context.database) as write:
            return act(Change(write, self.context))

    def refused(self, kind: type[Exception], act: Any) -> None:
        """What the service must refuse."""
        try:
            self.change(act)
        except kind:
            return
        raise AssertionError(f"{kind.__name__} was expected")

    def tick(self) -> int:
        self.ticks += 1
        return self.ticks

    def pick(self, data: st.DataObject, *statuses: str) -> tuple[str, Job]:
        """Some job, of one of these statuses where any are named."""
        found = sorted(key for key, job in self.jobs.items() if not statuses or job.status in statuses)
        key = data.draw(st.sampled_from(found), label="job")
        return key, self.jobs[key]

    def holding(self) -> list[Given]:
        return [given for worker in self.workers for given in worker.given if self.jobs[given.job].attempt == given.id]

    def any_is(self, *statuses: str) -> bool:
        return any(job.status in statuses for job in self.jobs.values())

    def forget(self, given: Given) -> None:
        """An attempt is not held any more: its worker becomes a zombie as far as it is concerned."""
        for worker in self.workers:
            worker.given = [each for each in worker.given if each.id != given.id]
        self.ended.append(given)

    # -- setting out ---------------------------------------------------------------------------------------------------------

    @initialize(wants=st.lists(WANTS, min_size=2, max_size=4))
    def set_out(self, wants: list[tuple[int, int, int, int]]) -> None:
        def act(change: Change) -> None:
            change.connection.execute(insert(projects).values(id=self.project, name=self.project, created_at=0))
            for number, (devices, slots) in enumerate(zip(DEVICES, SLOTS, strict=True)):
                row = {"id": f"{self.project}-{number}", "project": self.project, "all_projects": False, "platform": "cpu"}
                row |= {"device_kind": "cpu", "device_count": devices, "slots": slots, "memory_bytes": 2**34, "labels": {}}
                worker_rows.add(change.connection, row | {"versions": {}, "catalog_digest": "0", "status": "active"}, OFFERS)
                self.workers.append(Here(row["id"], devices, slots))

        self.change(act)
        for each in wants:
            self._submit(*each)

    # -- users ---------------------------------------------------------------------------------------------------------------

    @rule(wants=WANTS)
    def submit(self, wants: tuple[int, int, int, int]) -> None:
        self._submit(*wants)

    def _submit(self, priority: int, devices: int, failures: int, infra: int) -> None:
        document = sampling(num_chains=devices, mesh={"axes": {"chains": devices}}, priority=priority)
        document["retries"] = {"max_failures": failures, "max_infra_retries": infra}
        asked = ticket(self.project, "POST /v1/jobs", None, document)
        key = self.change(lambda change: submission.submit(change, self.project, document, asked)).body["id"]
        self.jobs[key] = Job(priority, devices, failures, infra, self.tick())

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), save=st.booleans())
    def cancel(self, data: st.DataObject, save: bool) -> None:
        key, job = self.pick(data)
        if job.status in ("succeeded", "failed"):
            self.refused(IllegalTransition, lambda change: control.cancel(change, self.project, key, save=save))
            return
        self.change(lambda change: control.cancel(change, self.project, key, save=save))
        if job.status not in ("cancelling", "cancelled"):
            self._order(job, "cancel", "cancelling", "cancelled")

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), save=st.booleans())
    def pause(self, data: st.DataObject, save: bool) -> None:
        key, job = self.pick(data)
        if job.status in TERMINAL | {"cancelling"}:
            self.refused(IllegalTransition, lambda change: control.pause(change, self.project, key, save=save))
            return
        self.change(lambda change: control.pause(change, self.project, key, save=save))
        if job.status not in ("pausing", "paused"):
            self._order(job, "pause", "pausing", "paused")

    def _order(self, job: Job, command: str, on_its_way: str, there: str) -> None:
        job.sequence += 1
        job.status, job.command = (on_its_way, command) if job.attempt else (there, None)
        job.waits = False

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        key, job = self.pick(data)
        if job.status != "paused" and not (job.resumed and job.status in ("queued", "running")):
            self.refused(IllegalTransition, lambda change: control.resume(change, self.project, key))
            return
        self.change(lambda change: control.resume(change, self.project, key))
        if job.status == "paused":
            job.queue()
            job.resumed, job.came = True, self.tick()

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def checkpoint(self, data: st.DataObject) -> None:
        key, job = self.pick(data)
        if job.status != "running":
            self.refused(IllegalTransition, lambda change: control.checkpoint(change, self.project, key))
            return
        self.change(lambda change: control.checkpoint(change, self.project, key))
        if job.command is None:
            job.command, job.sequence = "checkpoint", job.sequence + 1

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), priority=st.integers(-2, 2))
    def reprioritize(self, data: st.DataObject, priority: int) -> None:
        key, job = self.pick(data)
        self.change(lambda change: control.patch(change, self.project, key, {"priority": priority}))
        job.priority = priority

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), retrying=st.booleans())
    def again(self, data: st.DataObject, retrying: bool) -> None:
        key, job = self.pick(data)
        asked = ticket(self.project, f"POST {key}", None, None)
        act = submission.retry if retrying else submission.clone
        if retrying and job.status not in TERMINAL:
            self.refused(IllegalTransition, lambda change: act(change, self.project, key, asked))
            return
        new = self.change(lambda change: act(change, self.project, key, asked)).body["id"]
        self.jobs[new] = Job(job.priority, job.devices, job.max_failures, job.max_infra, self.tick())

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        key, job = self.pick(data)
        if job.status not in TERMINAL:
            self.refused(IllegalTransition, lambda change: control.delete(change, self.project, key))
            return
        self.change(lambda change: control.delete(change, self.project, key))
        del self.jobs[key]
        self.ended = [given for given in self.ended if given.job != key]

    # -- workers -------------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.any_is("queued"))
    @rule(number=st.integers(0, 2))
    def claim(self, number: int) -> None:
        worker = self.workers[number]
        mine = [job for job in self.jobs.values() if job.worker == number]
        if worker.slots == 1 and mine and not mine[0].over:
            return  # a worker with one slot asks when its slot is empty
        if not worker.draining:  # what gets nothing anyhow looks after nobody
            self._sweep()
        caller = replace(local(), project=self.project)
        given = self.change(lambda change: queue.claim(change, caller, worker.id, Claim(devices=worker.devices)))
        expected = self._expected(number)
        if expected is None:
            assert given is None, "there was nothing for this worker"
            return
        assert isinstance(given, Assignment), "there was a job for this worker"
        assert given.job_id == expected, "it was another one's turn"
        job = self.jobs[expected]
        job.attempts += 1
        job.status, job.attempt, job.worker, job.command = "running", given.attempt_id, number, None
        worker.given.append(Given(given.attempt_id, given.job_id, given.fence))

    @precondition(lambda self: self.any_is("queued"))
    @rule(number=st.integers(0, 2))
    def claim_too(self, number: int) -> None:
        """Nothing happens without a claim: it is tried more often than the rest."""
        self.claim(number)

    def _expected(self, number: int) -> str | None:
        worker = self.workers[number]
        mine = [job for job in self.jobs.values() if job.worker == number]
        free = worker.devices - sum(job.devices for job in mine) if len(mine) < worker.slots else 0
        if worker.draining:
            return None
        fit = [(key, job) for key, job in self.jobs.items() if job.status == "queued" and not job.waits and job.devices <= free]
        return min(fit, key=lambda each: (-each[1].priority, each[1].came))[0] if fit else None

    @precondition(lambda self: self.holding())
    @rule(data=st.data(), step=st.integers(0, 3), handles=st.booleans())
    def beat(self, data: st.DataObject, step: int, handles: bool) -> None:
        given = data.draw(st.sampled_from(self.holding()), label="attempt")
        job = self.jobs[given.job]
        handled = job.sequence if handles else 0
        beat = Heartbeat(fence=given.fence, step=step, phase=Phase.SAMPLING, handled=handled)
        answer = self.change(lambda change: held_attempts.renew(change, given.id, beat))
        if job.command == "checkpoint" and handles:
            job.command = None
        job.over = False
        assert answer.command == (BEATEN[job.command] if job.sequence > handled else "continue")

    @precondition(lambda self: self.holding())
    @rule(data=st.data())
    def report(self, data: st.DataObject) -> None:
        given = data.draw(st.sampled_from(self.holding()), label="attempt")
        given.batch += 1
        report = Report(fence=given.fence, batch=given.batch, logs="a line\n")
        self.change(lambda change: held_attempts.report(change, given.id, report))

    @precondition(lambda self: self.holding())
    @rule(data=st.data(), ending=st.sampled_from(["succeeded", "released", "paused", "cancelled"]))
    def finish(self, data: st.DataObject, ending: Any) -> None:
        self._finish(data.draw(st.sampled_from(self.holding()), label="attempt"), ending, None, 3)

    @precondition(lambda self: self.holding())
    @rule(data=st.data(), code=st.sampled_from(CODES), step=st.integers(0, 1))
    def fail(self, data: st.DataObject, code: str, step: int) -> None:
        self._finish(data.draw(st.sampled_from(self.holding()), label="attempt"), "failed", code, step)

    def _finish(self, given: Given, ending: Any, code: str | None, step: int) -> None:
        error = None if code is None else Failure(code=code, message="It broke.")
        outcome = Finish(fence=given.fence, ending=ending, step=step, error=error)
        job = self.jobs[given.job]
        told = self.change(lambda change: conclusion.finish(change, given.id, outcome))
        job.end(ending, code, step)
        given.ending = ending
        self.forget(given)
        assert told.status == job.status
        if job.waits:  # until time is let pass, however slow the machine
            later = update(jobs).where(jobs.c.id == given.job).values(available_at=jobs.c.available_at + 3_600_000_000)
            self.change(lambda change: change.connection.execute(later))

    # -- what goes wrong -----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.holding())
    @rule(data=st.data())
    def fall_silent(self, data: st.DataObject) -> None:
        given = data.draw(st.sampled_from(self.holding()), label="attempt")
        over = update(leases).where(leases.c.attempt_id == given.id).values(expires_at=0)
        self.change(lambda change: change.connection.execute(over))
        self.jobs[given.job].over = True

    @precondition(lambda self: any(job.over for job in self.jobs.values()))
    @rule()
    def sweep(self) -> None:
        self.change(sweeper.sweep)
        self._sweep()

    def _sweep(self) -> None:
        for given in self.holding():
            job = self.jobs[given.job]
            if job.over:
                step = self._step_of(given)
                job.end("lost", "worker_lost", step)
                self.forget(given)

    def _step_of(self, given: Given) -> int:
        with Read(self.context.database) as read:
            row = attempt_rows.get(read.connection, given.id)
        assert row is not None
        return row.step

    @precondition(lambda self: self.ended)
    @rule(data=st.data(), what=st.sampled_from(["beat", "report", "finish"]))
    def come_back(self, data: st.DataObject, what: str) -> None:
        """A zombie writes: nothing may come of it."""
        given = data.draw(st.sampled_from(self.ended), label="zombie")
        if what == "beat":
            beat = Heartbeat(fence=given.fence, step=9, phase=Phase.SAMPLING)
            self.refused(Superseded, lambda change: held_attempts.renew(change, given.id, beat))
        elif what == "report":
            report = Report(fence=given.fence, batch=given.batch + 1, logs="a zombie\n")
            self.refused(Superseded, lambda change: held_attempts.report(change, given.id, report))
        else:
            other = "cancelled" if given.ending == "succeeded" else "succeeded"
            outcome = Finish(fence=given.fence, ending=other, step=9)
            self.refused(Superseded, lambda change: conclusion.finish(change, given.id, outcome))

    @precondition(lambda self: any(job.waits for job in self.jobs.values()))
    @rule()
    def let_time_pass(self) -> None:
        """Every backoff is over."""
        over = update(jobs).where(jobs.c.project == self.project).values(available_at=0)
        self.change(lambda change: change.connection.execute(over))
        for job in self.jobs.values():
            job.waits = False

    @precondition(lambda self: self.holding() or any(worker.draining for worker in self.workers))
    @rule(number=st.integers(0, 2))
    def drain_or_return(self, number: int) -> None:
        worker = self.workers[number]
        if worker.draining:
            back = update(workers).where(workers.c.id == worker.id).values(status="active")
            self.change(lambda change: change.connection.execute(back))
            worker.draining = False
            return

        def act(change: Change) -> None:
            worker_rows.drain(change.connection, worker.id)
            for job_id in attempt_rows.leased_by(change.connection, worker.id):
                control.drain(change, job_id)

        self.change(act)
        worker.draining = True
        for job in self.jobs.values():
            if job.worker == number and job.status == "running" and job.command in (None, "checkpoint"):
                job.command, job.sequence = "drain", job.sequence + 1

    # -- the two are the same ------------------------------------------------------------------------------------------------

    @invariant()
    def they_agree(self) -> None:
        names = (
            "status",
            "priority",
            "command",
            "attempt_id",
            "fence",
            "attempts",
            "failures",
            "infra_retries",
            "command_sequence",
        )
        columns = [jobs.c[name] for name in names]
        with Read(self.context.database) as read:
            rows = {
                row.id: row for row in read.connection.execute(select(jobs.c.id, *columns).where(jobs.c.project == self.project))
            }
            held = read.connection.execute(select(leases.c.attempt_id, leases.c.job_id).where(leases.c.project == self.project))
            live = {row.attempt_id: row.job_id for row in held}
            running = select(attempts.c.id).join(jobs, jobs.c.id == attempts.c.job_id)
            running = running.where(jobs.c.project == self.project, attempts.c.ended_at.is_(None))
            unended = set(read.connection.execute(running).scalars())
        shown = {key: tuple(row)[1:] for key, row in rows.items()}
        assert shown == {key: self._row(job) for key, job in self.jobs.items()}
        expected = {job.attempt: key for key, job in self.jobs.items() if job.attempt}
        assert live == expected, "one lease for each job that somebody runs, and no other"
        assert unended == set(expected)

    def _row(self, job: Job) -> tuple[Any, ...]:
        spent = (job.failures, job.infra, job.sequence)
        return (job.status, job.priority, job.command, job.attempt, job.attempts, job.attempts, *spent)

    def teardown(self) -> None:
        """The whole history once more: no gap, one end."""
        with Read(self.context.database) as read:
            told = select(events.c.job_id, func.count(), func.max(events.c.seq)).join(jobs, jobs.c.id == events.c.job_id)
            for _, count, last in read.connection.execute(told.where(jobs.c.project == self.project).group_by(events.c.job_id)):
                assert count == last
            kinds = [f"job.{status}" for status in sorted(TERMINAL)]
            ends = select(events.c.job_id, events.c.type).where(events.c.type.in_(kinds)).join(jobs, jobs.c.id == events.c.job_id)
            found = sorted(tuple(row) for row in read.connection.execute(ends.where(jobs.c.project == self.project)))
        assert found == sorted((key, f"job.{job.status}") for key, job in self.jobs.items() if job.status in TERMINAL)
        for table in (leases, jobs, workers):  # thousands of projects with a queue each would slow every claim of the next
            gone = table.delete().where(table.c.project == self.project)
            self.change(lambda change, gone=gone: change.connection.execute(gone))
