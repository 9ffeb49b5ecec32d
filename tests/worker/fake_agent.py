"""A real agent with fake children. Settings come from the environment, graces from the command line as `name=seconds`."""

from __future__ import annotations

import sys

from worker.__main__ import main as run
from worker.agent import Programs
from worker.orders import Graces


def main() -> int:
    graces = Graces(**{name: float(seconds) for name, _, seconds in (argument.partition("=") for argument in sys.argv[1:])})
    programs = Programs(
        child=(sys.executable, "-m", "tests.worker.fake_child"),
        devices=(sys.executable, "-m", "tests.worker.fake_devices"),
        graces=graces,
    )
    return run(programs)


if __name__ == "__main__":
    sys.exit(main())
