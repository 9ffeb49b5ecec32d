"""Write what pyproject.toml asks for into one file for the base install and one for each extra: `requirements/worker.txt`."""

import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
Path("requirements").mkdir()
for name, lines in {"base": project["dependencies"], **project["optional-dependencies"]}.items():
    Path("requirements", f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
