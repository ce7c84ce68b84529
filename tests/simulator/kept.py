"""Seeds that failed once; the suite runs them for ever."""

from __future__ import annotations

from pathlib import Path

FOUND = Path(__file__).parent / "seeds.txt"


def kept() -> list[int]:
    """Every seed in the file, one a line; what stands behind a `#` is for people."""
    lines = (line.partition("#")[0].strip() for line in FOUND.read_text().splitlines())
    return [int(line) for line in lines if line]


def keep(seed: int) -> None:
    """Add it, once."""
    if seed not in kept():
        with FOUND.open("a") as out:
            out.write(f"{seed}\n")
