"""Episode records as JSON-ready cells, and cells of several training seeds as one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hinf_rl.errors import UserError
from hinf_rl.evaluation.record import EpisodeRecord
from hinf_rl.evaluation.statistics import (
    Interval,
    bootstrap_interval,
    stratified_interval,
    wilson_interval,
)

_MEASURES = (
    "survival_time_s",
    "task_reward_fraction",
    "episode_return",
    "cost",
    "intensity",
    "force",
)


def cell_of(record: EpisodeRecord, **labels: Any) -> dict[str, Any]:
    """Returns one cell of the grid: every measure as mean, low and high end of its interval.

    Survival has Wilson's interval (a bootstrap of a share of 1 would claim certainty), the
    other measures a bootstrap over episodes. Both speak of this one policy, not of training.

    Args:
      record: the cell's episodes.
      labels: what the cell is, for example its kind and magnitude; copied into it.
    """
    survived = int(record.survived.sum())
    cell = {
        **labels,
        "num_episodes": len(record.survived),
        "num_survived": survived,
        "num_nonfinite": int(record.nonfinite.sum()),
        "survival": as_json(wilson_interval(survived, len(record.survived))),
    }
    for name in _MEASURES:
        cell[name] = as_json(bootstrap_interval(getattr(record, name)))
    cell["tracking"] = {
        name: as_json(bootstrap_interval(values)) for name, values in record.tracking.items()
    }
    cell["rose"] = [float(size) for size in record.rose.mean(axis=0)]
    cell["rose_survival"] = _weighted_shares(record.survived, record.rose)
    return cell


def gain_of(cell: Mapping[str, Any], nominal: Mapping[str, Any]) -> float | None:
    """Returns what the cell's disturbance cost per intensity, above the nominal cost.

    `(mean cost - mean nominal cost) / mean intensity`; None where nothing was applied.
    """
    intensity = cell["intensity"][0]
    return (cell["cost"][0] - nominal["cost"][0]) / intensity if intensity > 0 else None


def merge_results(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Merges the results of one training arm over its seeds; intervals then speak of training.

    Survival is resampled over seeds and over the episodes within each, the other measures over
    the seeds' means. A single seed keeps its intervals over episodes. Attacks stay out: their
    attackers differ from seed to seed, and the worst of each seed is already the cell
    "deliberate".

    Args:
      results: what `run_protocol` returned for each seed; same protocol, task and cells.
    """
    if not results:
        raise UserError("no results to merge; give at least one")
    first = results[0]
    for other in results[1:]:
        for part in ("protocol", "task"):
            if other[part] != first[part]:
                raise UserError(
                    f"results of different {part} cannot be merged: {first[part]} and "
                    f"{other[part]}; evaluate all seeds alike"
                )
        if set(other["cells"]) != set(first["cells"]):
            odd = sorted(set(other["cells"]) ^ set(first["cells"]))
            raise UserError(f"results to merge have different cells: {', '.join(odd)}")
    gains = [result["gain"]["value"] for result in results]
    known = [gain for gain in gains if gain is not None]
    return {
        "protocol": first["protocol"],
        "task": first["task"],
        "num_seeds": len(results),
        "cells": {
            name: _merge_cells([result["cells"][name] for result in results])
            for name in first["cells"]
        },
        "gain": {"value": max(known) if known else None, "per_seed": gains},
    }


def as_json(interval: Interval) -> list[float]:
    """Returns [mean, low, high]."""
    return [float(number) for number in interval]


def _merge_cells(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if len(cells) == 1:  # nothing to resample: the intervals over its episodes are all there is
        return {**cells[0], "survival_per_seed": [cells[0]["survival"][0]]}
    merged = {name: cells[0][name] for name in ("kind", "fraction", "magnitude")}
    for name in ("num_episodes", "num_survived", "num_nonfinite"):
        merged[name] = sum(cell[name] for cell in cells)
    merged["survival"] = _merge_survival(cells)
    merged["survival_per_seed"] = [cell["survival"][0] for cell in cells]
    for name in _MEASURES:
        merged[name] = as_json(bootstrap_interval([cell[name][0] for cell in cells]))
    merged["tracking"] = {
        name: as_json(bootstrap_interval([cell["tracking"][name][0] for cell in cells]))
        for name in cells[0]["tracking"]
    }
    merged["rose"] = np.mean([cell["rose"] for cell in cells], axis=0).tolist()
    shares = np.array([cell["rose_survival"] for cell in cells], float)  # None turns into NaN
    merged["rose_survival"] = _weighted_shares(shares, [cell["rose"] for cell in cells])
    return merged


def _weighted_shares(shares: ArrayLike, weights: ArrayLike) -> list[float | None]:
    """[D] means of [N] or [N, D] shares under [N, D] weights; None where nothing has weight."""
    weights = np.asarray(weights, float)
    shares = np.asarray(shares, float)
    shares = np.broadcast_to(shares if shares.ndim > 1 else shares[:, None], weights.shape)
    total = weights.sum(axis=0)
    # A share that is not known has no weight, and must not spoil the sum as NaN * 0.
    known = np.where(weights > 0, shares, 0.0)
    mean = (known * weights).sum(axis=0) / np.where(total > 0, total, 1.0)
    return [float(m) if t > 0 else None for m, t in zip(mean, total, strict=True)]


def _merge_survival(cells: Sequence[Mapping[str, Any]]) -> list[float]:
    lengths = {cell["num_episodes"] for cell in cells}
    if len(lengths) > 1:
        return as_json(bootstrap_interval([cell["survival"][0] for cell in cells]))
    episodes = np.arange(lengths.pop())
    return as_json(stratified_interval([episodes < cell["num_survived"] for cell in cells]))


__all__ = ["as_json", "cell_of", "gain_of", "merge_results"]
