"""How all figures look: one cycle of lines, one canvas, one way to save.

Nothing is told by colour alone: lines differ in dash and marker too, and the colours and the
colour map in lightness, so that a figure can be read in grey. No global state: figures have their
own canvas, without pyplot and without a display.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SEQUENTIAL = "viridis"
"""Colour map of a quantity; its lightness rises with the value."""

_LINES = (
    {"color": "#0b3f7a", "linestyle": "-", "marker": "o"},
    {"color": "#e07b12", "linestyle": "--", "marker": "s"},
    {"color": "#1d6b35", "linestyle": "-.", "marker": "^"},
    {"color": "#b98ac4", "linestyle": ":", "marker": "D"},
    {"color": "#4d4d4d", "linestyle": (0, (5, 1, 1, 1)), "marker": "v"},
    {"color": "#c9a200", "linestyle": (0, (3, 1)), "marker": "P"},
    {"color": "#7c1d1d", "linestyle": (0, (1, 1)), "marker": "X"},
)
_PANEL_INCHES = (3.6, 3.0)
_SMALLEST_WIDTH = 5.0
_LEGEND_COLUMN_INCHES = 1.9


def line(index: int) -> dict[str, Any]:
    """Returns colour, dash and marker of the line with this number, for `panel.plot`."""
    return dict(_LINES[index % len(_LINES)])


def panels(
    count: int, *, inches: tuple[float, float] = _PANEL_INCHES, columns: int = 3, **subplot: Any
) -> tuple[Any, list[Any]]:
    """Returns a figure and its `count` panels, in rows of at most `columns`.

    Args:
      count: number of panels.
      inches: width and height of each.
      columns: panels in a row; four are laid out two by two where three would fit.
      subplot: for `Figure.add_subplot`, for example `projection="polar"`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    in_row = 2 if count == 4 and columns == 3 else min(count, columns)
    rows = math.ceil(count / in_row)
    size = (max(inches[0] * in_row, _SMALLEST_WIDTH), inches[1] * rows)
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(rows, in_row, i + 1, **subplot) for i in range(count)]


def finish(panel: Any, *, x: str, y: str, title: str = "") -> None:
    """Names the axes of a panel and puts a faint grid behind what is drawn."""
    panel.set_xlabel(x, fontsize=9)
    panel.set_ylabel(y, fontsize=9)
    panel.tick_params(labelsize=8)
    panel.grid(alpha=0.25, linewidth=0.6)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    if title:
        panel.set_title(title, fontsize=9)


def legend(figure: Any, panels: Sequence[Any]) -> None:
    """Names every line once, below all panels: there it hides no data.

    One line needs no legend where the figure is about it alone.
    """
    entries: dict[str, Any] = {}
    for panel in panels:
        handles, labels = panel.get_legend_handles_labels()
        entries |= {
            label: handle
            for label, handle in zip(labels, handles, strict=True)
            if label not in entries
        }
    if len(entries) > 1:
        figure.legend(
            list(entries.values()),
            list(entries),
            loc="outside lower center",
            ncols=min(len(entries), int(figure.get_figwidth() / _LEGEND_COLUMN_INCHES)),
            fontsize=8,
            frameon=False,
            handlelength=3.5,
        )


def save(figure: Any, path: Path) -> Path:
    """Writes a figure as PNG; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


__all__ = ["SEQUENTIAL", "finish", "legend", "line", "panels", "save"]
