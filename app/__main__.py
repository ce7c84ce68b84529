"""The command `breakeven`, also as `python -m app`."""

from __future__ import annotations

from app.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
