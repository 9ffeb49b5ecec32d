"""What the run loop measures of itself: seconds by phase, the pace of steps, the wait for data, compilations."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.worker.looping import Clock
from worker.compilations import Compilations
from worker.ledger import DATA_WAIT, Ledger
from worker.pace import WINDOW_STEPS, Pace

Told = list[tuple[str, dict[str, Any]]]


class Teller:
    """Keeps events."""

    def __init__(self) -> None:
        self.told: Told = []

    def __call__(self, event: str, **data: Any) -> None:
        self.told.append((event, data))


def test_seconds_are_booked_out_of_the_phase_that_runs() -> None:
    ledger = Ledger("training")
    ledger.book(DATA_WAIT, 0.25)
    ledger.enter("evaluating")
    seconds = ledger.seconds()
    assert seconds[DATA_WAIT] == 0.25
    assert seconds["training"] == 0.0


def test_reading_a_ledger_from_another_thread_changes_nothing() -> None:
    ledger = Ledger("training")
    before = sum(ledger.seconds().values())
    threads = [threading.Thread(target=ledger.seconds) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert before <= sum(ledger.seconds().values()) < before + 60
    assert set(ledger.seconds()) == {"training"}


def _run(pace: Pace, clock: Clock, steps: int, wait: float, work: float) -> None:
    for step in range(steps):
        pace.begin()
        clock.now += wait
        pace.fetched()
        clock.now += work
        pace.done(1, step)


def test_waiting_for_more_than_a_third_of_the_time_is_told_once() -> None:
    teller, clock = Teller(), Clock()
    _run(Pace(teller, clock), clock, 4 * WINDOW_STEPS, wait=0.06, work=0.1)
    assert [event for event, _ in teller.told] == ["input.bottleneck"]
    told = teller.told[0][1]
    assert told["data_wait_seconds"] == pytest.approx(0.06)
    assert told["step_seconds"] == pytest.approx(0.16)
    assert "npz" in told["hint"]


def test_waiting_for_less_is_not_told() -> None:
    teller, clock = Teller(), Clock()
    _run(Pace(teller, clock), clock, 4 * WINDOW_STEPS, wait=0.03, work=0.1)
    assert teller.told == []


def test_percentiles_leave_the_first_block_out() -> None:
    clock = Clock()
    pace = Pace(Teller(), clock)
    assert pace.percentiles() is None
    _run(pace, clock, 1, wait=0.0, work=100.0)
    _run(pace, clock, 100, wait=0.0, work=0.5)
    assert pace.percentiles() == {"p50": 0.5, "p95": 0.5}
    assert pace.steps == 100


@pytest.fixture
def watched() -> Iterator[tuple[Compilations, Teller]]:
    """A watcher whose phase is always `training`."""
    teller = Teller()
    compilations = Compilations(lambda: "training", teller)
    compilations.watch()
    yield compilations, teller
    compilations.leave()


def test_a_function_that_meets_a_new_shape_is_told_with_both_shapes(watched: tuple[Compilations, Teller]) -> None:
    compilations, teller = watched
    step = jax.jit(lambda x: x * 2)
    whole, odd = jnp.asarray(np.zeros(8)), jnp.asarray(np.zeros(5))
    step(whole)
    assert compilations.repeated == 0
    compilations.settle()
    step(whole)
    assert (compilations.repeated, teller.told) == (0, [])
    step(odd)
    assert compilations.repeated == 1
    event, told = teller.told[0]
    assert event == "compile.repeated"
    assert "[8]" in told["shapes_before"]
    assert "[5]" in told["shapes"]
    assert told["phase"] == "training"
    assert "pad" in told["hint"]


def test_a_phase_may_compile_until_it_has_been_through_once(watched: tuple[Compilations, Teller]) -> None:
    compilations, teller = watched
    jax.jit(lambda x: x + 1)(np.zeros(3))
    jax.jit(lambda x: x + 2)(np.zeros(4))
    assert (compilations.repeated, teller.told) == (0, [])
