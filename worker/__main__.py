"""`python -m worker`: a worker whose settings come from the environment (`MESHYARD_…`). `meshyard work` has flags for them too."""

from __future__ import annotations

import os
import sys

from worker.agent import Programs, work
from worker.settings import SettingsInvalid, read_settings


def main(programs: Programs | None = None) -> int:
    """Read the settings and work. Gives the exit status."""
    try:
        settings = read_settings(os.environ)
    except SettingsInvalid as error:
        sys.stderr.write(f"meshyard worker: {error}\n")
        return 2
    return work(settings, programs)


if __name__ == "__main__":
    sys.exit(main())
