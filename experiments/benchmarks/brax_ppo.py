"""Our PPO against Brax's own on Brax's inverted pendulum, with the same settings, in turns.

python -m experiments.benchmarks.brax_ppo [--seeds N]

Brax's trainers need jax < 0.10, so Brax runs in an environment of its own (see `venvs`).
"""

import argparse
import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarks.ppo_settings import Settings, to_text
from experiments.benchmarks.timing import ratio, speed
from experiments.benchmarks.turns import Side, side
from experiments.benchmarks.venvs import interpreter, require
from hinf_rl.training.files import write_json
from hinf_rl.training.provenance import provenance

RESULTS = Path(__file__).parent / "results" / "brax_ppo.json"
# A cache of compiled programs would hide what a fresh start costs.
ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false"}
WARM_UP = 2
"""Turns left out of the steady speed: Brax compiles its epoch in each of the first two."""
PROFILE_ROUNDS = 3
SIDES = ("ours", "brax")


def our_overrides(settings: Settings) -> dict[str, Any]:
    """Ours as Brax's; the critic's step size, which Brax's loss does not have, is the task's."""
    player = {"hidden": list(settings.hidden), "activation": "tanh"}
    values = {
        "env.backend": settings.backend,
        "env.episode_length": settings.episode_length,
        "agent.num_envs": settings.num_envs,
        "agent.unroll_length": settings.unroll_length,
        "agent.num_epochs": settings.num_epochs,
        "agent.num_minibatches": settings.num_minibatches,
        "agent.gamma": settings.gamma,
        "agent.gae_lambda": settings.gae_lambda,
        "agent.clip_ratio": settings.clip_ratio,
        "agent.actor.distribution": "tanh_normal",
        "agent.actor.learning_rate": settings.learning_rate,
        "agent.actor.desired_kl": None,
        "agent.actor.entropy_cost": settings.entropy_cost,
    }
    for part in ("actor", "critic"):
        values |= {f"agent.{part}.{name}": value for name, value in player.items()}
    return values


def our_command(
    task: str, overrides: dict[str, Any], *, per_turn: int, turns: int, seed: int, evaluations: int
) -> list[str]:
    """The process that trains `task`."""
    return [
        sys.executable, "-m", "experiments.benchmarks.our_side", "--task", task,
        "--set", json.dumps(overrides), "--iterations-per-turn", str(per_turn),
        "--turns", str(turns), "--seed", str(seed), "--evaluation-envs", str(evaluations),
    ]  # fmt: skip


def brax_command(settings: Settings, seed: int) -> list[str]:
    """The process that trains with Brax."""
    return [
        str(interpreter("brax")), "-m", "experiments.benchmarks.brax_side",
        "--settings", to_text(settings), "--seed", str(seed),
    ]  # fmt: skip


class Trained:
    """One training of one side so far."""

    def __init__(self, opened: Side) -> None:
        self._side = opened
        self.answers = [opened.read_json()]
        self.first_result_s = time.perf_counter() - opened.started_s

    def turn(self) -> None:
        """The next turn."""
        self.answers.append(self._side.ask_json("turn"))

    def finish(self, profiles: Sequence[str]) -> dict[str, Any]:
        """Ends the training; returns what it came to."""
        seconds = [answer["seconds"] for answer in self.answers]
        return {
            "first_result_s": self.first_result_s,
            # Of turns only: the other side's were in between.
            "wall_s": self.first_result_s + sum(seconds[1:]),
            "turn_s": seconds,
            "steps": self.answers[-1]["steps"],
            "compiled_at_first_result": self.answers[0]["compiled"],
            "compiled": self.answers[-1]["compiled"],
            "versions": self._side.ask_json("turn"),
            "return": self._side.ask_json("evaluate")["return"],
            "profile_s": {name: self._profile(name) for name in profiles},
        }

    def _profile(self, name: str) -> list[float]:
        return [self._side.ask_json(name)["seconds"] for _ in range(PROFILE_ROUNDS)]


def train_both(settings: Settings, seed: int, limit_s: float) -> dict[str, dict[str, Any]]:
    """One training of each side, turn by turn."""
    ours = our_command(
        f"brax:{settings.environment}",
        our_overrides(settings),
        per_turn=settings.iterations_per_turn,
        turns=settings.turns,
        seed=seed,
        evaluations=settings.evaluation_envs,
    )
    commands = {"ours": ours, "brax": brax_command(settings, seed)}
    profiles = {"ours": ("simulate", "reset"), "brax": ("simulate",)}
    # Who starts first finds a colder disk.
    order = SIDES if seed % 2 == 0 else SIDES[::-1]
    with contextlib.ExitStack() as stack:
        trained = {}
        # The second starts when the first has its first result and waits.
        for name in order:
            opened = side(commands[name], limit_s=limit_s, environment=ENVIRONMENT)
            trained[name] = Trained(stack.enter_context(opened))
        for index in range(settings.turns - 1):
            for name in order if index % 2 == 0 else order[::-1]:
                trained[name].turn()
        return {name: trained[name].finish(profiles[name]) for name in order}


def summary(settings: Settings, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Ratios over all seeds; above 1 is in our favour."""
    steady = {
        name: [s for run in runs for s in run[name]["turn_s"][WARM_UP:]]
        for name in ("ours", "brax")
    }

    def over_seeds(field: str) -> dict[str, list[float]]:
        return {name: [run[name][field] for run in runs] for name in SIDES}

    first, wall = over_seeds("first_result_s"), over_seeds("wall_s")
    return {
        "env_steps_per_s": {
            name: speed(taken, settings.steps_per_turn) for name, taken in steady.items()
        },
        "steady_speed_ratio": ratio(steady["brax"], steady["ours"]),
        "first_result_ratio": ratio(first["brax"], first["ours"]),
        "wall_ratio": ratio(wall["brax"], wall["ours"]),
        "first_result_s": first,
        "wall_s": wall,
        "return": over_seeds("return"),
    }


def main() -> None:
    """Measures and writes one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--turns", type=int, default=Settings.turns)
    parser.add_argument("--num-envs", type=int, default=Settings.num_envs)
    parser.add_argument("--limit-s", type=float, default=900.0, help="for each answer")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    settings = dataclasses.replace(Settings(), turns=options.turns, num_envs=options.num_envs)
    require("brax")
    runs = []
    for seed in range(options.seeds):
        runs.append(train_both(settings, seed, options.limit_s))
        found = summary(settings, runs)
        print(f"seed {seed}: {found}", flush=True)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        data = {"settings": dataclasses.asdict(settings), "summary": found, "runs": runs}
        write_json(options.output, {"provenance": provenance(), **data})


if __name__ == "__main__":
    main()
