"""The picture of `make bench-spill`: first tokens and the hosted share against load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

COLOURS = {"none": "#888888", "predicted": "#c1121f"}


def draw(told: dict[str, Any], out: Path) -> None:
    """Write the PNG. `told` is what `measure` returns."""
    figure, (times, shares) = plt.subplots(1, 2, figsize=(13, 5.5), constrained_layout=True)
    strategies = list(dict.fromkeys(one["strategy"] for one in told["points"]))
    thresholds = [name for name in strategies if name.startswith("waiting-")]
    shades = mpl.colormaps["Blues"]
    for name in strategies:
        points = [one for one in told["points"] if one["strategy"] == name]
        colour = COLOURS.get(name) or shades(0.35 + 0.6 * thresholds.index(name) / max(1, len(thresholds) - 1))
        look = {"color": colour, "marker": "o", "linewidth": 2.6 if name == "predicted" else 1.4}
        look["zorder"] = 3 if name == "predicted" else 2
        loads = [one["load"] for one in points]
        times.plot(loads, [one["local_p99_s"] for one in points], label=_label(name, told), **look)
        shares.plot(loads, [100 * one["hosted_share"] for one in points], label=_label(name, told), **look)
    times.axhline(told["objective_ms"] / 1000, color="black", linestyle="--", linewidth=1, label="objective")
    times.set_yscale("log")
    times.set_ylabel("p99 of the time to the first token, own worker (s)")
    shares.set_ylabel("sent to the hosted target (%)")
    loads = sorted({one["load"] for one in told["points"]})
    # What the worker cannot do has to go elsewhere, however cleverly it is chosen.
    shares.plot(loads, [100 * max(0.0, 1 - 1 / load) for load in loads], "k:", linewidth=1, label="over capacity")
    for axes in (times, shares):
        axes.set_xlabel(f"load (1 = capacity, {told['capacity_requests_per_s']:.1f} requests/s)")
        axes.grid(alpha=0.3)
    shares.legend(fontsize=9)
    figure.suptitle(
        f"When to spill: {told['places']} places on one worker, objective {told['objective_ms'] / 1000:g} s"
    )
    figure.savefig(out, dpi=110)
    plt.close(figure)


def _label(name: str, told: dict[str, Any]) -> str:
    if name == "none":
        return "nobody spills"
    if name == "predicted":
        return f"first token predicted over {told['objective_ms'] / 1000:g} s"
    return f"{name.removeprefix('waiting-')} wait"
