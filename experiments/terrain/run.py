"""Walks of a trained policy straight ahead over each kind and level of terrain.

python -m experiments.terrain.run --run runs/aliengo-terrain --steps 30e6 --seeds 3

The run is trained where the directory holds none, and continued where it was stopped; with
--evaluate-only it is taken as it is. Walks are on native physics, whatever the training was on.
Results are written after every kind and level; those that the file already holds are left.
"""

import argparse
import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.terrain.report import write_report
from experiments.terrain.walk import Walker, Walks, make_walk, walk_config
from hinf_rl.commands.train import train_run
from hinf_rl.envs.legged.config import TerrainConfig
from hinf_rl.envs.legged.heights import TILE_KINDS
from hinf_rl.evaluation import disturbances
from hinf_rl.evaluation.protocol import held_out_key
from hinf_rl.evaluation.render import render_rollout
from hinf_rl.training.checkpoint import available_steps, select_seed
from hinf_rl.training.files import read_json, write_json
from hinf_rl.training.provenance import provenance
from hinf_rl.training.run_directory import RunDirectory, load_run, read_config

RESULTS = Path(__file__).parent / "results" / "walks.json"
_FILM_S = 6.0
NUM_COLUMNS = 4
"""Different tiles of each kind and level, where chance shapes them."""


def train(options: argparse.Namespace) -> None:
    """Trains the run, or goes on with it, unless it is complete."""
    folder = options.run
    if (folder / "config.toml").exists():
        config = read_config(folder)
        steps = available_steps(RunDirectory(folder).checkpoints)
        if steps and max(steps) >= config.agent.iterations:
            return
    overrides = {"seeds": str(options.seeds), "total_steps": str(options.steps)}
    overrides |= dict(setting.split("=", 1) for setting in options.set)
    code = train_run(options.task, options.algorithm, overrides, output=folder, resume=True)
    if code:
        sys.exit(code)


def load(folder: Path) -> tuple[Any, list[Any]]:
    """The settings of a run and the policy of each of its seeds."""
    config, algorithm, carry = load_run(folder)
    carries = [carry]
    if config.seeds > 1:
        carries = [select_seed(carry, seed) for seed in range(config.seeds)]
    return config, [algorithm.policy(one) for one in carries]


def cell(walks: Sequence[Walks], *, speed_m_s: float) -> dict[str, Any]:
    """One kind and level as JSON: [seeds][walks] of everything measured."""
    return {
        "survived": [[bool(x) for x in one.survived] for one in walks],
        "time_s": [[round(float(x), 3) for x in one.time_s] for one in walks],
        "distance_m": [[round(float(x), 3) for x in one.distance_m] for one in walks],
        "velocity_error": [[round(float(x), 4) for x in one.velocity_error] for one in walks],
        "asked_m_s": speed_m_s,
    }


def measure(options: argparse.Namespace, data: dict[str, Any], output: Path) -> None:
    """Walks over what the file lacks."""
    config, policies = load(options.run)
    for kind in options.kinds:
        for level in options.levels:
            name = f"{kind} {level}"
            if name in data["cells"]:
                continue
            terrain = TerrainConfig(
                kind=kind,
                level=level,
                num_columns=NUM_COLUMNS,
                cell_m=config.env.terrain.cell_m,
                num_levels=config.env.terrain.num_levels,
            )
            settings = walk_config(config.env, terrain, duration_s=options.duration)
            walker = Walker(make_walk(settings, options.speed))
            walks = [walker(policy, held_out_key(), options.episodes) for policy in policies]
            data["cells"][name] = cell(walks, speed_m_s=options.speed)
            write_json(output, data)
            survived = sum(one.survived.mean() for one in walks) / len(walks)
            print(f"{name}: survived {survived:.2f}", flush=True)


def film(options: argparse.Namespace) -> None:
    """Draws the first seed over rough ground."""
    config, policies = load(options.run)
    terrain = TerrainConfig(kind="rough_slope", level=6, num_columns=NUM_COLUMNS)
    env = make_walk(walk_config(config.env, terrain, duration_s=options.duration), options.speed)
    nobody = disturbances.Quiet(env.spec.disturbance.size)
    steps = math.ceil(_FILM_S / env.spec.dt_s)
    folder = options.output.parent
    render_rollout(env, policies[0], nobody, held_out_key(), folder, name="rough", num_steps=steps)


def header(options: argparse.Namespace) -> dict[str, Any]:
    """What all cells have in common; results of other settings must not be mixed."""
    config = read_config(options.run)
    return {
        "task": config.task,
        "algorithm": config.algorithm,
        "seeds": config.seeds,
        "steps_per_seed": config.agent.iterations * config.agent.batch_size,
        "terrain": dataclasses.asdict(config.env.terrain),
        "episodes": options.episodes,
        "duration_s": options.duration,
        "speed_m_s": options.speed,
    }


def begin(options: argparse.Namespace) -> dict[str, Any]:
    """The results so far, where they are of the same run and settings."""
    head = header(options)
    # Through JSON, so that tuples and lists compare equal.
    if options.output.exists():
        data = read_json(options.output)
        kept = {name: data["config"].get(name) for name in head}
        if _plain(kept) == _plain(head):
            return data
        sys.exit(f"{options.output} holds results of other settings; choose another --output")
    return {
        "config": _plain(head),
        "training": read_json(options.run / "manifest.json"),
        "evaluation": provenance(),
        "cells": {},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/aliengo-terrain"))
    parser.add_argument("--task", default="aliengo-terrain")
    parser.add_argument("--algorithm", default="hinf")
    parser.add_argument("--steps", type=float, default=30e6, help="environment steps of each seed")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], help="KEY=VALUE settings of the training")
    parser.add_argument(
        "--evaluate-only", action="store_true", help="take the run as it is, complete or not"
    )
    parser.add_argument("--kinds", nargs="+", default=list(TILE_KINDS), choices=list(TILE_KINDS))
    parser.add_argument("--levels", nargs="+", type=int, default=[0, 3, 6, 9])
    parser.add_argument("--episodes", type=int, default=64, help="walks of each seed")
    parser.add_argument("--duration", type=float, default=20.0, help="seconds of a walk")
    parser.add_argument("--speed", type=float, default=0.8, help="forward speed asked for, m/s")
    parser.add_argument("--output", type=Path, default=RESULTS)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    options = parse(argv)
    if not options.evaluate_only:
        train(options)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    measure(options, begin(options), options.output)
    film(options)
    print(write_report(options.output))


if __name__ == "__main__":
    main()
