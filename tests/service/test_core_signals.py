"""Wake-up calls, turns, and the lock that serves writers in their order."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

import pytest

from service.db.engine import FairLock
from service.signals import Lookout, Signals
from tests.service.core_driver import wait_for


def test_a_wake_between_listening_and_waiting_is_not_lost():
    async def run() -> bool:
        signals = Signals()
        signals.bind(asyncio.get_running_loop())
        with signals.hearing("topic") as heard:
            await asyncio.to_thread(signals.wake, "topic")
            await asyncio.sleep(0)
            await signals.wait("topic", heard, 3600)
            return heard.done()

    assert asyncio.run(run())


def test_only_those_who_listen_to_a_topic_are_woken():
    async def run() -> tuple[bool, bool, int]:
        signals = Signals()
        signals.bind(asyncio.get_running_loop())
        with signals.hearing("one") as one, signals.hearing("other") as other:
            signals.wake("one")
            await signals.wait("one", one, 3600)
            return one.done(), other.done(), signals.waiting("one")

    assert asyncio.run(run()) == (True, False, 0)


def test_closing_lets_everybody_go_now_and_later():
    async def run() -> None:
        signals = Signals()
        signals.bind(asyncio.get_running_loop())
        with signals.hearing("topic") as heard:
            asyncio.get_running_loop().call_soon(signals.close)
            await signals.wait("topic", heard, 3600)
        with signals.hearing("topic") as heard:
            await signals.wait("topic", heard, 3600)

    asyncio.run(run())


def test_nobody_is_left_behind_who_stopped_listening():
    async def run() -> int:
        signals = Signals()
        with suppress(ZeroDivisionError), signals.hearing("topic"):
            raise ZeroDivisionError
        return signals.waiting("topic")

    assert asyncio.run(run()) == 0


def test_waking_without_a_loop_is_harmless():
    Signals().wake("topic")


class Looking:
    """Counts looks; each takes a turn of the loop."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.looks = 0
        self.at_once = 0
        self.most_at_once = 0

    async def __call__(self) -> tuple[int | None, bool]:
        self.looks += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        return None, self.quiet


@pytest.mark.parametrize(("quiet", "looks"), [(True, Lookout.AT_ONCE), (False, 100)])
def test_a_crowd_looks_a_few_at_a_time_and_no_more_once_there_is_nothing(quiet: bool, looks: int):
    async def run() -> Looking:
        signals = Signals()
        signals.bind(asyncio.get_running_loop())
        lookout, looking = Lookout(signals, "queue", 3600), Looking(quiet=quiet)
        await asyncio.gather(*(lookout.look(looking) for _ in range(100)))
        return looking

    looking = asyncio.run(run())
    assert (looking.looks, looking.most_at_once) == (looks, Lookout.AT_ONCE)


def test_news_are_looked_at_whatever_was_found_before():
    async def run() -> list[int]:
        signals = Signals()
        signals.bind(asyncio.get_running_loop())
        lookout, looking = Lookout(signals, "queue", 3600), Looking(quiet=True)
        looks: list[int] = []
        for _ in range(3):
            await lookout.look(looking)
            await lookout.look(looking)
            looks.append(looking.looks)
            with signals.hearing("queue") as heard:
                signals.wake("queue")
                await signals.wait("queue", heard, 3600)
        return looks

    assert asyncio.run(run()) == [1, 2, 3]


def test_a_finding_grows_stale():
    async def run() -> int:
        signals = Signals()
        signals.bind(asyncio.get_running_loop())
        lookout, looking = Lookout(signals, "queue", 0), Looking(quiet=True)
        for _ in range(3):
            await lookout.look(looking)
        return looking.looks

    assert asyncio.run(run()) == 3


def test_writers_are_served_in_the_order_they_came():
    lock, order, threads = FairLock(), [], []

    def write(number: int) -> None:
        with lock:
            order.append(number)

    with lock:
        for number in range(20):
            threads.append(threading.Thread(target=write, args=(number,)))
            threads[-1].start()
            wait_for(lambda expected=number + 1: len(lock._waiting) == expected)
        assert order == []
    for thread in threads:
        thread.join()
    assert order == list(range(20))


def test_a_writer_that_fails_lets_the_next_one_in():
    lock = FairLock()
    for _ in range(3):
        with suppress(ZeroDivisionError), lock:
            raise ZeroDivisionError
    with lock:
        pass
