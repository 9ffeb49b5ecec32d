"""`python -m meshyard` is `meshyard`."""

from __future__ import annotations

from meshyard.cli import main

if __name__ == "__main__":
    main()
