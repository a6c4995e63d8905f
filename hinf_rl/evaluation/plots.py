"""Figures of training and of survival; `style` says how they look."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hinf_rl.errors import UserError
from hinf_rl.evaluation import style

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
_KINDS = {
    "continuous": "continuous force, redrawn every 0.2 s",
    "sudden": "sudden push of 0.2 s",
    "deliberate": "deliberate: worst trained attacker",
}
_GRID_POINTS = 200
_BAND = {"alpha": 0.18, "linewidth": 0}


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
    figure, panels = style.panels(len(names))
    for panel, name in zip(panels, names, strict=True):
        for index, (label, runs) in enumerate(logs.items()):
            if _has(runs, name):
                _draw_curve(panel, label, *_curves(runs, name), index)
        style.finish(panel, x="environment steps (millions)", y=_LABELS.get(name, name))
    style.legend(figure, panels)
    if any(_num_seeds(runs, names) > 1 for runs in logs.values()):
        figure.suptitle("mean over seeds; band: lowest to highest seed", fontsize=9)
    return style.save(figure, path)


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
    figure, panels = style.panels(len(kinds))
    unit = first["protocol"]["unit"]
    for panel, kind in zip(panels, kinds, strict=True):
        for index, (label, result) in enumerate(results.items()):
            cells = _series(result, kind)
            if cells:
                _draw_survival(panel, label, [result["cells"]["nominal"], *cells], index)
        style.finish(panel, x=f"size ({unit})", y="survival", title=_KINDS[kind])
        panel.set_ylim(-0.03, 1.03)
        panel.set_xlim(left=0)
    style.legend(figure, panels)
    figure.suptitle("band: 95 % interval", fontsize=9)
    return style.save(figure, path)


def multiplier_phase(runs: Sequence[Sequence[Mapping[str, Any]]], path: Path) -> Path:
    """Draws the multiplier over the constraint's slack, as a path coloured by training steps.

    Where the slack is negative (left of the line) the constraint is violated and the multiplier
    must rise.

    Args:
      runs: logs of training runs as `read_metrics` gives them; every seed is one path.
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
    figure, (panel,) = style.panels(1, inches=(5.6, 3.8))
    last = max(run[-1]["env_steps"] for run in runs) / 1e6
    points, index = None, 0
    for run in runs:
        steps, slacks = _rows(run, keys[0])
        for slack, multiplier in zip(slacks.T, _rows(run, keys[1])[1].T, strict=True):
            points = _draw_phase(panel, steps / 1e6, slack, multiplier, index=index, last=last)
            index += 1
    panel.axvline(0.0, color="black", linewidth=0.8, linestyle="--")
    style.finish(
        panel,
        x="slack of the constraint (left of the line: violated)",
        y="multiplier",
        title="star: end of training" + ("; one marker per seed" if index > 1 else ""),
    )
    figure.colorbar(points, ax=panel).set_label("environment steps (millions)", fontsize=9)
    return style.save(figure, path)


def _draw_phase(
    panel: Any, steps: NDArray, slack: NDArray, multiplier: NDArray, *, index: int, last: float
) -> Any:
    panel.plot(slack, multiplier, color="0.75", linewidth=0.7, zorder=1)
    panel.plot(slack[-1:], multiplier[-1:], marker="*", color="black", markersize=12, zorder=3)
    return panel.scatter(
        slack,
        multiplier,
        c=steps,
        cmap=style.SEQUENTIAL,
        vmin=0.0,
        vmax=last,
        marker=style.line(index)["marker"],
        s=16,
        linewidths=0,
        zorder=2,
    )


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


def _num_seeds(runs: Sequence[Sequence[Mapping[str, Any]]], names: Sequence[str]) -> int:
    """Seeds of all runs of an arm together."""
    rows = [next((r[name] for r in run for name in names if r.get(name)), []) for run in runs]
    return sum(map(len, rows))


def _draw_curve(panel: Any, label: str, steps: NDArray, curves: NDArray, index: int) -> None:
    line, millions = style.line(index), steps / 1e6
    every = _GRID_POINTS // 8
    # Markers of different lines stand at different steps, so that none covers another.
    panel.plot(
        millions,
        curves.mean(axis=0),
        label=label,
        markevery=(5 * index % every, every),
        ms=4,
        **line,
    )
    panel.fill_between(
        millions, curves.min(axis=0), curves.max(axis=0), color=line["color"], **_BAND
    )


def _draw_survival(panel: Any, label: str, cells: Sequence[Mapping[str, Any]], index: int) -> None:
    sizes = np.array([cell["magnitude"] for cell in cells])
    estimate, low, high = np.array([cell["survival"] for cell in cells]).T
    line = style.line(index)
    panel.plot(sizes, estimate, label=label, ms=5, **line)
    panel.fill_between(sizes, low, high, color=line["color"], **_BAND)


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
    "learning_curves",
    "multiplier_phase",
    "survival_against_force",
]
