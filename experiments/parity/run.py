"""How far MJX and native physics part from equal states under equal actions and forces.

python -m experiments.parity.run [--num-envs N] [--robots NAME ...] [--output FILE]

Every stage is written as soon as it is measured; a stage that the file already holds is left.
"""

import argparse
import dataclasses
import importlib.metadata
import importlib.util
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.parity.height_field import contacts
from hinf_rl.envs.api import State
from hinf_rl.envs.legged.config import VelocityConfig
from hinf_rl.envs.legged.velocity import VelocityEnv
from hinf_rl.envs.physics.settings import MjxSettings
from hinf_rl.tasks import get_task
from hinf_rl.training.files import read_json, write_json
from hinf_rl.training.provenance import provenance

RESULTS = Path(__file__).parent / "results" / "parity.json"
HORIZONS = (1, 5, 20, 50)
"""Control steps of 20 ms after which the two are compared."""
SETTLE_STEPS = 10
"""Control steps of native physics before, which bring the feet to the ground."""
HEIGHT_M = 10.0
"""Where robots in the air start; in 50 steps they fall 4.9 m."""
ACTION_SPREAD, FORCE_SPREAD_N = 0.5, 20.0
TIMED_CALLS = 5
PARTED_RAD_S = 0.1
"""Robots that differ by more in any velocity have parted for good."""
_EPSILON = float(np.finfo(np.float32).eps)
CONVERGED = MjxSettings(iterations=100, ls_iterations=50)
"""Limits that the solver never reaches, the native engine's own."""
KNOBS = {
    "100 / 50": CONVERGED,
    "10 / 20 (default)": MjxSettings(),
    "10 / 8": MjxSettings(ls_iterations=8),
    "6 / 20": MjxSettings(iterations=6),
    "4 / 8": MjxSettings(iterations=4, ls_iterations=8),
    "1 / 5": MjxSettings(iterations=1, ls_iterations=5),
    "default, 4 contacts": MjxSettings(max_contact_points=4),
    "default, Euler": MjxSettings(integrator="Euler"),
}

Step = Callable[[State, jax.Array, jax.Array], State]


def task_config(robot: str) -> VelocityConfig:
    """The task's settings with every parameter and noise drawn."""
    return dataclasses.replace(get_task(robot).env_config, randomise=True)


def step_of(config: VelocityConfig) -> Step:
    """The compiled step of many instances."""
    return jax.jit(jax.vmap(VelocityEnv(config).step))


def given(index: int, num_envs: int) -> tuple[jax.Array, jax.Array]:
    """Actions [N, 12] and forces [N, 3] (N) of one control step."""
    key_action, key_force = jax.random.split(jax.random.key(index))
    action = ACTION_SPREAD * jax.random.normal(key_action, (num_envs, 12), jnp.float32)
    return action, FORCE_SPREAD_N * jax.random.normal(key_force, (num_envs, 3), jnp.float32)


def starts(config: VelocityConfig, native: Step, num_envs: int) -> dict[str, State]:
    """States in the air, and after a fifth of a second on the ground."""
    fresh = jax.jit(jax.vmap(VelocityEnv(config).reset))(
        jax.random.split(jax.random.key(0), num_envs)
    )
    simulation = fresh.physics.simulation
    lifted = simulation._replace(qpos=simulation.qpos.at[:, 2].set(HEIGHT_M))
    settled = fresh
    for index in range(SETTLE_STEPS):
        settled = native(settled, *given(1000 + index, num_envs))
    return {
        "air": dataclasses.replace(fresh, physics=fresh.physics._replace(simulation=lifted)),
        "ground": settled,
    }


def rounded(state: State) -> State:
    """The same state with each velocity off by one rounding of float32."""
    simulation = state.physics.simulation
    nudged = simulation._replace(qvel=simulation.qvel * (1.0 + _EPSILON))
    return dataclasses.replace(state, physics=state.physics._replace(simulation=nudged))


def trail(step: Step, state: State, num_envs: int) -> dict[int, State]:
    """The states after each of `HORIZONS`."""
    states = {}
    for index in range(1, max(HORIZONS) + 1):
        state = step(state, *given(index, num_envs))
        if index in HORIZONS:
            states[index] = state
    return states


def differences(one: State, other: State) -> dict[str, np.ndarray]:
    """Largest difference of each row, by quantity, [N]."""
    pairs = {
        "qpos": (one.physics.qpos, other.physics.qpos),
        "qvel": (one.physics.qvel, other.physics.qvel),
        "observation": (one.observation["policy"], other.observation["policy"]),
        "reward": (one.reward[:, None], other.reward[:, None]),
    }
    return {
        name: np.abs(np.asarray(a) - np.asarray(b)).max(axis=1) for name, (a, b) in pairs.items()
    }


def summary(values: np.ndarray) -> dict[str, float]:
    """Median, 95th percentile and largest."""
    middle, high = np.quantile(values, [0.5, 0.95])
    return {"median": float(middle), "p95": float(high), "worst": float(values.max())}


def implementations() -> dict[str, MjxSettings]:
    """What can be compared here, by name."""
    found = {"jax": MjxSettings()}
    if importlib.util.find_spec("warp") is not None:
        found["warp"] = MjxSettings(impl="warp")
    return found


def divergence(robot: str, num_envs: int) -> list[dict[str, Any]]:
    """One row for each physics, start and horizon of one robot."""
    config = task_config(robot)
    native = step_of(config)
    begun = starts(config, native, num_envs)
    reference = {start: trail(native, state, num_envs) for start, state in begun.items()}
    sides: dict[str, tuple[Step, Callable[[State], State]]] = {"native, rounded": (native, rounded)}
    for name, settings in implementations().items():
        mjx = dataclasses.replace(config, physics="mjx", mjx=settings)
        sides[name] = (step_of(mjx), lambda state: state)
    rows = []
    for name, (step, prepare) in sides.items():
        for start, state in begun.items():
            reached = trail(step, prepare(state), num_envs)
            for horizon in HORIZONS:
                found = differences(reached[horizon], reference[start][horizon])
                rows.append(
                    {"physics": name, "start": start, "steps": horizon}
                    | {quantity: summary(values) for quantity, values in found.items()}
                )
            print(f"{robot}, {name}, {start}: qvel {rows[-1]['qvel']}", flush=True)
    return rows


def falls(robot: str, num_envs: int) -> list[dict[str, Any]]:
    """Differences of MJX (JAX) on the ground, with and without the trunk on the floor.

    Single steps start from the states of native physics; trails are those of `divergence`.
    A robot is down from the step on that ends its episode: its trunk touches the floor.
    """
    config = task_config(robot)
    native = step_of(config)
    mjx = step_of(dataclasses.replace(config, physics="mjx", mjx=MjxSettings()))
    expected = trail_state = starts(config, native, num_envs)["ground"]
    was_down = np.asarray(expected.terminated)
    ever_down = was_down.copy()
    single: dict[bool, list[np.ndarray]] = {False: [], True: []}
    for index in range(1, max(HORIZONS) + 1):
        before, controls = expected, given(index, num_envs)
        expected, trail_state = native(before, *controls), mjx(trail_state, *controls)
        is_down = np.asarray(expected.terminated)
        error = differences(mjx(before, *controls), expected)["qvel"]
        touches = is_down | was_down
        for state in (False, True):
            single[state].append(error[touches == state])
        was_down, ever_down = is_down, ever_down | is_down
    parted = differences(trail_state, expected)["qvel"]
    rows = [_fall_row("one step", state, np.concatenate(single[state])) for state in single]
    rows += [
        _fall_row(f"{max(HORIZONS)} steps", state, parted[ever_down == state]) for state in single
    ]
    print(f"{robot}: {rows}", flush=True)
    return rows


def _fall_row(kind: str, is_down: bool, errors: np.ndarray) -> dict[str, Any]:
    """One class of robots; no summary where there is none of it."""
    return {
        "after": kind,
        "trunk_on_floor": is_down,
        "count": len(errors),
        "parted": int((errors > PARTED_RAD_S).sum()),
        "qvel": summary(errors) if len(errors) else None,
    }


def knobs(robot: str, num_envs: int) -> list[dict[str, Any]]:
    """One control step on the ground under each setting of MJX, and what it takes here."""
    config = task_config(robot)
    native = step_of(config)
    state = starts(config, native, num_envs)["ground"]
    expected = native(state, *given(1, num_envs))
    rows = []
    for name, settings in KNOBS.items():
        step = step_of(dataclasses.replace(config, physics="mjx", mjx=settings))
        found = differences(step(state, *given(1, num_envs)), expected)
        seconds = []
        for _ in range(TIMED_CALLS):
            start_s = time.perf_counter()
            jax.block_until_ready(step(state, *given(1, num_envs)))
            seconds.append(time.perf_counter() - start_s)
        rows.append(
            {"settings": name, "seconds": min(seconds)}
            | {quantity: summary(values) for quantity, values in found.items()}
        )
        print(f"{name}: {rows[-1]['qvel']}, {min(seconds):.3f} s", flush=True)
    return rows


def versions() -> dict[str, str | None]:
    """Of what the shared provenance does not list."""
    found: dict[str, str | None] = {}
    for package in ("mujoco-mjx", "warp-lang"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def main() -> None:
    """Measures what the file lacks and writes it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-envs", type=int, default=64)
    parser.add_argument("--robots", nargs="+", default=["aliengo", "a1", "aliengo-terrain"])
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    data = read_json(options.output) if options.output.exists() else {}
    stages: dict[str, Callable[[int], Any]] = {}
    for measure in (divergence, falls):
        for robot in options.robots:
            stages[f"{measure.__name__} {robot}"] = partial(measure, robot)
    stages[f"knobs {options.robots[0]}"] = partial(knobs, options.robots[0])
    stages["contacts height_field"] = contacts
    for stage, measure_rows in stages.items():
        if stage in data:
            continue
        rows = measure_rows(options.num_envs)
        data[stage] = {
            "provenance": provenance(),
            "versions": versions(),
            "num_envs": options.num_envs,
            "rows": rows,
        }
        write_json(options.output, data)


if __name__ == "__main__":
    main()
