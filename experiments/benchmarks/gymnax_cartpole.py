"""Our trainer against a whole-training jit on gymnax's cart-pole, at several numbers of seeds.

python -m experiments.benchmarks.gymnax_cartpole [--seeds 1 8 64] [--updates U]

Both run in gymnax's environment (see `venvs`): gymnax 1.0 needs jax < 0.12.
"""

import argparse
import contextlib
import statistics
import time
from pathlib import Path
from typing import Any

from experiments.benchmarks.brax_ppo import ENVIRONMENT
from experiments.benchmarks.timing import ratio, speed
from experiments.benchmarks.turns import Unmeasured, side
from experiments.benchmarks.venvs import interpreter, require
from hinf_rl.training.files import read_json, write_json
from hinf_rl.training.provenance import provenance

RESULTS = Path(__file__).parent / "results" / "gymnax_cartpole.json"
TRAINERS = ("ours", "whole_jit")
PROFILE_ROUNDS = 3
"""With twice the epochs, of one seed alone: its training is short."""


def command(trainer: str, seeds: int, updates: int) -> list[str]:
    """The process of one side."""
    return [
        str(interpreter("gymnax")), "-m", "experiments.benchmarks.gymnax_side",
        "--trainer", trainer, "--seeds", str(seeds), "--updates", str(updates),
    ]  # fmt: skip


def one_start(
    seeds: int, updates: int, rounds: int, limit_s: float, *, turned: bool
) -> dict[str, Any]:
    """Fresh processes of both trainers; the first training of each counts as its start."""
    order = TRAINERS[::-1] if turned else TRAINERS
    found: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        sides = {}
        for name in order:
            sides[name] = opened = stack.enter_context(
                side(command(name, seeds, updates), limit_s=limit_s, environment=ENVIRONMENT)
            )
            first = opened.read_json()
            first_result_s = time.perf_counter() - opened.started_s
            found[name] = {"first_result_s": first_result_s, **first, "turn_s": []}
        for index in range(rounds):
            for name in order if index % 2 == 0 else order[::-1]:
                answer = sides[name].ask_json("turn")
                found[name]["turn_s"].append(answer["seconds"])
                found[name]["compiled"] = answer["compiled"]
        for name in order:
            found[name] |= sides[name].ask_json("evaluate")
        for index in range(PROFILE_ROUNDS if seeds == 1 else 0):
            for name in order if index % 2 == 0 else order[::-1]:
                profile = found[name].setdefault("profile_s", {"turn": [], "double": []})
                for what in profile:
                    profile[what].append(sides[name].ask_json(what)["seconds"])
        found["simulation_s"] = sides["whole_jit"].ask_json("simulate")["seconds"]
    return found


def summary(starts: list[dict[str, Any]]) -> dict[str, Any]:
    """Ratios over all starts; above 1 is in our favour."""

    def over_starts(field: str) -> dict[str, list[Any]]:
        return {name: [start[name][field] for start in starts] for name in TRAINERS}

    turns = {name: [s for start in starts for s in start[name]["turn_s"]] for name in TRAINERS}
    first = over_starts("first_result_s")
    steps = starts[0]["ours"]["steps"]
    return {
        "env_steps_per_s": {name: speed(taken, steps) for name, taken in turns.items()},
        "training_speed_ratio": ratio(turns["whole_jit"], turns["ours"]),
        "first_result_ratio": ratio(first["whole_jit"], first["ours"]),
        "first_result_s": first,
        "simulation_s": [start["simulation_s"] for start in starts],
        "return": {
            name: {
                field: statistics.mean(x for start in starts for x in start[name][field])
                for field in ("return", "training_return")
            }
            for name in TRAINERS
        },
    }


def main() -> None:
    """Measures and writes one JSON file; what it holds of other numbers of seeds stays."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--updates", type=int, default=976, help="of 512 steps each")
    parser.add_argument("--starts", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--limit-s", type=float, default=600.0, help="for each answer")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    require("gymnax")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    data = read_json(options.output) if options.output.exists() else {"seeds": {}}
    for seeds in options.seeds:
        starts: list[dict[str, Any]] = []
        entry: dict[str, Any] = {
            "provenance": provenance(),
            "updates": options.updates,
            "starts": starts,
        }
        data["seeds"][str(seeds)] = entry
        try:
            for index in range(options.starts):
                turned = index % 2 > 0
                found = one_start(
                    seeds, options.updates, options.rounds, options.limit_s, turned=turned
                )
                starts.append(found)
        except Unmeasured as error:
            entry["unmeasured"] = str(error)
        if starts:
            entry["summary"] = summary(starts)
        print(f"{seeds} seeds: {entry.get('summary')} {entry.get('unmeasured', '')}", flush=True)
        write_json(options.output, data)


if __name__ == "__main__":
    main()
