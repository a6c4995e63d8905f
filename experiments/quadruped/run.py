"""Trains every algorithm on Aliengo at equal steps and measures all of them alike.

python -m experiments.quadruped.run --steps 6e6 --seeds 3

Each algorithm is a run directory below --output: started where there is none, continued where
it was stopped, skipped where it is complete. Results are written after every algorithm.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.quadruped.report import RESULTS, write_report
from hinf_rl.commands.train import train_run
from hinf_rl.control_tasks import ALGORITHMS
from hinf_rl.evaluation.protocol import ProtocolConfig
from hinf_rl.evaluation.report import AttackPlan, evaluate_run, read_results
from hinf_rl.training.checkpoint import available_steps
from hinf_rl.training.files import read_json, write_json
from hinf_rl.training.logging import read_metrics
from hinf_rl.training.run_directory import RunDirectory, read_config

_CURVES = ("env/task_share", "env/velocity_error", "episode/length", "constraint/intensity")
_CURVE_POINTS = 60


def train(algorithm: str, folder: Path, *, steps: float, seeds: int) -> None:
    """Trains one algorithm, or goes on with it."""
    overrides = {"seeds": str(seeds), "total_steps": str(steps), "log_every": "5"}
    code = train_run("aliengo", algorithm, overrides, output=folder, resume=True)
    if code:
        sys.exit(code)


def is_complete(folder: Path) -> bool:
    """Whether a run directory holds the checkpoint of its last iteration."""
    if not (folder / "config.toml").exists():
        return False
    config = read_config(folder)
    steps = available_steps(RunDirectory(folder).checkpoints)
    return bool(steps) and max(steps) >= config.agent.iterations


def summary(folder: Path, results: dict[str, Any]) -> dict[str, Any]:
    """What is kept of one algorithm: its cells, its curves and how it was made."""
    log = read_metrics(folder / "metrics.jsonl")
    stride = math.ceil(len(log) / _CURVE_POINTS)
    kept = [log[index] for index in range(len(log) - 1, -1, -stride)][::-1]
    names = ("iteration", "env_steps", *_CURVES)
    config = read_config(folder)
    return {
        **{name: results[name] for name in ("protocol", "task", "num_seeds", "cells", "gain")},
        "attack_plan": results["attack_plan"],
        "attenuation": config.agent.constraint.attenuation,
        "steps_per_seed": log[-1]["env_steps"],
        "wall_s": log[-1]["wall_s"],
        "curves": [{name: row[name] for name in names if name in row} for row in kept],
        "training": read_json(folder / "manifest.json"),
        "evaluation": results["provenance"]["evaluation"],
    }


def evaluate(folder: Path, options: argparse.Namespace) -> None:
    """Runs the protocol on one algorithm; its run directory keeps the results."""
    evaluate_run(
        folder,
        protocol=ProtocolConfig(num_envs=options.episodes),
        attacks=AttackPlan(per_objective=options.attackers, iterations=options.attack_iterations),
        pictures=False,
        physics=options.physics,
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=float, default=6e6, help="environment steps of each seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("runs/quadruped"))
    parser.add_argument("--algorithms", nargs="+", default=sorted(ALGORITHMS))
    parser.add_argument("--episodes", type=int, default=96, help="episodes of each cell")
    parser.add_argument("--attackers", type=int, default=2, help="attackers of each objective")
    parser.add_argument("--attack-iterations", type=int, default=100)
    parser.add_argument(
        "--physics", choices=("native", "mjx"), help="of the tests; by default that of the training"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="what the report is made of")
    parser.add_argument(
        "--evaluate-only", action="store_true", help="take the runs as they are, complete or not"
    )
    parser.add_argument(
        "--keep-evaluations", action="store_true", help="take a run's own report where there is one"
    )
    options = parser.parse_args(argv)
    for algorithm in options.algorithms:
        folder = options.output / algorithm
        if not (options.evaluate_only or is_complete(folder)):
            train(algorithm, folder, steps=options.steps, seeds=options.seeds)
        if not (options.keep_evaluations and (folder / "report/results.json").exists()):
            evaluate(folder, options)
        options.results.mkdir(parents=True, exist_ok=True)
        write_json(options.results / f"{algorithm}.json", summary(folder, read_results(folder)))
        write_report(options.results)


if __name__ == "__main__":
    main()
