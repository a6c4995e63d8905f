"""Training of the quadruped against simulation alone, and H-infinity against plain PPO.

python -m experiments.benchmarks.training [--num-envs N] [--rounds R]
"""

import argparse
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments.benchmarks.timing import alternate, ratio, speed
from hinf_rl.agents.api import Algorithm
from hinf_rl.agents.hinf import make
from hinf_rl.envs.batch import BatchEnv, BatchState
from hinf_rl.tasks import configure, get_task
from hinf_rl.training.files import write_json
from hinf_rl.training.provenance import provenance
from hinf_rl.types import Array

RESULTS = Path(__file__).parent / "results" / "training.json"
ALGORITHMS = ("nominal", "hinf")
# Physics step (s) and steps per control step: as published, and the task's default.
PHYSICS = {"4 x 5 ms": (0.005, 4), "2 x 10 ms": (0.01, 2)}


def overrides(num_envs: int | None, physics: str) -> dict[str, Any]:
    """Settings of the task with forces from the first iteration on."""
    dt_s, substeps = PHYSICS[physics]
    changes: dict[str, Any] = {
        "env.physics_dt_s": dt_s,
        "env.substeps": substeps,
        "agent.disturbance.warmup_fraction": 0.0,
        "agent.disturbance.ramp_fraction": 0.0,
    }
    return changes if num_envs is None else {**changes, "agent.num_envs": num_envs}


class Trainer:
    """A compiled training step that goes on from its own carry.

    Attributes:
      compile_s: seconds of tracing and compilation.
      steps: environment steps of one call.
    """

    def __init__(self, algorithm: Algorithm) -> None:
        self._carry = jax.jit(algorithm.init)(jax.random.key(0))
        start_s = time.perf_counter()
        self._step = jax.jit(algorithm.step, donate_argnums=0).lower(self._carry).compile()
        self.compile_s = time.perf_counter() - start_s
        self.steps = algorithm.env_steps_per_iteration

    def __call__(self) -> None:
        self._carry, _ = jax.block_until_ready(self._step(self._carry))


def simulation_side(batch: BatchEnv, length: int) -> Callable[[], None]:
    """The same environments under random actions, without learning."""
    shape = (batch.num_envs, batch.spec.action_size)
    force = jnp.zeros((batch.num_envs, batch.spec.disturbance.size), jnp.float32)

    @jax.jit
    def roll(state: BatchState, key: Array) -> tuple[BatchState, Array]:
        def body(state: BatchState, key: Array) -> tuple[BatchState, Array]:
            state, step = batch.step(state, jax.random.normal(key, shape), force)
            return state, jnp.sum(step.reward)

        key, next_key = jax.random.split(key)
        return jax.lax.scan(body, state, jax.random.split(key, length))[0], next_key

    held = [jax.jit(batch.reset)(jax.random.key(0)), jax.random.key(1)]

    def run() -> None:
        held[:] = jax.block_until_ready(roll(*held))

    return run


def measure(physics: str, num_envs: int | None, rounds: int) -> dict[str, Any]:
    """One setting of the physics: both algorithms and simulation alone, in turns."""
    sides: dict[str, Any] = {}
    for name in ALGORITHMS:
        config = configure("aliengo", name, overrides(num_envs, physics))
        env = get_task("aliengo").make_env(config.env)
        sides[name] = Trainer(make(config.agent, env))
        print(f"{physics}, {name}: compiled in {sides[name].compile_s:.1f} s", flush=True)
    agent = config.agent
    batch = BatchEnv(env, agent.num_envs)
    seconds = alternate(
        {**sides, "simulation": simulation_side(batch, agent.unroll_length)}, rounds
    )
    return {
        "seconds": seconds,
        "env_steps_per_s": {
            name: speed(taken, agent.batch_size) for name, taken in seconds.items()
        },
        # Equal steps on every side, so a ratio of times is one of speeds.
        "share_of_simulation": {
            name: ratio(seconds["simulation"], seconds[name]) for name in ALGORITHMS
        },
        "hinf_over_nominal_time": ratio(seconds["hinf"], seconds["nominal"]),
        "compile_s": {name: sides[name].compile_s for name in ALGORITHMS},
        "agent": {
            name: getattr(agent, name)
            for name in ("num_envs", "unroll_length", "num_epochs", "num_minibatches")
        },
        "env": {
            name: value
            for name, value in dataclasses.asdict(config.env).items()
            if name in ("physics_dt_s", "substeps", "history", "collisions")
        },
    }


def main() -> None:
    """Measures both settings of the physics and writes one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-envs", type=int, help="the task's own number if left out")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--physics", nargs="+", choices=sorted(PHYSICS), default=list(PHYSICS))
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    found = {}
    for physics in options.physics:
        found[physics] = measure(physics, options.num_envs, options.rounds)
        shares = found[physics]["share_of_simulation"]
        print(
            f"{physics}: {found[physics]['env_steps_per_s']}, shares {shares}, "
            f"hinf / nominal {found[physics]['hinf_over_nominal_time']}",
            flush=True,
        )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.output, {"provenance": provenance(), "physics": found})


if __name__ == "__main__":
    main()
