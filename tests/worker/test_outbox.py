"""Batches: sealed once, sent in order, kept within bounds while nobody takes them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from jobs.errors import AttemptSuperseded
from jobs.protocol import Committed, Report
from worker.api import Refused, Service
from worker.backlog import Backlog
from worker.outbox import MOST_CHARACTERS, MOST_POINTS, Outbox


class Taker:
    """An outer edge that takes batches when it is open.

    Args:
        answers: statuses of the first replies; 200 afterwards.
    """

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.bodies: list[bytes] = []
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        await self.open.wait()
        status = self.answers.pop(0) if self.answers else 200
        self.bodies.append(request.content)
        code = "attempt_superseded" if status == 409 else "other"
        return httpx.Response(status, json={"batch": 1} if status == 200 else {"code": code})

    @property
    def reports(self) -> list[Report]:
        return [Report.model_validate_json(body) for body in self.bodies]


async def nothing(step: int) -> None:
    """Nobody wants to know."""


def outbox(taker: Taker, backlog: Backlog, committed: Callable[[int], Awaitable[None]] = nothing, every: float = 0.01) -> Outbox:
    service = Service("http://service", None, httpx.MockTransport(taker))
    return Outbox(service, "att_1", 7, backlog, committed, every)


def run(
    tmp_path: Path, act: Callable[[Outbox, Taker, Backlog], Awaitable[None]], *answers: int, most_bytes: int = 1 << 24
) -> Taker:
    """Let `act` use an outbox, deliver all it put, and give what was taken."""

    async def main() -> Taker:
        taker = Taker(*answers)
        backlog = Backlog(tmp_path / "folder" / "spilled", most_bytes)
        box = outbox(taker, backlog)
        delivery = asyncio.create_task(box.deliver())
        await act(box, taker, backlog)
        flushing = asyncio.create_task(box.flush())
        await asyncio.wait({delivery, flushing}, return_when=asyncio.FIRST_COMPLETED)
        if delivery.done():
            await delivery
        delivery.cancel()
        box.close()
        return taker

    return asyncio.run(main())


def test_points_travel_as_columns(tmp_path):
    async def act(box: Outbox, taker: Taker, backlog: Backlog) -> None:
        for step in (1, 2):
            box.put_metrics([step], {"chain": "0"}, {"a": [float(step)], "b": ["NaN"]})
        box.put_metrics([2], {}, {"a": [9.0]})

    (report,) = run(tmp_path, act).reports
    found = {(series.name, series.labels.get("chain")): series for series in report.series}
    assert (found["a", "0"].steps, found["a", "0"].values) == ([1, 2], [1.0, 2.0])
    assert found["b", "0"].nonfinite == {"0": "NaN", "1": "NaN"}
    assert found["a", None].values == [9.0]
    assert (report.fence, report.batch) == (7, 1)


def test_a_batch_is_resent_as_it_was_and_the_next_waits(tmp_path):
    async def act(box: Outbox, taker: Taker, backlog: Backlog) -> None:
        for step in range(1, 2 * MOST_POINTS + 2):
            box.put_metrics([step], {}, {"a": [1.0]})

    taker = run(tmp_path, act, 503, 500, 429)
    assert len(set(taker.bodies[:4])) == 1
    assert [report.batch for report in taker.reports[3:]] == [1, 2, 3]
    steps = [step for report in taker.reports[3:] for series in report.series for step in series.steps]
    assert steps == list(range(1, 2 * MOST_POINTS + 2))


def test_a_stale_fence_and_a_refusal_end_the_delivery(tmp_path):
    async def act(box: Outbox, taker: Taker, backlog: Backlog) -> None:
        box.put_log("x")

    with pytest.raises(AttemptSuperseded):
        run(tmp_path, act, 409)
    with pytest.raises(Refused):
        run(tmp_path, act, 422)


def test_what_the_service_cannot_take_goes_to_a_file_and_comes_back_in_order(tmp_path):
    async def act(box: Outbox, taker: Taker, backlog: Backlog) -> None:
        taker.open.clear()
        for letter in "abcdefghij":
            box.put_log(letter * MOST_CHARACTERS)
        assert backlog.held_bytes <= 1_200_000
        assert backlog.spilled_bytes >= 3_500_000
        taker.open.set()

    taker = run(tmp_path, act, most_bytes=1_200_000)
    assert "".join(report.logs[:1] for report in taker.reports) == "abcdefghij"
    assert not (tmp_path / "folder" / "spilled").exists()


def test_committed_steps_are_told_when_they_have_been_taken():
    async def main() -> None:
        taker, told = Taker(503), asyncio.Queue[int]()
        box = outbox(taker, Backlog(Path("unused")), told.put, every=3600)
        delivery = asyncio.create_task(box.deliver())
        box.put_metrics([1], {}, {"a": [1.0]})
        box.put_checkpoint(Committed(step=1, files=[]))
        assert await told.get() == 1
        assert len(taker.bodies) == 2
        assert [series.name for series in taker.reports[0].series] == ["a"]
        delivery.cancel()

    asyncio.run(main())


def test_nul_becomes_the_replacement_character(tmp_path):
    async def act(box: Outbox, taker: Taker, backlog: Backlog) -> None:
        box.put_log("a\x00b")

    assert run(tmp_path, act).reports[0].logs == "a\ufffdb"


def test_flushing_an_empty_outbox_sends_nothing(tmp_path):
    async def act(box: Outbox, taker: Taker, backlog: Backlog) -> None:
        await box.flush()

    assert run(tmp_path, act).bodies == []


def test_a_backlog_is_first_in_first_out_across_memory_and_file(tmp_path):
    backlog = Backlog(tmp_path / "spilled", most_bytes=10)
    seen: list[bytes] = []
    for turn in range(200):
        backlog.push(b"%04d" % turn)
        if turn % 3 == 2:
            seen.append(backlog.first())
            backlog.pop()
    while backlog:
        seen.append(backlog.first())
        backlog.pop()
    assert seen == [b"%04d" % turn for turn in range(200)]
    assert backlog.spilled_bytes == 0


def test_a_backlog_that_cannot_be_written_stays_in_memory(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    backlog = Backlog(tmp_path / "file" / "below", most_bytes=10)
    for _ in range(5):
        backlog.push(b"x" * 8)
    assert backlog.held_bytes == 40
