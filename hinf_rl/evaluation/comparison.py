"""Runs of one task against each other: estimates with intervals, chances of being better.

Source of the interquartile mean and of the probability of improvement: Agarwal et al. 2021,
"Deep RL at the edge of the statistical precipice". There every task has runs of its own; here one
training seed is measured under all conditions, so a seed is resampled with all that it measured:
conditions drawn apart from each other would claim too much.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hinf_rl.errors import UserError
from hinf_rl.evaluation.measured import Measured, is_higher_better
from hinf_rl.evaluation.statistics import (
    Interval,
    Statistic,
    bootstrap_interval,
    interquartile_mean,
    mean,
    stratified_interval,
)

SEEDS_FOR_IQM = 3
"""With fewer seeds in any run, means are reported instead of interquartile means."""

_RESAMPLES = 2000


class Improvement(NamedTuple):
    """Chance that a run of one arm beats one of another.

    Attributes:
      value: in [0, 1]; 0.5 for equals.
      low: lower end of the interval; None where an arm has one seed, which tells no spread.
      high: upper end.
    """

    value: float
    low: float | None
    high: float | None


def improvement(
    ours: ArrayLike,
    theirs: ArrayLike,
    *,
    confidence: float = 0.95,
    num_resamples: int = _RESAMPLES,
    seed: int = 0,
) -> Improvement:
    """Average over conditions of `P(X > Y) + P(X = Y) / 2`.

    Args:
      ours: [C, N] values of N seeds under C conditions, larger is better.
      theirs: [C, M] values under the same conditions.
      confidence: coverage aimed at, in (0, 1).
      num_resamples: bootstrap resamples of the seeds of both arms.
      seed: of the resampling.

    Raises:
      UserError: no values, or different conditions.
    """
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    if ours.ndim != 2 or theirs.ndim != 2 or len(ours) != len(theirs) or not ours.size:
        raise UserError(
            f"values must be [conditions, seeds] with equal conditions, got shapes {ours.shape} "
            f"and {theirs.shape}"
        )
    if not 0.0 < confidence < 1.0:
        raise UserError(f"confidence must lie in (0, 1), got {confidence}")
    # The average over conditions first: what is left is a matrix of pairs of seeds.
    gap = np.sign(ours[:, :, None] - theirs[:, None, :])
    wins = np.mean(0.5 * (gap + 1.0), axis=0)
    value = float(wins.mean())
    if min(wins.shape) < 2:
        return Improvement(value, None, None)
    generator = np.random.default_rng(seed)
    rows, columns = (generator.integers(0, size, (num_resamples, size)) for size in wins.shape)
    resampled = wins[rows[:, :, None], columns[:, None, :]].mean(axis=(1, 2))
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(resampled, [tail, 100.0 - tail])
    return Improvement(value, float(low), float(high))


def compare(arms: Sequence[Measured]) -> dict[str, Any]:
    """Compares runs under the conditions that all of them were measured under.

    Args:
      arms: the runs; the first is what the others are compared with.

    Returns:
      JSON-ready: `task`, `runs`, `statistic`, `measures` (measure to condition to run to
      [estimate, low, high]), `overall` (measure to run to the same, over all conditions),
      `improvement` (measure to run to value, low, high) and `notes`.

    Raises:
      UserError: they are of different tasks, or were not measured alike.
    """
    _check_comparable(arms)
    names, notes = _conditions(arms)
    is_trimmed = min(arm.num_seeds for arm in arms) >= SEEDS_FOR_IQM
    statistic = interquartile_mean if is_trimmed else mean
    measures: dict[str, Any] = {}
    overall: dict[str, Any] = {}
    chances: dict[str, Any] = {}
    for measure in _shared_measures(arms, names):
        shared = [name for name in names if all(measure in arm.values[name] for arm in arms)]
        measures[measure] = {
            name: {arm.label: _estimate(arm, name, measure, statistic) for arm in arms}
            for name in shared
        }
        tables = {arm.label: np.array([arm.values[c][measure] for c in shared]) for arm in arms}
        overall[measure] = {label: _overall(table, statistic) for label, table in tables.items()}
        better = is_higher_better(measure)
        if better is not None:
            sign = 1.0 if better else -1.0
            first = sign * tables[arms[0].label]
            chances[measure] = {
                arm.label: improvement(sign * tables[arm.label], first)._asdict()
                for arm in arms[1:]
            }
    return {
        "task": arms[0].task,
        "family": arms[0].family,
        "runs": [
            {"label": arm.label, "algorithm": arm.algorithm, "seeds": arm.num_seeds} for arm in arms
        ],
        "statistic": "interquartile mean" if is_trimmed else "mean",
        "measures": measures,
        "overall": overall,
        "improvement": chances,
        "notes": notes,
    }


def _check_comparable(arms: Sequence[Measured]) -> None:
    if len(arms) < 2:
        raise UserError("a comparison needs at least two runs; hinf-rl compare RUN RUN ...")
    first = arms[0]
    for arm in arms[1:]:
        if arm.task != first.task or arm.family != first.family:
            raise UserError(
                f"{arm.label} is of task {arm.task!r}, {first.label} of {first.task!r}; compare "
                "runs of one task"
            )
        if arm.setting != first.setting:
            raise UserError(
                f"{arm.label} was measured with {arm.setting}, {first.label} with "
                f"{first.setting}; run `hinf-rl evaluate` on both in the same way"
            )


def _conditions(arms: Sequence[Measured]) -> tuple[list[str], list[str]]:
    """Returns the conditions that all arms share, and what was left out."""
    notes = []
    names = [name for name in arms[0].values if all(name in arm.values for arm in arms)]
    odd = {name for arm in arms for name in arm.values} - set(names)
    if odd:
        notes.append(f"not measured for every run, so left out: {', '.join(sorted(odd))}")
    if any(arm.attacks != arms[0].attacks for arm in arms):
        names = [name for name in names if not name.startswith("deliberate")]
        notes.append(
            "attackers were trained differently for these runs, so the deliberate attacks are "
            "left out; evaluate all runs with the same plan"
        )
    if not names:
        raise UserError(
            "these runs share no condition that they were measured under; run `hinf-rl evaluate` "
            "on each in the same way"
        )
    return names, notes


def _shared_measures(arms: Sequence[Measured], names: Sequence[str]) -> Iterator[str]:
    known = {measure: None for name in names for measure in arms[0].values[name]}
    for measure in known:
        if any(all(measure in arm.values[name] for arm in arms) for name in names):
            yield measure


def _estimate(arm: Measured, condition: str, measure: str, statistic: Statistic) -> list[float]:
    values = arm.values[condition][measure]
    if len(values) == 1:  # its episodes are all there is to resample
        known = arm.intervals.get(condition, {}).get(measure)
        return _as_list(Interval(*known) if known else Interval(*[float(values[0])] * 3))
    rows = arm.episodes.get(condition) if measure == "survival" else None
    if rows is not None and len(set(rows[:, 1].tolist())) == 1:
        episodes = np.arange(rows[0, 1])[None] < rows[:, :1]
        return _as_list(stratified_interval(episodes, statistic=statistic))
    return _as_list(bootstrap_interval(values, statistic=statistic))


def _overall(table: NDArray[np.float64], statistic: Statistic) -> list[float]:
    """Of [C, S] values: over all seeds and conditions at once, seeds resampled."""
    num_seeds = table.shape[1]
    value = float(statistic(table.reshape(-1)))
    if num_seeds == 1:
        return [value, value, value]
    picks = np.random.default_rng(0).integers(0, num_seeds, (_RESAMPLES, num_seeds))
    resampled = np.moveaxis(table[:, picks], 1, 0).reshape(_RESAMPLES, -1)
    low, high = np.percentile(statistic(resampled), [2.5, 97.5])
    return [value, float(low), float(high)]


def _as_list(interval: Interval) -> list[float]:
    return [float(number) for number in interval]


__all__ = ["SEEDS_FOR_IQM", "Improvement", "compare", "improvement"]
