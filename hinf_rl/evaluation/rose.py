"""The attack rose: where forces push, how hard, and what survives them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hinf_rl.evaluation import style
from hinf_rl.evaluation.plots import NothingToDrawError
from hinf_rl.evaluation.record import NUM_SECTORS

_NO_FORCE = "0.85"


def attack_rose(result: Mapping[str, Any], path: Path, *, fraction: float = 1.0) -> Path:
    """Draws random and trained forces of one size, one polar panel each.

    A bar's length is the mean horizontal force in its direction, its colour the survival of the
    episodes pushed that way (each counts by how hard it was): dark is what topples the policy.

    Args:
      result: of the protocol, for one policy.
      path: PNG to write.
      fraction: size of the attacks, as a fraction of the reference.

    Raises:
      NothingToDrawError: the results hold no attack of that size.
    """
    attacks = [cell for cell in result["attacks"].values() if cell["fraction"] == fraction]
    if not attacks:
        raise NothingToDrawError(f"the results hold no attack at {fraction:g} times the reference")
    random = result["cells"].get(f"continuous-{fraction:g}")
    shown = [*([("random forces", random)] if random else []), *map(_named, attacks)]
    unit = result["protocol"]["unit"]
    longest = max(max(cell["rose"]) for _, cell in shown) or 1.0
    figure, panels = style.panels(
        len(shown), inches=(2.7, 3.0), columns=5 if len(shown) <= 5 else 4, projection="polar"
    )
    for panel, (name, cell) in zip(panels, shown, strict=True):
        _draw_rose(panel, cell, longest, unit)
        panel.set_title(
            f"{name}\nsurvival {cell['survival'][0]:.2f}, mean {cell['force'][0]:.3g} {unit}",
            fontsize=8,
        )
    _colour_bar(figure, panels)
    figure.suptitle(
        f"mean horizontal force by direction ({unit}) of forces up to {attacks[0]['magnitude']:g} "
        f"{unit}; x: forward, where the task has a front",
        fontsize=9,
    )
    return style.save(figure, path)


def _named(cell: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    return f"{cell['attacker']}: seeks the {cell['objective']}", cell


def _draw_rose(panel: Any, cell: Mapping[str, Any], longest: float, unit: str) -> None:
    from matplotlib import colormaps

    survival = cell.get("rose_survival") or [None] * NUM_SECTORS
    shades = colormaps[style.SEQUENTIAL]
    panel.bar(
        np.arange(NUM_SECTORS) * 2 * np.pi / NUM_SECTORS,
        cell["rose"],
        width=0.9 * 2 * np.pi / NUM_SECTORS,
        color=[_NO_FORCE if share is None else shades(share) for share in survival],
        edgecolor="black",
        linewidth=0.5,
    )
    panel.set_ylim(0, 1.05 * longest)
    panel.set_axisbelow(True)
    panel.set_theta_zero_location("N")  # the first axis, forward, points up
    panel.set_thetagrids(range(0, 360, 90), ["x", "y", "-x", "-y"])
    panel.tick_params(labelsize=7)
    panel.set_rgrids([longest / 2, longest], ["", f"{longest:.2g} {unit}"], angle=45)
    panel.grid(alpha=0.4, linewidth=0.6)


def _colour_bar(figure: Any, panels: list[Any]) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    mapping = ScalarMappable(Normalize(0.0, 1.0), style.SEQUENTIAL)
    bar = figure.colorbar(mapping, ax=panels, shrink=0.75, aspect=18, pad=0.02)
    bar.set_label("survival", fontsize=8)
    bar.ax.tick_params(labelsize=7)


__all__ = ["attack_rose"]
