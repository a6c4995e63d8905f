"""Figures of a report; every line is told apart by dash and marker as well as by colour.

No global state: figures are drawn on their own canvas, without pyplot and without a display.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hinf_rl.errors import UserError
from hinf_rl.evaluation.record import NUM_SECTORS

CURVES = (
    "episode/return",
    "env/task_share",
    "episode/length",
    "constraint/intensity",
    "constraint/multiplier",
    "disturber/saturation",
)
"""Metrics that `learning_curves` shows where a run has logged them."""

_LABELS = {
    "episode/return": "episode return",
    "env/task_share": "task reward / best",
    "episode/length": "episode length (steps)",
    "constraint/intensity": "disturbance intensity",
    "constraint/multiplier": "multiplier",
    "disturber/saturation": "share of clipped forces",
}
_STYLES = (
    {"color": "#0b4f8a", "linestyle": "-", "marker": "o"},
    {"color": "#d9720b", "linestyle": "--", "marker": "s"},
    {"color": "#3f8f3a", "linestyle": "-.", "marker": "^"},
    {"color": "#8a3f86", "linestyle": ":", "marker": "D"},
    {"color": "#555555", "linestyle": (0, (5, 1, 1, 1)), "marker": "v"},
)
_KINDS = {
    "continuous": "continuous force, redrawn every 0.2 s",
    "sudden": "sudden push of 0.2 s",
    "deliberate": "deliberate: worst trained attacker",
}
_GRID_POINTS = 200


class NothingToDrawError(UserError):
    """The logs or results hold nothing of what the figure shows."""


def learning_curves(
    arms: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]],
    path: Path,
    *,
    names: Sequence[str] = CURVES,
) -> Path:
    """Draws metrics over environment steps: mean over seeds, band from lowest to highest.

    Args:
      arms: label to the logs of its runs, each as `read_metrics` gives it; all seeds of all
        runs of an arm are put together.
      path: PNG to write.
      names: metrics to draw; those that no run logged are left out.

    Raises:
      NothingToDrawError: no run has logged any of them.
    """
    logs = {label: list(runs) for label, runs in arms.items()}
    names = [name for name in names if any(_has(runs, name) for runs in logs.values())]
    if not names:
        raise NothingToDrawError("the metrics logs hold none of the curves to draw; train first")
    figure, panels = _panels(len(names))
    for panel, name in zip(panels, names, strict=True):
        for index, (label, runs) in enumerate(logs.items()):
            if _has(runs, name):
                _draw_curve(panel, label, *_curves(runs, name), index)
        panel.set_xlabel("environment steps (millions)")
        panel.set_ylabel(_LABELS.get(name, name))
        panel.grid(alpha=0.3)
    panels[0].legend(fontsize=8, frameon=False)
    figure.suptitle("Training; band: lowest to highest seed", fontsize=10)
    return _save(figure, path)


def survival_against_force(
    results: Mapping[str, Mapping[str, Any]],
    path: Path,
) -> Path:
    """Draws survival over the size of the disturbance, with intervals, one panel per kind.

    Args:
      results: label to results of the protocol (of one policy, or merged over seeds); the first
        is ours, further ones are baselines on the same task.
      path: PNG to write.

    Raises:
      NothingToDrawError: the results hold no disturbed cell.
      UserError: they are of different tasks.
    """
    first = _same_task(results)
    kinds = [kind for kind in _KINDS if any(_series(r, kind) for r in results.values())]
    if not kinds:
        raise NothingToDrawError(f"no disturbed cell to draw for task {first['task']!r}")
    figure, panels = _panels(len(kinds))
    for panel, kind in zip(panels, kinds, strict=True):
        for index, (label, result) in enumerate(results.items()):
            cells = _series(result, kind)
            if cells:
                _draw_survival(panel, label, [result["cells"]["nominal"], *cells], index)
        panel.set_title(_KINDS[kind], fontsize=9)
        panel.set_xlabel(f"size ({first['protocol']['unit']})")
        panel.set_ylabel("survival")
        panel.set_ylim(-0.03, 1.03)
        panel.grid(alpha=0.3)
    panels[0].legend(fontsize=8, frameon=False, loc="lower left")
    return _save(figure, path)


def multiplier_phase(runs: Sequence[Sequence[Mapping[str, Any]]], path: Path) -> Path:
    """Draws the multiplier over the constraint's slack; dark is early, bright is late.

    Where the slack is negative (left of the line) the constraint is violated and the multiplier
    must rise.

    Args:
      runs: logs of training runs as `read_metrics` gives them; every seed is one line.
      path: PNG to write.

    Raises:
      NothingToDrawError: no run has logged a constraint.
    """
    keys = ("constraint/slack", "constraint/multiplier")
    runs = [run for run in runs if all(_has([run], key) for key in keys)]
    if not runs:
        raise NothingToDrawError(
            "the metrics logs hold no constraint; it is trained by the hinf algorithm"
        )
    figure, (panel,) = _panels(1)
    pairs = [
        pair for run in runs for pair in zip(*(_rows(run, key)[1].T for key in keys), strict=True)
    ]
    points = None
    for index, (slack, multiplier) in enumerate(pairs):
        marker = _STYLES[index % len(_STYLES)]["marker"]
        panel.plot(slack, multiplier, color="0.7", linewidth=0.7, zorder=1)
        points = panel.scatter(
            slack, multiplier, c=np.linspace(0, 1, len(slack)), marker=marker, s=14, zorder=2
        )
        panel.plot(slack[-1:], multiplier[-1:], marker="*", color="black", markersize=11)
    panel.axvline(0.0, color="black", linewidth=0.8, linestyle="--")
    panel.set_xlabel("slack of the constraint (negative: violated)")
    panel.set_ylabel("multiplier")
    panel.grid(alpha=0.3)
    figure.colorbar(points, ax=panel, label="share of training done")
    panel.set_title("star: end of training; marker: seed", fontsize=9)
    return _save(figure, path)


def attack_rose(result: Mapping[str, Any], path: Path, *, fraction: float = 1.0) -> Path:
    """Draws where the trained attackers push, how hard, and what survives them.

    One polar panel per attacker: the length of a bar is the mean force in that direction.

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
    figure, panels = _panels(len(attacks), projection="polar")
    angles = np.arange(NUM_SECTORS) * 2 * np.pi / NUM_SECTORS
    longest = max(max(cell["rose"]) for cell in attacks) or 1.0
    unit = result["protocol"]["unit"]
    for panel, cell in zip(panels, attacks, strict=True):
        panel.bar(
            angles,
            cell["rose"],
            width=0.85 * 2 * np.pi / NUM_SECTORS,
            color="#0b4f8a" if cell["objective"] == "task" else "#d9720b",
            edgecolor="black",
            linewidth=0.5,
            hatch="" if cell["objective"] == "task" else "///",
        )
        panel.set_ylim(0, 1.05 * longest)
        panel.set_axisbelow(True)
        panel.set_theta_zero_location("N")  # the first axis, forward, points up
        panel.tick_params(labelsize=7)
        panel.set_title(
            f"{cell['attacker']} (seeks the {cell['objective']})\nsurvival "
            f"{cell['survival'][0]:.2f}, mean size {cell['force'][0]:.3g} {unit}",
            fontsize=8,
        )
    figure.suptitle(
        f"Mean horizontal push by direction ({unit}), attacks up to {fraction:g} x reference; "
        "up: first axis",
        fontsize=9,
    )
    return _save(figure, path)


def _panels(count: int, **subplot: Any) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = 2 if count == 4 else min(count, 3)
    rows = -(-count // columns)
    figure = Figure(figsize=(max(3.6 * columns, 5.0), 3.1 * rows), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [
        figure.add_subplot(rows, columns, index + 1, **subplot) for index in range(count)
    ]


def _save(figure: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def _has(runs: Sequence[Sequence[Mapping[str, Any]]], name: str) -> bool:
    return any(_is_known(record.get(name)) for run in runs for record in run)


def _is_known(row: Any) -> bool:
    return row is not None and any(value is not None for value in row)


def _rows(run: Sequence[Mapping[str, Any]], name: str) -> tuple[NDArray, NDArray]:
    """[N] environment steps and [N, S] values of the records that hold the metric."""
    records = [record for record in run if _is_known(record.get(name))]
    steps = np.array([record["env_steps"] for record in records], float)
    return steps, np.array([record[name] for record in records], float)


def _curves(runs: Sequence[Sequence[Mapping[str, Any]]], name: str) -> tuple[NDArray, NDArray]:
    """[X] steps that all runs cover and [S, X] values, every seed of every run one row."""
    known = [rows for rows in (_rows(run, name) for run in runs) if len(rows[0])]
    grid = np.linspace(
        max(steps[0] for steps, _ in known), min(steps[-1] for steps, _ in known), _GRID_POINTS
    )
    curves = []
    for steps, values in known:
        for column in values.T:
            finite = np.isfinite(column)
            if finite.any():
                curves.append(np.interp(grid, steps[finite], column[finite]))
    return grid, np.array(curves)


def _draw_curve(panel: Any, label: str, steps: NDArray, curves: NDArray, index: int) -> None:
    style = _STYLES[index % len(_STYLES)]
    millions = steps / 1e6
    panel.plot(
        millions, curves.mean(axis=0), label=label, markevery=_GRID_POINTS // 8, ms=4, **style
    )
    panel.fill_between(
        millions,
        curves.min(axis=0),
        curves.max(axis=0),
        color=style["color"],
        alpha=0.2,
        linewidth=0,
    )


def _draw_survival(panel: Any, label: str, cells: Sequence[Mapping[str, Any]], index: int) -> None:
    sizes = np.array([cell["magnitude"] for cell in cells])
    estimate, low, high = np.array([cell["survival"] for cell in cells]).T
    panel.errorbar(
        sizes,
        estimate,
        yerr=np.maximum(np.stack([estimate - low, high - estimate]), 0.0),
        label=label,
        capsize=3,
        ms=4,
        **_STYLES[index % len(_STYLES)],
    )


def _series(result: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    cells = [cell for cell in result["cells"].values() if cell["kind"] == kind]
    return sorted(cells, key=lambda cell: cell["magnitude"])


def _same_task(results: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    first = next(iter(results.values()))
    for label, result in results.items():
        if result["task"] != first["task"]:
            raise UserError(
                f"baseline {label!r} is of task {result['task']!r}, not {first['task']!r}; compare "
                "results of one task"
            )
    return first


__all__ = [
    "CURVES",
    "NothingToDrawError",
    "attack_rose",
    "learning_curves",
    "multiplier_phase",
    "survival_against_force",
]
