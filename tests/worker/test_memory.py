"""What is told when memory runs out, and what is not taken for that."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from jobs.errors import JobError, UserFault
from tests import specs
from worker.memory import explained, is_shortage, shortage

GIB = 2**30


class Big:
    """A program with a state of a known size."""

    def abstract(self) -> dict[str, Any]:
        place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        kernel = jax.ShapeDtypeStruct((2**14, 2**14), jnp.float32, sharding=place)
        return {"params": {"up.kernel": kernel}, "opt_state": {"mu": {"up.kernel": kernel}, "nu": {"up.kernel": kernel}}}


def told(memory_gib: float, **changes: Any) -> tuple[str | None, str]:
    program: Any = Big()
    error = shortage(program, specs.resolve(specs.spirals(**changes)), "RESOURCE_EXHAUSTED: no", int(memory_gib * GIB), "its steps")
    return error.param, error.message


def test_the_largest_buffers_are_named_with_their_sum() -> None:
    _, message = told(64)
    assert "params.up.kernel 1 GiB" in message
    assert "params 1 GiB, opt_state 2 GiB, gradients 1 GiB" in message
    assert "of 64 GiB" in message


def test_activations_are_to_blame_where_the_state_is_small() -> None:
    param, message = told(64)
    assert param == "/grad_accumulation"
    assert "set grad_accumulation to 2" in message
    assert 'set remat to "full"' in message


def test_a_batch_that_cannot_be_cut_further_leads_on_to_remat() -> None:
    spec = specs.spirals()
    size = spec["data"]["batch_size"]
    assert told(64, grad_accumulation=size)[0] == "/remat"
    assert told(64, grad_accumulation=size, remat="full")[0] == "/precision/compute"


def test_a_state_that_fills_the_memory_must_be_spread() -> None:
    param, message = told(5)
    assert param == "/mesh/axes"
    assert "take more devices" in message


def test_a_sampler_is_told_of_its_own_settings() -> None:
    program: Any = Big()
    error = shortage(program, specs.resolve(specs.schools()), "", GIB, "its steps")
    assert error.param in ("/checkpoint/every_draws", "/chain_method")


@pytest.mark.parametrize(
    ("error", "shortage"),
    [
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 12 bytes"), True),
        (RuntimeError("INTERNAL: Error dispatching computation: Out of memory allocating 12 bytes"), True),
        (MemoryError(), True),
        (ValueError("RESOURCE_EXHAUSTED: write failed: No space left on device"), False),
        (RuntimeError("INTERNAL: a peer has gone"), False),
    ],
)
def test_only_a_shortage_of_memory_is_one(error: Exception, shortage: bool) -> None:
    assert is_shortage(error) is shortage


def test_other_errors_pass_as_they_are() -> None:
    program: Any = Big()
    for error in (RuntimeError("INTERNAL: a peer has gone"), UserFault("nan_loss", "RESOURCE_EXHAUSTED")):
        with pytest.raises(type(error)) as caught, explained(program, {}):
            raise error
        assert caught.value is error or not isinstance(error, JobError)
