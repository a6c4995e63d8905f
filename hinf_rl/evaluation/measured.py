"""What an evaluation measured of each seed, whatever family of tasks it was of."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hinf_rl.errors import UserError

HIGHER_IS_BETTER = {
    "survival": True,
    "task reward / best": True,
    "pass@1": True,
    "pass@5": True,
    "mean reward": True,
    "top@1": True,
    "distinct@5": True,
    "auc": True,
    "reward": True,
    "kl": False,
    "objective": True,
}
"""Measures that tell a better policy from a worse one; errors (lower is better) come on top."""


class Measured(NamedTuple):
    """One evaluated run.

    Attributes:
      label: what it is called beside others.
      family: what its results hold: "protocol", "programs" or "diffusion".
      task: name of the task.
      algorithm: what trained it.
      values: condition to measure to [S] means, one per training seed.
      episodes: condition to [S, 2] episodes survived and run; empty where no episodes are.
      intervals: condition to measure to (mean, low, high) over the episodes of a single seed.
      setting: what must be equal for two results to be comparable.
      attacks: how attackers were trained; None where there are none.
    """

    label: str
    family: str
    task: str
    algorithm: str
    values: dict[str, dict[str, NDArray[np.float64]]]
    episodes: dict[str, NDArray[np.int64]]
    intervals: dict[str, dict[str, tuple[float, ...]]]
    setting: dict[str, Any]
    attacks: Any = None

    @property
    def num_seeds(self) -> int:
        """Number of training seeds."""
        return len(next(iter(next(iter(self.values.values())).values())))


def measured_of(label: str, results: Mapping[str, Any], *, algorithm: str) -> Measured:
    """Takes the values of every seed out of the results of an evaluation.

    Args:
      label: what to call the run.
      results: content of its `report/results.json`.
      algorithm: what trained it.

    Raises:
      UserError: the results hold no values per seed.
    """
    for read in (_protocol, _programs, _diffusion):
        found = read(label, results, algorithm)
        if found is not None:
            return found
    raise UserError(
        f"the results of {label} hold no values per seed that could be compared; evaluate it again "
        "with `hinf-rl evaluate`, or read its report"
    )


def is_higher_better(measure: str) -> bool | None:
    """Returns whether larger values are better; None where a measure does not say."""
    return False if measure.endswith("error") else HIGHER_IS_BETTER.get(measure)


def _protocol(label: str, results: Mapping[str, Any], algorithm: str) -> Measured | None:
    seeds = results.get("per_seed")
    if not isinstance(seeds, list) or not seeds or "cells" not in seeds[0]:
        return None
    names = list(seeds[0]["cells"])
    cells = {name: [seed["cells"][name] for seed in seeds] for name in names}
    rows = {name: [_of_cell(cell) for cell in column] for name, column in cells.items()}
    protocol = results["protocol"]
    return Measured(
        label=label,
        family="protocol",
        task=results["task"],
        algorithm=algorithm,
        values={
            name: {key: np.array([row[key][0] for row in column]) for key in column[0]}
            for name, column in rows.items()
        },
        episodes={
            name: np.array([(cell["num_survived"], cell["num_episodes"]) for cell in column])
            for name, column in cells.items()
        },
        intervals={name: column[0] for name, column in rows.items()} if len(seeds) == 1 else {},
        setting={key: protocol[key] for key in ("num_steps", "dt_s", "unit", "reference")},
        attacks=results.get("attack_plan"),
    )


def _of_cell(cell: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    measures = {
        "survival": cell["survival"],
        "task reward / best": cell["task_reward_fraction"],
        **cell["tracking"],
    }
    return {name.replace("_", " "): tuple(interval) for name, interval in measures.items()}


def _programs(label: str, results: Mapping[str, Any], algorithm: str) -> Measured | None:
    seeds = results.get("seeds")
    if not isinstance(seeds, list) or not seeds or "policy" not in seeds[0]:
        return None
    sampler = {"pass@1": "pass@1", "pass@5": "pass@5", "mean reward": "mean_outcome"}
    values = {
        "nothing ranked": {
            name: np.array([seed["policy"][key] for seed in seeds], float)
            for name, key in sampler.items()
            if key in seeds[0]["policy"]  # fewer programs than k have no pass@k
        }
    }
    for ranker, found in seeds[0]["rankers"].items():
        values[f"ranked by {ranker}"] = {
            name: np.array([seed["rankers"][ranker][name] for seed in seeds], float)
            for name in ("top@1", "distinct@5", "auc")
            if name in found
        }
    setting = {"per_problem": results["per_problem"]}
    return Measured(label, "programs", results["task"], algorithm, values, {}, {}, setting)


def _diffusion(label: str, results: Mapping[str, Any], algorithm: str) -> Measured | None:
    seeds = results.get("per_seed")
    if not isinstance(seeds, dict) or "fine-tuned" not in seeds:
        return None
    values = {
        "held-out contexts": {
            name.replace("_", " "): np.array(row, float)
            for name, row in seeds["fine-tuned"].items()
        }
    }
    setting = {"num_samples": results["num_samples"], "beta": results["beta"]}
    return Measured(label, "diffusion", results["task"], algorithm, values, {}, {}, setting)


__all__ = ["HIGHER_IS_BETTER", "Measured", "is_higher_better", "measured_of"]
