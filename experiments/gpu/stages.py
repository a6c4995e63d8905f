"""What each stage measures; a process of its own runs one of them.

python -m experiments.gpu.stages KIND --settings JSON --output FILE

The file is written anew whenever a part is measured, so that a stage that dies leaves the rest.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from experiments.benchmarks import training as benchmark
from experiments.benchmarks.timing import alternate, speed
from experiments.parity import run as parity_run
from hinf_rl.agents.api import Algorithm
from hinf_rl.agents.hinf import make
from hinf_rl.commands.train import train_run
from hinf_rl.envs.batch import BatchEnv
from hinf_rl.evaluation.protocol import ProtocolConfig
from hinf_rl.evaluation.report import AttackPlan, evaluate_run
from hinf_rl.tasks import configure, get_task
from hinf_rl.training import loop
from hinf_rl.training.compiled import for_seeds
from hinf_rl.training.devices import select_device
from hinf_rl.training.files import read_json, write_json
from hinf_rl.training.logging import read_metrics
from hinf_rl.training.provenance import provenance

Save = Callable[[dict[str, Any]], None]
PHYSICS = "2 x 10 ms"
"""The task's own physics steps."""
_CURVE = ("env_steps", "wall_s", "env/task_share", "constraint/intensity", "constraint/multiplier")
_MAIN_JOB = Path(__file__).parents[1] / "quadruped/results/main_job.json"


def parity(settings: Mapping[str, Any], save: Save) -> None:
    """MJX against native physics on this device, from equal states."""
    rows = parity_run.divergence(settings["robot"], settings["num_envs"])
    save({**settings, "rows": rows, "versions": parity_run.versions()})


def speed_of(settings: Mapping[str, Any], save: Save) -> None:
    """Simulation alone, then each algorithm: control steps/s, compile time and memory."""
    impl, num_envs, seeds = settings["impl"], settings["num_envs"], settings["seeds"]
    rounds = settings.get("rounds", 5)
    sides: dict[str, Any] = {}
    found = {"impl": impl, "num_envs": num_envs, "seeds": seeds, "sides": sides}
    changes = {
        **benchmark.overrides(num_envs, PHYSICS),
        **_on_mjx(impl, num_envs * seeds),
        **settings.get("overrides", {}),
    }
    for name in ("simulation", *settings.get("algorithms", benchmark.ALGORITHMS)):
        algorithm = "nominal" if name == "simulation" else name
        config = configure("aliengo", algorithm, changes)
        env, agent = get_task("aliengo").make_env(config.env), config.agent
        start_s = time.perf_counter()
        if name == "simulation":
            run = benchmark.simulation_side(BatchEnv(env, num_envs * seeds), agent.unroll_length)
            run()
            compile_s = time.perf_counter() - start_s
        else:
            run = benchmark.Trainer(of_seeds(make(agent, env), seeds))
            compile_s = run.compile_s
        seconds = alternate({name: run}, rounds)[name]
        sides[name] = {
            "env_steps_per_s": speed(seconds, agent.batch_size * seeds),
            "seconds": seconds,
            "compile_s": compile_s,
            "peak_memory_mb": peak_memory_mb(),
        }
        found["agent"] = {
            key: getattr(agent, key) for key in ("unroll_length", "num_epochs", "num_minibatches")
        }
        save(found)
        del run


def of_seeds(algorithm: Algorithm, seeds: int) -> Algorithm:
    """The algorithm of many members, side by side."""
    if seeds == 1:
        return algorithm
    init = loop.make_init(algorithm, loop.seed_keys(0, seeds))
    return algorithm._replace(
        init=lambda _key: init(),
        step=for_seeds(algorithm.step, "vmapped", None),
        env_steps_per_iteration=seeds * algorithm.env_steps_per_iteration,
    )


def peak_memory_mb() -> float | None:
    """Most device memory that this process has used so far; None where it is not counted."""
    counts = jax.local_devices()[0].memory_stats()
    return None if not counts else counts["peak_bytes_in_use"] / 1e6


def _on_mjx(impl: str, rows: int) -> dict[str, Any]:
    """Overrides; Warp's memory for contacts goes with the number of robots.

    Each limit for "jax" alone costs no accuracy on this task and saves time (`experiments/parity`).
    """
    limits = {
        "jax": {"env.mjx.ls_iterations": 8, "env.mjx.max_contact_points": 4},
        "warp": {"env.mjx.warp_contacts": 8 * rows},
    }
    return {"env.physics": "mjx", "env.mjx.impl": impl, **limits[impl]}


def train(settings: Mapping[str, Any], save: Save) -> None:
    """Seeds side by side, until the steps are done or the process is told to stop."""
    run, task = Path(settings["run"]), settings["task"]
    num_envs, seeds = settings["num_envs"], settings["seeds"]
    overrides = {
        **_on_mjx(settings["impl"], num_envs * seeds),
        "agent.num_envs": num_envs,
        "seeds": seeds,
        "total_steps": math.ceil(settings["steps"] / seeds),
        "log_every": 5,
        "checkpoint_every": 1000,
        "keep_checkpoints": 1,
        **settings.get("overrides", {}),
    }
    text = {name: str(value) for name, value in overrides.items()}
    code = train_run(task, settings["algorithm"], text, output=run, resume=False)
    log = read_metrics(run / "metrics.jsonl")
    wanted = reference() if task == "aliengo" else None
    save(
        {
            "impl": settings["impl"],
            "task": task,
            "algorithm": settings["algorithm"],
            "num_envs": num_envs,
            "seeds": seeds,
            "exit_code": code,
            "env_steps": log[-1]["env_steps"],
            "wall_s": log[-1]["wall_s"],
            "reference": wanted,
            "to_reference": wanted and time_to(log, wanted["training_task_share"]),
            "task_share": _mean(log[-1]["env/task_share"]),
            "curve": [
                {name: row[name] for name in _CURVE if name in row}
                for row in log[:: max(1, len(log) // 50)]
            ],
        }
    )


def reference() -> dict[str, float]:
    """The committed main job: the best share of the task reward in training, and in the test."""
    job = read_json(_MAIN_JOB)
    cell = job["cells"]["nominal"]
    return {
        "training_task_share": max(_mean(row["env/task_share"]) for row in job["curves"]),
        "task_reward_fraction": cell["task_reward_fraction"][0],
        "velocity_error": cell["tracking"]["velocity_error"][0],
        "survival": cell["survival"][0],
    }


def time_to(log: list[dict[str, Any]], share: float) -> dict[str, float] | None:
    """Steps and seconds to the first line of the log that has such a share of the task reward."""
    for row in log:
        if _mean(row["env/task_share"]) >= share:
            return {"env_steps": row["env_steps"], "wall_s": row["wall_s"]}
    return None


def _mean(value: float | list[float]) -> float:
    """Of a logged metric, which has one entry for each seed."""
    return sum(value) / len(value) if isinstance(value, list) else value


def evaluate(settings: Mapping[str, Any], save: Save) -> None:
    """The protocol without attackers, on the physics that is asked for."""
    make_grid = ProtocolConfig.quick if settings.get("quick") else ProtocolConfig
    results = evaluate_run(
        settings["run"],
        protocol=make_grid(num_envs=settings.get("num_envs", 96)),
        attacks=AttackPlan(per_objective=0),
        pictures=False,
        physics=settings["physics"],
    )
    save(
        {
            "physics": settings["physics"],
            "protocol": results["protocol"],
            "cells": {
                name: {key: cell[key] for key in ("survival", "task_reward_fraction", "tracking")}
                for name, cell in results["cells"].items()
            },
            "reference": reference(),
        }
    )


KINDS = {"evaluate": evaluate, "parity": parity, "speed": speed_of, "train": train}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("--settings", type=json.loads, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    select_device(None)

    def save(result: dict[str, Any]) -> None:
        write_json(options.output, {"provenance": provenance(), "result": result})

    KINDS[options.kind](options.settings, save)


if __name__ == "__main__":
    main()
