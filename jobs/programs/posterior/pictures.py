"""The plots as pictures, drawn from the same numbers that a page gets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Plot = Mapping[str, Any]
COLOURS = ("#1b6ca8", "#d1495b", "#3d9970", "#c98a1b", "#7d5ba6", "#4f6d7a", "#b56576", "#2a9d8f")
"""Of chains, in turn: told apart by most who do not see all colours, and in grey."""

DIVERGED = "#111111"
WIDTH, ROW, ACROSS = 3.2, 2.2, 4
DPI = 110
MOST_CHAINS = 16
"""Chains in one panel: more cannot be told apart."""


def draw(plot: Plot, path: Path) -> None:
    """Draw one of `plots` as a PNG."""
    figure = _DRAWERS[plot["plot"]](plot)
    figure.savefig(path, dpi=DPI, format="png", metadata={"Software": None})


def _panels(names: Sequence[str], across: int = ACROSS) -> tuple[Figure, list[Axes]]:
    """A figure with a titled panel for each name."""
    columns = max(1, min(across, len(names)))
    rows = max(1, math.ceil(len(names) / columns))
    figure = Figure(figsize=(WIDTH * columns, ROW * rows), layout="constrained")
    made: list[Axes] = []
    for at, name in enumerate(names):
        axes: Axes = figure.add_subplot(rows, columns, at + 1)
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        made.append(axes)
    return figure, made


def _colour(chain: int) -> str:
    return COLOURS[chain % len(COLOURS)]


def _trace(plot: Plot) -> Figure:
    figure, panels = _panels([each["name"] for each in plot["quantities"]], 2)
    for axes, quantity in zip(panels, plot["quantities"], strict=True):
        for chain, values in enumerate(quantity["chains"][:MOST_CHAINS]):
            axes.plot(plot["draws"], values, color=_colour(chain), linewidth=0.5, alpha=0.8)
        axes.margins(x=0)
        bottom, top = axes.get_ylim()
        diverged = sorted({draw for chain in plot["diverged"] for draw in chain})
        if diverged:
            axes.vlines(diverged, bottom, bottom + 0.06 * (top - bottom), color=DIVERGED, linewidth=0.8)
            axes.set_ylim(bottom, top)
    return _titled(figure, "Draws of each chain" + ("; ticks at the bottom: divergences" if any(plot["diverged"]) else ""))


def _rank(plot: Plot) -> Figure:
    figure, panels = _panels([each["name"] for each in plot["quantities"]])
    for axes, quantity in zip(panels, plot["quantities"], strict=True):
        chains = quantity["chains"][:MOST_CHAINS]
        for chain, counts in enumerate(chains):
            even = sum(counts) / len(counts)
            height = np.asarray(counts) / max(even, 1e-12)
            axes.stairs(
                height + 2 * chain, np.arange(len(counts) + 1), baseline=2 * chain, fill=True, alpha=0.7, color=_colour(chain)
            )
            axes.axhline(2 * chain + 1, color="#888888", linewidth=0.6, linestyle="--")
        axes.set_yticks([2 * chain + 0.5 for chain in range(len(chains))], [f"{chain}" for chain in range(len(chains))])
        axes.set_xticks([])
    return _titled(figure, "Ranks of each chain's draws among all: level, where the chains agree")


def _density(plot: Plot) -> Figure:
    figure, panels = _panels([each["name"] for each in plot["quantities"]])
    for axes, quantity in zip(panels, plot["quantities"], strict=True):
        for chain, curve in enumerate(quantity["chains"][:MOST_CHAINS]):
            axes.plot(curve["x"], curve["y"], color=_colour(chain), linewidth=1)
        axes.set_ylim(bottom=0)
        axes.set_yticks([])
    return _titled(figure, "Density by chain")


def _forest(plot: Plot) -> Figure:
    rows = list(reversed(plot["quantities"]))
    figure = Figure(figsize=(6.4, max(1.6, 0.24 * len(rows) + 0.8)), layout="constrained")
    axes: Axes = figure.add_subplot()
    for at, row in enumerate(rows):
        if row["q50"] is not None:
            axes.plot([row["hdi_low"], row["hdi_high"]], [at, at], color=COLOURS[0], linewidth=1)
            axes.plot([row["q25"], row["q75"]], [at, at], color=COLOURS[0], linewidth=3)
            axes.plot([row["q50"]], [at], "o", color="white", markeredgecolor=COLOURS[0], markersize=4)
    axes.axvline(0, color="#bbbbbb", linewidth=0.6, zorder=0)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return _titled(figure, f"Median, half of the probability, and the densest {100 * plot['hdi_prob']:g} %")


def _autocorrelation(plot: Plot) -> Figure:
    figure, panels = _panels([each["name"] for each in plot["quantities"]])
    for axes, quantity in zip(panels, plot["quantities"], strict=True):
        for chain, values in enumerate(quantity["chains"][:MOST_CHAINS]):
            axes.plot([np.nan if value is None else value for value in values], color=_colour(chain), linewidth=0.9)
        axes.axhline(0, color="#888888", linewidth=0.6)
        axes.set_ylim(-0.4, 1.02)
    return _titled(figure, "Autocorrelation by lag: the sooner at zero, the more each draw tells")


def _energy(plot: Plot) -> Figure:
    told = [f"chain {at}: BFMI {chain['bfmi']:.2f}" for at, chain in enumerate(plot["chains"][:MOST_CHAINS])]
    figure, panels = _panels(told)
    for axes, chain in zip(panels, plot["chains"], strict=False):
        for name, colour in (("marginal", COLOURS[0]), ("transition", COLOURS[1])):
            axes.fill_between(chain[name]["x"], chain[name]["y"], color=colour, alpha=0.45, linewidth=0, label=name)
        axes.set_yticks([])
        axes.set_ylim(bottom=0)
    if panels:
        panels[0].legend(fontsize=7, frameon=False)
    return _titled(figure, "Energy, and its change from draw to draw: alike, where the tails are reached")


def _pair(plot: Plot) -> Figure:
    names = plot["names"]
    size = max(1, len(names) - 1)
    figure = Figure(figsize=(2.4 * size + 0.6, 2.2 * size + 0.6), layout="constrained")
    for row in range(1, len(names)):
        for column in range(row):
            axes: Axes = figure.add_subplot(size, size, (row - 1) * size + column + 1)
            axes.plot(plot["draws"][column], plot["draws"][row], ".", color=COLOURS[0], markersize=2, alpha=0.35, linewidth=0)
            axes.plot(plot["diverged"][column], plot["diverged"][row], "x", color=COLOURS[1], markersize=4, linewidth=0)
            axes.tick_params(labelsize=7)
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_xlabel(names[column] if row == len(names) - 1 else "", fontsize=9)
            axes.set_ylabel(names[row] if column == 0 else "", fontsize=9)
    return _titled(figure, "Draws against each other" + ("; crosses: divergences" if any(plot["diverged"]) else ""))


def _titled(figure: Figure, title: str) -> Figure:
    figure.suptitle(title, fontsize=9, x=0.01, ha="left", color="#444444")
    return figure


_DRAWERS: Mapping[str, Callable[[Plot], Figure]] = {
    "trace": _trace,
    "rank": _rank,
    "density": _density,
    "forest": _forest,
    "autocorrelation": _autocorrelation,
    "energy": _energy,
    "pair": _pair,
}
