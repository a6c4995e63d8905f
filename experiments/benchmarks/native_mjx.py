"""Native physics against MJX (JAX) on the CPU, at several numbers of robots: stepping, training.

python -m experiments.benchmarks.native_mjx [--num-envs 64 1024 4096] [--limit-s S]

A side that does not answer within the limit is left out, with the reason.
"""

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Any

from experiments.benchmarks import physics
from experiments.benchmarks.brax_ppo import ENVIRONMENT, Trained, our_command
from experiments.benchmarks.mjx import SCHEDULER_OFF
from experiments.benchmarks.timing import alternate, ratio, scaled, speed
from experiments.benchmarks.turns import Unmeasured, side
from hinf_rl.training.files import read_json, write_json
from hinf_rl.training.provenance import provenance

RESULTS = Path(__file__).parent / "results" / "native_mjx.json"
ENGINES = ("native", "mjx")
TRAINING = {"agent.num_epochs": 5, "agent.num_minibatches": 4, "agent.unroll_length": 24}


def stepping(num_envs: int, rounds: int, mjx_steps: int, limit_s: float) -> dict[str, Any]:
    """Physics alone; MJX takes fewer control steps per round, for the same patience."""
    model = physics.make_model()
    start = physics.settle(model, num_envs)
    control = physics.targets(physics.CONTROL_STEPS, num_envs)
    native = physics.native_side(model, start, control)
    per_step = num_envs * physics.SUBSTEPS
    found: dict[str, Any] = {"num_envs": num_envs, "mjx_control_steps": mjx_steps}
    command = [sys.executable, "-m", "experiments.benchmarks.mjx"]
    sizes = ["--num-envs", str(num_envs), "--steps", str(mjx_steps)]
    try:
        with side([*command, *sizes], limit_s=limit_s, environment=_environment("mjx")) as mjx:
            mjx.ask("step")
            found["mjx_first_s"] = time.perf_counter() - mjx.started_s
            sides = {"native": native, "mjx": lambda: mjx.ask("step")}
            seconds = alternate(sides, rounds)
    except Unmeasured as error:
        seconds = alternate({"native": native}, rounds)
        found["unmeasured"] = {"mjx": str(error)}
    steps = {"native": per_step * physics.CONTROL_STEPS, "mjx": per_step * mjx_steps}
    found["seconds"] = seconds
    found["physics_steps_per_s"] = {
        name: speed(taken, steps[name]) for name, taken in seconds.items()
    }
    if "mjx" in seconds:
        found["native_over_mjx"] = scaled(
            ratio(seconds["mjx"], seconds["native"]), physics.CONTROL_STEPS / mjx_steps
        )
    return found


def training(num_envs: int, turns: int, limit_s: float) -> dict[str, Any]:
    """The robot's own task, PPO, an iteration per turn; the first is the start of the process."""
    found: dict[str, Any] = {"num_envs": num_envs, "unmeasured": {}}
    first_s: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        trained = {}
        for name in ENGINES:
            overrides = {**TRAINING, "env.physics": name, "agent.num_envs": num_envs}
            command = our_command(
                "aliengo", overrides, per_turn=1, turns=turns, seed=0, evaluations=1
            )
            opened = side(command, limit_s=limit_s, environment=_environment(name))
            try:
                trained[name] = Trained(stack.enter_context(opened))
                first_s[name] = trained[name].first_result_s
            except Unmeasured as error:
                found["unmeasured"][name] = str(error)
        for _ in range(turns - 1):
            for name in list(trained):
                try:
                    trained[name].turn()
                except Unmeasured as error:
                    found["unmeasured"][name] = str(error)
                    del trained[name]
    seconds = {
        name: [answer["seconds"] for answer in run.answers[1:]] for name, run in trained.items()
    }
    steps = num_envs * TRAINING["agent.unroll_length"]
    found |= {"first_result_s": first_s, "seconds": seconds}
    found["env_steps_per_s"] = {name: speed(taken, steps) for name, taken in seconds.items()}
    if len(seconds) == len(ENGINES):
        found["native_over_mjx"] = ratio(seconds["mjx"], seconds["native"])
    return found


def _environment(engine: str) -> dict[str, str]:
    """MJX deadlocks under XLA's concurrency-optimised scheduler; see `mjx`."""
    flags = [os.environ.get("XLA_FLAGS", ""), SCHEDULER_OFF if engine == "mjx" else ""]
    return {**ENVIRONMENT, "XLA_FLAGS": " ".join(flags).strip()}


def main() -> None:
    """Measures and writes one JSON file, size by size; what it holds of others stays."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-envs", type=int, nargs="+", default=[64, 1024, 4096])
    parser.add_argument("--rounds", type=int, default=5, help="of stepping; 0 for none")
    parser.add_argument("--mjx-steps", type=int, default=1, help="control steps of MJX per round")
    parser.add_argument("--turns", type=int, default=4, help="iterations of training; 0 for none")
    parser.add_argument("--limit-s", type=float, default=300.0, help="for each answer")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    data = read_json(options.output) if options.output.exists() else {}
    for num_envs in options.num_envs if options.rounds else ():
        found = stepping(num_envs, options.rounds, options.mjx_steps, options.limit_s)
        _record(options.output, data, "stepping", found)
    for num_envs in options.num_envs if options.turns else ():
        found = training(num_envs, options.turns, options.limit_s)
        _record(options.output, data, "training", found)


def _record(path: Path, data: dict[str, Any], kind: str, found: dict[str, Any]) -> None:
    """Writes a result in the place of an older one of its kind and size."""
    print(f"{kind}: {found}", flush=True)
    others = [entry for entry in data.get(kind, []) if entry["num_envs"] != found["num_envs"]]
    entries = [*others, {**found, "provenance": provenance()}]
    data[kind] = sorted(entries, key=lambda entry: entry["num_envs"])
    write_json(path, data)


if __name__ == "__main__":
    main()
