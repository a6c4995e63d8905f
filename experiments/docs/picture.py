"""The linear-quadratic picture of the H-infinity constraint, from the exact oracle.

Usage: python -m experiments.docs.picture
"""

from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from hinf_rl.ops.riccati import (
    SYSTEMS,
    LinearSystem,
    closed_loop,
    gare_solve,
    hinf_norm,
    lq_policy_gradient,
    lqr_gain,
    optimal_attenuation,
    saddle_gains,
)

SYSTEM = "S2"
LEVELS = (1.05, 1.2, 1.5, 2.0, 3.0, 5.0)  # relative to g*
_SHOWN = (1.2, 1.05)  # beside LQR, in the left panel
_PATH = Path(__file__).parent.parent.parent / "docs/concepts/lq_game.png"
_STYLES = (
    {"color": "0.0", "linestyle": "-", "marker": "o"},
    {"color": "0.35", "linestyle": "--", "marker": "s"},
    {"color": "0.55", "linestyle": ":", "marker": "^"},
)


class Controller(NamedTuple):
    """A linear controller u = -K x.

    Attributes:
      name: for the legend.
      gain: K, [m, n].
      norm: H-infinity norm from w to the weighted state and control.
      cost: nominal cost, its mean over x_0 ~ N(0, I).
    """

    name: str
    gain: NDArray[np.float64]
    norm: float
    cost: float


def controllers(system: LinearSystem) -> list[Controller]:
    """Returns LQR and the game's controllers at `LEVELS` times the optimal attenuation."""
    best = optimal_attenuation(*system.matrices)
    A, B, D, Q, R = system.matrices
    made = [_measured("LQR", system, lqr_gain(A, B, Q, R))]
    for level in LEVELS:
        g = level * best
        gain, _ = saddle_gains(A, B, D, R, gare_solve(*system.matrices, g).P, g)
        made.append(_measured(f"game at {level} g*", system, gain))
    return made


def _measured(name: str, system: LinearSystem, gain: NDArray[np.float64]) -> Controller:
    n, d = system.D.shape
    still = np.zeros((d, n))
    value = lq_policy_gradient(*system.matrices, gain, still, 1.0, np.eye(n))[2]
    norm = hinf_norm(*closed_loop(*system.matrices, gain))
    return Controller(name, gain, norm, float(np.trace(value)))


def gain_over_frequency(
    system: LinearSystem, gain: NDArray[np.float64], angles: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns the largest amplification of a disturbance at each of [F] angles (rad per step)."""
    loop, D, C = closed_loop(*system.matrices, gain)
    shifted = np.exp(1j * angles)[:, None, None] * np.eye(len(loop)) - loop
    return np.linalg.svd(C @ np.linalg.solve(shifted, D), compute_uv=False)[:, 0]


def draw(path: Path = _PATH) -> None:
    """Draws amplification over frequency, and what attenuation costs without disturbance."""
    system = SYSTEMS[SYSTEM]
    best = optimal_attenuation(*system.matrices)
    lqr, *games = controllers(system)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6), layout="constrained")
    angles = np.geomspace(1e-3, np.pi, 400)
    shown = [lqr, *(games[LEVELS.index(level)] for level in _SHOWN)]
    for style, controller in zip(_STYLES, shown, strict=True):
        curve = gain_over_frequency(system, controller.gain, angles) / best
        left.plot(angles, curve, label=controller.name, markevery=50, markersize=4, **style)
    left.axhline(1.0, color="0.0", linewidth=0.8)
    left.annotate("no controller has a lower peak (g*)", (1e-3, 0.94), fontsize=8)
    left.set(xscale="log", xlabel="frequency (rad per step)", ylabel="amplification of w / g*")
    left.legend(fontsize=8)
    right.plot(
        [c.norm / best for c in games],
        [c.cost / lqr.cost for c in games],
        markersize=4,
        **_STYLES[0],
    )
    right.plot(lqr.norm / best, 1.0, linestyle="none", marker="D", color="0.35")
    right.annotate("LQR", (lqr.norm / best, 1.0), (-6, 8), textcoords="offset points", fontsize=8)
    for level, controller in zip(LEVELS, games, strict=True):
        if level <= 2.0:
            place = (controller.norm / best, controller.cost / lqr.cost)
            right.annotate(f"{level} g*", place, (6, 2), textcoords="offset points", fontsize=8)
    right.set(xlabel="worst amplification (H-infinity norm) / g*", ylabel="nominal cost / LQR's")
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    draw()
