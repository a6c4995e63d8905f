"""Pictures of what diffusion policies draw; every function fills one matplotlib axis.

The outcome of a rollout comes as named arrays, with the contexts under "context".
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hinf_rl.diffusion.images import CLASSES
from hinf_rl.diffusion.reach import GOAL, ReachConfig

Outcome = Mapping[str, NDArray[Any]]
"""Named arrays of samples, as a problem's rollout returns them."""
Draw = Callable[[Any, Outcome], None]
"""Draws an outcome onto matplotlib axes."""

_PATHS = 48
_PICTURES_PER_CLASS = 5
_RING_SPAN = 3.2
_FRAME = "#0b4f8a"


def draw_ring(axis: Any, outcome: Outcome) -> None:
    """Draws samples in the plane; colour and marker say which way their context points.

    Args:
      axis: to draw on.
      outcome: "sample" [M, 2] and "context" [M, 4].
    """
    from matplotlib.patches import Circle

    x, context = outcome["sample"], outcome["context"]
    quarter = np.floor(np.arctan2(context[:, 1], context[:, 0]) / (np.pi / 2)).astype(int) + 2
    for index, (marker, color) in enumerate(
        zip("o^sx", ("#0b4f8a", "#d9720b", "#3f8f3a", "#8a3f86"), strict=True)
    ):
        chosen = x[quarter == index]
        axis.scatter(chosen[:, 0], chosen[:, 1], marker=marker, color=color, s=6, linewidths=0.6)
    axis.add_patch(Circle((0, 0), 1.0, fill=False, color="0.6", lw=0.8))
    axis.set(xlim=(-_RING_SPAN, _RING_SPAN), ylim=(-_RING_SPAN, _RING_SPAN), aspect="equal")
    axis.tick_params(labelsize=6)


def draw_reach(axis: Any, outcome: Outcome) -> None:
    """Draws paths; those that collide are dashed.

    Args:
      axis: to draw on.
      outcome: "path" [M, L, 2] and "hits" [M, J].
    """
    from matplotlib.patches import Circle

    for path, hits in zip(outcome["path"][:_PATHS], outcome["hits"][:_PATHS], strict=True):
        collided = bool(np.any(hits))
        axis.plot(
            path[:, 0],
            path[:, 1],
            lw=0.7,
            color="#d9720b" if collided else "#0b4f8a",
            linestyle="--" if collided else "-",
        )
    axis.add_patch(Circle((0, 0), ReachConfig().obstacle_radius, color="0.6"))
    axis.plot(*GOAL, "k*", ms=8)
    axis.set(xlim=(-1.2, 1.4), ylim=(-1.2, 1.2), aspect="equal")
    axis.tick_params(labelsize=6)


def draw_images(axis: Any, outcome: Outcome) -> None:
    """Draws a grid of framed pictures, a row for each class that was asked for.

    Args:
      axis: to draw on.
      outcome: "sample" [M, side^2] and "context" [M, classes].
    """
    import matplotlib

    label, sample = np.argmax(outcome["context"], axis=1), outcome["sample"]
    side, rows = round(sample.shape[1] ** 0.5), len(CLASSES)
    grid = np.full((rows, _PICTURES_PER_CLASS, side + 1, side + 1), np.nan)
    for row in range(rows):
        chosen = sample[label == row][:_PICTURES_PER_CLASS].reshape(-1, side, side)
        grid[row, : len(chosen), 1:, 1:] = chosen
    canvas = grid.transpose(0, 2, 1, 3).reshape(rows * (side + 1), -1)
    framed = np.pad(canvas, ((0, 1), (0, 1)), constant_values=np.nan)
    # What is not a number is the frame: no grey, since a picture may be white or black to its edge.
    axis.imshow(
        framed, cmap=matplotlib.colormaps["gray"].with_extremes(bad=_FRAME), vmin=-1.2, vmax=1.2
    )
    axis.axis("off")


__all__ = ["Draw", "Outcome", "draw_images", "draw_reach", "draw_ring"]
