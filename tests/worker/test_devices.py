"""What a child settles before it touches a device. In processes of their own: a started backend cannot be settled again."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests import specs

CODE = """
import sys
from tests import specs
from worker import devices
devices.configure(1, None, None, specs.resolve(specs.regression(precision={"matmul": sys.argv[1]})))
import jax, jax.numpy as jnp
ones = jnp.ones((2, 2))
print(jax.make_jaxpr(jnp.dot)(ones, ones).eqns[-1].params["precision"])
"""


@pytest.mark.parametrize(("matmul", "found"), [("default", "DEFAULT"), ("highest", "HIGHEST")])
def test_products_are_as_exact_as_the_job_says(matmul: str, found: str) -> None:
    process = subprocess.run([sys.executable, "-c", CODE, matmul], capture_output=True, text=True, check=True)
    assert found in process.stdout


def test_every_job_says_it() -> None:
    assert specs.resolve(specs.schools())["precision"]["matmul"] == "default"
