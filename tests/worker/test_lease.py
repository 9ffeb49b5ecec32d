"""Beats: what they say, what they hear, and when a lease has surely run out."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from jobs.errors import AttemptSuperseded
from jobs.protocol import Beat
from worker.api import Service
from worker.lease import Lease, Standing


class Beats:
    """An outer edge that answers beats.

    Args:
        answers: each a status with a command and its sequence; the last one is given for ever.
    """

    def __init__(self, *answers: tuple[int, str, int]) -> None:
        self.answers = list(answers)
        self.heard: list[dict[str, object]] = []
        self.news = asyncio.Event()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.heard.append(json.loads(request.content))
        self.news.set()
        status, command, sequence = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        body = {"command": command, "sequence": sequence, "save": True, "lease_seconds": 0.03, "code": "attempt_superseded"}
        return httpx.Response(status, json=body)

    async def until(self, count: int) -> None:
        while len(self.heard) < count:
            self.news.clear()
            await self.news.wait()


def lease(beats: Beats, standing: Standing, commands: list[Beat], now: list[float] | None = None) -> Lease:
    service = Service("http://service", None, httpx.MockTransport(beats))
    clock = {"clock": lambda: now[0]} if now else {}
    return Lease(service, "att_1", 3, 0.03, standing, commands.append, lambda _: None, **clock)


def test_a_beat_says_where_the_attempt_stands():
    async def main() -> None:
        standing, beats = Standing(), Beats((200, "continue", 0))
        keeping = asyncio.create_task(lease(beats, standing, []).keep())
        standing.enter("training")
        standing.enter("a phase of a newer child")
        standing.advance(5)
        standing.advance(4)
        await beats.until(1)
        keeping.cancel()
        told = beats.heard[0]
        assert (told["fence"], told["step"], told["phase"], told["handled"]) == (3, 5, "training", 0)
        assert str(told["last_step_at"]).endswith("Z")

    asyncio.run(main())


def test_a_command_is_passed_on_once():
    async def main() -> None:
        commands: list[Beat] = []
        beats = Beats((200, "checkpoint", 1), (200, "checkpoint", 1), (200, "pause", 2), (200, "pause", 2))
        keeping = asyncio.create_task(lease(beats, Standing(), commands).keep())
        await beats.until(8)
        keeping.cancel()
        assert [(beat.command, beat.sequence) for beat in commands] == [("checkpoint", 1), ("pause", 2)]

    asyncio.run(main())


@pytest.mark.parametrize("status", [500, 429, 422, 401, 302])
def test_no_answer_but_superseded_ends_the_beats(status):
    async def main() -> None:
        beats = Beats((status, "continue", 0))
        keeping = asyncio.create_task(lease(beats, Standing(), []).keep())
        await beats.until(4)
        assert not keeping.done()
        keeping.cancel()

    asyncio.run(main())


def test_superseded_ends_the_beats():
    async def main() -> None:
        beats = Beats((200, "continue", 0), (409, "continue", 0))
        with pytest.raises(AttemptSuperseded):
            await lease(beats, Standing(), []).keep()
        assert len(beats.heard) == 2

    asyncio.run(main())


def test_a_lease_has_run_out_when_the_clock_says_so_and_comes_back_with_a_beat():
    async def main() -> None:
        now = [100.0]
        beats = Beats((200, "continue", 0))
        kept = lease(beats, Standing(), [], now)
        assert not kept.expired
        now[0] += 1
        assert kept.expired
        keeping = asyncio.create_task(kept.keep())
        await beats.until(2)
        assert not kept.expired
        keeping.cancel()

    asyncio.run(main())
