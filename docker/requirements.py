"""Print what pyproject.toml asks for, for the base install and the extras named: `requirements.py worker cuda`."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = project["optional-dependencies"]
sys.stdout.write("\n".join([*project["dependencies"], *(line for extra in sys.argv[1:] for line in extras[extra])]) + "\n")
