"""What the driver of an accelerator asks for, from within the containment of a user's code; elsewhere it stays refused."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from worker.containment import FIRST_USER, Containment, environment, explore
from worker.settings import Settings

CONFINED = """
import json, os, sys
from worker.confine import confine

confine(json.loads(sys.argv[1]))
os.execv(sys.executable, [sys.executable, "-c", sys.argv[2]])
"""
ASKING = """
import json, os, subprocess, sys, threading

def memory():
    os.close(os.memfd_create("driver"))

def name():
    with open(f"/proc/self/task/{threading.get_native_id()}/comm", "w") as file:
        file.write("cuda")

def compiler():
    subprocess.run(["/bin/true"], check=True)

def others():
    open("/etc/shadow").read()

def able(ask):
    try:
        ask()
    except OSError:
        return False
    return True

print(json.dumps({ask.__name__: able(ask) for ask in (memory, name, compiler, others)}))
"""


def contained(platform: str) -> Containment:
    return asyncio.run(explore(Settings(code="on"), platform, 8 * 2**30))


def answers(containment: Containment) -> dict[str, bool]:
    user = FIRST_USER if containment.other_user else None
    policy = json.dumps(containment.policy(user, [], []))
    done = subprocess.run(
        [sys.executable, "-c", CONFINED, policy, ASKING],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env=environment({"PATH": "/bin", "PYTHONPATH": str(Path(__file__).parents[2])}, Path("/")),
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(("platform", "has_driver"), [("gpu", True), ("cpu", False)])
def test_drivers_have_what_they_ask_for_and_others_have_not(platform: str, has_driver: bool) -> None:
    containment = contained(platform)
    assert containment.is_willing
    found = answers(containment)
    assert found == {"memory": has_driver, "name": has_driver, "compiler": has_driver, "others": False}
