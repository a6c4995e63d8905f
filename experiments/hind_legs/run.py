"""Trains A1 on its hind legs and measures it beside a robot that only holds its stance.

python -m experiments.hind_legs.run --algorithm nominal --steps 12e6

The run directory below --output is started where there is none, continued where it was stopped and
left where it is complete; then both policies take the same tests, on native physics even where an
accelerator trained on MJX. A run from elsewhere is tested with --evaluate-only.
"""

import argparse
import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from flax import struct

from experiments.hind_legs.report import RESULTS, write_report
from hinf_rl.commands.train import parse_assignments, train_run
from hinf_rl.control_tasks import ALGORITHMS
from hinf_rl.evaluation import disturbances
from hinf_rl.evaluation.protocol import ProtocolConfig, held_out_key, run_protocol
from hinf_rl.evaluation.render import render_rollout
from hinf_rl.evaluation.rollout import Evaluator
from hinf_rl.evaluation.summary import merge_results
from hinf_rl.tasks import get_task
from hinf_rl.training.checkpoint import select_seed
from hinf_rl.training.files import read_json, write_json
from hinf_rl.training.logging import read_metrics
from hinf_rl.training.provenance import provenance
from hinf_rl.training.run_directory import load_run
from hinf_rl.types import Array

TASK = "a1-hind-legs"
_CURVES = ("env/task_share", "env/velocity_error", "episode/length")
_CURVE_POINTS = 60
_FILM_S = 6.0


@struct.dataclass
class ZeroAction:
    """Holds the stance: what the robot does before it has learned anything.

    Attributes:
      size: length of the action.
    """

    size: int = struct.field(pytree_node=False)

    def __call__(self, observation: dict[str, Array], key: Array | None = None) -> Array:
        del key
        return jnp.zeros((observation["policy"].shape[0], self.size), jnp.float32)


def train(folder: Path, options: argparse.Namespace) -> None:
    """Trains, or goes on; ends the script where a signal ended the training."""
    overrides = {
        "seeds": str(options.seeds),
        "total_steps": str(options.steps),
        "log_every": "5",
        "checkpoint_every": "20",
        **parse_assignments(tuple(options.set)),
    }
    code = train_run(TASK, options.algorithm, overrides, output=folder, resume=True)
    if code:
        sys.exit(code)


def evaluate(folder: Path, episodes: int) -> dict[str, Any]:
    """Tests every seed of the run, and zero action, on the same episodes."""
    config, algorithm, carry = load_run(folder)
    carries = [carry]
    if config.seeds > 1:
        carries = [select_seed(carry, seed) for seed in range(config.seeds)]
    nominal, randomised = (Evaluator(_env(config.env, flag)) for flag in (False, True))
    grid = ProtocolConfig(num_envs=episodes)

    def measure(policy: Any) -> dict[str, Any]:
        return run_protocol(nominal, policy, randomised_env=randomised, config=grid)

    trained = [measure(algorithm.policy(one)) for one in carries]
    zero = measure(ZeroAction(size=nominal.env.spec.action_size))
    return {"trained": merge_results(trained), "zero action": merge_results([zero])}


def _env(config: Any, randomise: bool) -> Any:
    return get_task(TASK).make_env(
        dataclasses.replace(config, randomise=randomise, physics="native")
    )


def film(folder: Path) -> None:
    """Draws the first seed under sudden pushes of the full size."""
    config, algorithm, carry = load_run(folder)
    env = _env(config.env, randomise=False)
    policy = algorithm.policy(select_seed(carry, 0) if config.seeds > 1 else carry)
    push = disturbances.sudden(env.spec, env.spec.disturbance.limit)
    steps = math.ceil(_FILM_S / env.spec.dt_s)
    render_rollout(env, policy, push, held_out_key(), RESULTS, name="sudden", num_steps=steps)


def summary(folder: Path, arms: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """What is kept: both arms' cells, the training's curves and how it was made."""
    log = read_metrics(folder / "metrics.jsonl")
    stride = math.ceil(len(log) / _CURVE_POINTS)
    kept = [log[index] for index in range(len(log) - 1, -1, -stride)][::-1]
    names = ("iteration", "env_steps", *_CURVES)
    return {
        "algorithm": options.algorithm,
        "steps_per_seed": log[-1]["env_steps"],
        "seeds": arms["trained"]["num_seeds"],
        "wall_s": log[-1]["wall_s"],
        "arms": {
            name: {part: arm[part] for part in ("protocol", "task", "num_seeds", "cells")}
            for name, arm in arms.items()
        },
        "curves": [{name: row[name] for name in names if name in row} for row in kept],
        "training": read_json(folder / "manifest.json"),
        "evaluation": provenance(),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=float, default=12e6, help="environment steps of each seed")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--algorithm", choices=sorted(ALGORITHMS), default="nominal")
    parser.add_argument("--episodes", type=int, default=96, help="episodes of each cell")
    parser.add_argument("--output", type=Path, default=Path("runs/hind_legs"))
    parser.add_argument(
        "--evaluate-only", action="store_true", help="take the run as it is, complete or not"
    )
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="other settings")
    options = parser.parse_args(argv)
    folder = options.output / options.algorithm
    if not options.evaluate_only:
        train(folder, options)
    arms = evaluate(folder, options.episodes)
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_json(RESULTS / f"{options.algorithm}.json", summary(folder, arms, options))
    film(folder)
    write_report()


if __name__ == "__main__":
    main()
