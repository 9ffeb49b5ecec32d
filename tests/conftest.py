"""Generated cases are the same in every run: a change is judged by what it changes. `MESHYARD_RANDOM=1` looks for new ones."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("fixed", derandomize=True)
if os.environ.get("MESHYARD_RANDOM") != "1":
    settings.load_profile("fixed")
