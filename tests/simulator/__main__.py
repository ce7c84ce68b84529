"""`make simulate SEEDS=10000 [SEED=7]`: many runs, or one; a seed that fails is printed and kept."""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from tests.simulator.kept import FOUND, keep
from tests.simulator.world import Broken, simulate


def main() -> int:
    """Exit status 1 when a run breaks an invariant."""
    parser = argparse.ArgumentParser(prog="make simulate")
    parser.add_argument("--seeds", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=None)
    args = parser.parse_args()
    seeds = range(args.seeds) if args.seed is None else (args.seed,)
    began_s, booked, failed = time.monotonic(), 0, 0
    for number, seed in enumerate(seeds, start=1):
        try:
            booked += len(simulate(seed).booked)
        except Broken as fault:
            failed += 1
            keep(seed)
            print(f"\nseed {seed}: {fault}\n  again: make simulate SEED={seed}", file=sys.stderr)
            if args.seed is not None:
                traceback.print_exception(fault)
        if number % 500 == 0 or number == len(seeds):
            print(f"\r{number:,} runs, {booked:,} requests, {failed} failed", end="", flush=True)
    print(f" in {time.monotonic() - began_s:.0f} s")
    if failed:
        print(f"kept in {FOUND.name}: the suite runs them from now on", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
