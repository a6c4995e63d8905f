"""The policy of a run directory, with everything that its export needs to know."""

import dataclasses
import math
from pathlib import Path
from typing import Any, NamedTuple

from hinf_rl import config as configs
from hinf_rl.envs.api import Env
from hinf_rl.errors import UserError
from hinf_rl.export.layout import Layout, layout_of, robot_metadata
from hinf_rl.export.metadata import FORMAT, VERSION
from hinf_rl.export.weights import Weights

CELLS = ("nominal", "continuous-1", "sudden-1", "sudden-2")
"""Cells of the robustness protocol that a verification repeats."""


class Source(NamedTuple):
    """One member of a run.

    Attributes:
      config: settings of the run.
      policy: the actor.
      env: of one instance, as trained.
      layout: of its observations.
      metadata: without what the check of an export adds.
    """

    config: Any
    policy: Any
    env: Env
    layout: Layout
    metadata: dict[str, Any]


def load_source(run: Path | str, *, seed_index: int = 0, unfinished: bool = False) -> Source:
    """Loads one member of a run.

    Args:
      run: run directory with a checkpoint.
      seed_index: which of its seeds.
      unfinished: accept a run that has not trained as long as it was meant to.

    Raises:
      UserError: no run, no checkpoint, no such seed, or the run is unfinished.
    """
    from hinf_rl.tasks import get_task
    from hinf_rl.training.run_directory import load_run

    config, algorithm, carry = load_run(run)
    carry = _member(config, carry, seed_index)
    iterations = int(carry.iteration)
    planned = math.ceil(config.total_steps / algorithm.env_steps_per_iteration)
    if iterations < planned and not unfinished:
        raise UserError(
            f"{run} is unfinished, at iteration {iterations} of {planned}; go on with `hinf-rl "
            "train ... --resume`, or take it as it is with --unfinished"
        )
    env = get_task(config.task).make_env(_native(config.env))
    layout = layout_of(env)
    facts = {
        "format": FORMAT,
        "format_version": VERSION,
        "task": config.task,
        "algorithm": config.algorithm,
        "seed_index": seed_index,
        "iterations": iterations,
        **robot_metadata(env),
        "control_dt_s": env.spec.dt_s,
        "episode_length": env.spec.episode_length,
        "observation": layout.to_json(),
        "action_size": layout.action_size,
        "action_limit": layout.action_limit,
        "output": layout.output,
        "environment": configs.to_dict(config.env),
        "actor": configs.to_dict(config.agent.actor),
        **_origin(Path(run)),
        "survival": evaluated_survival(run, seed_index),
    }
    return Source(config, algorithm.policy(carry), env, layout, facts)


def with_weights(metadata: dict[str, Any], weights: Weights, checked: Any) -> dict[str, Any]:
    """Returns metadata with the network's shape and the outcome of the check."""
    return {**metadata, "network": weights.network_json(), "checked": checked}


def evaluated_survival(run: Path | str, seed_index: int) -> dict[str, list[int]] | None:
    """Returns [survived, episodes] by cell, as `hinf-rl evaluate` found them; None without.

    Results of a run that was trained on since do not speak of its policy any more.
    """
    from hinf_rl.training.files import read_json

    results, manifest = Path(run) / "report" / "results.json", Path(run) / "manifest.json"
    if not (results.is_file() and manifest.is_file()):
        return None
    found = read_json(results)
    if found["provenance"]["training"] != read_json(manifest):
        return None
    cells = found["per_seed"][seed_index]["cells"]
    return {
        name: [cells[name]["num_survived"], cells[name]["num_episodes"]]
        for name in CELLS
        if name in cells
    }


def _member(config: Any, carry: Any, seed_index: int) -> Any:
    from hinf_rl.training.checkpoint import select_seed

    if config.seeds > 1:
        return select_seed(carry, seed_index)
    if seed_index != 0:
        raise UserError(f"seed {seed_index} does not exist; this run has seed 0 only")
    return carry


def _native(env_config: Any) -> Any:
    """The settings with native physics: an export needs a few steps, no compiled simulator."""
    if hasattr(env_config, "physics"):
        return dataclasses.replace(env_config, physics="native")
    return env_config


def _origin(run: Path) -> dict[str, Any]:
    """Versions and commits of training and export."""
    from hinf_rl.training import files, provenance

    manifest = run / "manifest.json"
    trained = files.read_json(manifest) if manifest.is_file() else {}
    return {
        "trained_with": {key: trained.get(key) for key in ("versions", "git", "date_utc")},
        "exported_with": {
            "versions": provenance.library_versions(),
            "git": provenance.git_state(),
        },
    }


__all__ = ["CELLS", "Source", "evaluated_survival", "load_source", "with_weights"]
