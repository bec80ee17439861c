"""`python -m podlab` is the same as the command `podlab`."""

from __future__ import annotations

from podlab.cli import main

if __name__ == "__main__":
    main()
