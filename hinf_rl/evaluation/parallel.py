"""Parallel coordinates: every point of a sweep as a line from its settings to what it reached."""

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hinf_rl.evaluation import style
from hinf_rl.training.progress import headline

_MOST_NAMES = 12
_NUMBER = re.compile(r"-?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?")


def parallel_coordinates(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Draws one line per row; its colour is the first metric, the best one is bold.

    The distinct values of a setting stand at equal distances, in order; metrics have a scale.

    Args:
      rows: `settings` (text by name) and `metrics` (one value per seed, by name) of each point.
      path: PNG to write.
    """
    settings = list(rows[0]["settings"])
    metrics = headline(rows[0]["metrics"])
    places = [_setting_axis([row["settings"][name] for row in rows]) for name in settings]
    places += [_metric_axis([_mean(row["metrics"].get(name)) for row in rows]) for name in metrics]
    titles = [name.rpartition(".")[2] for name in settings] + list(metrics.values())
    figure, (panel,) = style.panels(1, inches=(max(5.0, 1.6 * len(titles)), 3.6))
    heights = np.array([place[0] for place in places])  # [axes, rows]
    score = heights[len(settings)] if metrics else np.zeros(len(rows))
    _draw_lines(panel, heights, score)
    for index, (_, ticks) in enumerate(places):
        _draw_axis(panel, index, ticks, is_metric=index >= len(settings))
    panel.set_xticks(range(len(titles)), titles, fontsize=9)
    panel.set_yticks([])
    panel.set_xlim(-0.35, len(titles) - 0.45)
    panel.set_ylim(-0.06, 1.06)
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0)
    if metrics:
        first = next(iter(metrics.values()))
        panel.set_title(f"colour and bold line: {first}, mean over seeds", fontsize=9)
    return style.save(figure, path)


def _setting_axis(values: Sequence[str]) -> tuple[list[float], dict[float, str]]:
    """Heights of the values and the labels at heights."""
    distinct = sorted(set(values), key=_order)
    height = {value: _share(i, len(distinct) - 1) for i, value in enumerate(distinct)}
    step = -(-len(distinct) // _MOST_NAMES)
    return [height[value] for value in values], {height[v]: v for v in distinct[::step]}


def _metric_axis(values: Sequence[float]) -> tuple[list[float], dict[float, str]]:
    known = [value for value in values if math.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    spread = high - low
    heights = [(value - low) / spread if spread else 0.5 for value in values]
    if not spread:
        return heights, {0.5: f"{low:.3g}"}
    return heights, {share: f"{low + share * spread:.3g}" for share in (0.0, 0.25, 0.5, 0.75, 1.0)}


def _draw_lines(panel: Any, heights: np.ndarray, score: np.ndarray) -> None:
    from matplotlib import colormaps

    shades = colormaps[style.SEQUENTIAL]
    best = int(np.nanargmax(score)) if np.isfinite(score).any() else -1
    x = np.linspace(0, len(heights) - 1, 20 * (len(heights) - 1) + 1)
    for row, shade in enumerate(score):
        # An S from axis to axis: lines that share a point can be told apart where they leave it.
        left = np.minimum(x.astype(int), len(heights) - 2)
        ease = 0.5 - 0.5 * np.cos(np.pi * (x - left))
        y = heights[left, row] * (1 - ease) + heights[left + 1, row] * ease
        colour = shades(shade) if np.isfinite(shade) else "0.6"
        is_best = row == best
        panel.plot(x, y, color=colour, linewidth=3.5 if is_best else 1.4, zorder=2 + is_best)


def _draw_axis(panel: Any, index: int, ticks: Mapping[float, str], *, is_metric: bool) -> None:
    panel.plot([index, index], [0, 1], color="black", linewidth=1.0, zorder=4)
    for height, text in ticks.items():
        panel.plot([index - 0.02, index + 0.02], [height, height], color="black", linewidth=1)
        panel.annotate(
            text,
            (index, height),
            (5 if is_metric else -5, 0),
            textcoords="offset points",
            ha="left" if is_metric else "right",
            va="center",
            fontsize=8,
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8},
            zorder=5,
        )


def _mean(values: Sequence[float | None] | None) -> float:
    known = [value for value in values or () if value is not None]
    return statistics.fmean(known) if known else math.nan


def _order(value: str) -> tuple[bool, list[float], str]:
    """By the numbers in the text, so that (64,64) comes before (128,128); words come last."""
    numbers = [float(number) for number in _NUMBER.findall(value)]
    return not numbers, numbers, value


def _share(index: int, last: int) -> float:
    return index / last if last else 0.5


__all__ = ["parallel_coordinates"]
