"""`python -m jobs.programs.catalog [--write | --check]`: print the catalog, write it to its file, or compare it with the file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from jobs import spec
from jobs.programs.catalog.document import build, render

PATH = Path(spec.__file__).parent / "catalog.json"


def main() -> int:
    """Do what the command line says. Returns: the exit status; 1 where `--check` finds a difference."""
    parser = argparse.ArgumentParser(prog="python -m jobs.programs.catalog", description=__doc__)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--write", action="store_true", help="write jobs/spec/catalog.json")
    choice.add_argument("--check", action="store_true", help="fail where the file is not what the libraries give")
    options = parser.parse_args()
    text = render(build())
    if options.write:
        PATH.write_text(text, encoding="utf-8")
    elif options.check:
        return _check(text)
    else:
        sys.stdout.write(text)
    return 0


def _check(text: str) -> int:
    if PATH.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write(
        "jobs/spec/catalog.json is not what the installed libraries give: run python -m jobs.programs.catalog --write\n"
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
