"""Physics steps per second: behind JAX, in a bare loop over MuJoCo's batch, and in MJX.

python -m experiments.benchmarks.physics [--num-envs N] [--rounds R]
"""

# MuJoCo's compiled module carries no types.
# pyright: reportAttributeAccessIssue=false

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco.batch import Batch

from experiments.benchmarks.mjx import mjx_side
from experiments.benchmarks.timing import alternate, ratio, scaled, speed
from hinf_rl.envs.legged.mjcf import build_mjcf
from hinf_rl.envs.legged.robots import get_robot
from hinf_rl.envs.physics.api import PhysicsState
from hinf_rl.envs.physics.native import NativePhysics
from hinf_rl.training.files import write_json
from hinf_rl.training.provenance import provenance

RESULTS = Path(__file__).parent / "results" / "physics.json"
SUBSTEPS = 4
"""Physics steps of 5 ms per control step."""
CONTROL_STEPS = 50
SETTLE_STEPS = 25
"""Control steps before the clock starts, so that the feet are on the ground."""


def make_model() -> mujoco.MjModel:
    """The quadruped of the velocity task."""
    return mujoco.MjModel.from_xml_string(build_mjcf(get_robot("aliengo")))


class Start(NamedTuple):
    """Robots on their feet, and what the solver found last: a cold one works longer."""

    qpos: np.ndarray  # [N, nq]
    qvel: np.ndarray  # [N, nv]
    warmstart: np.ndarray  # [N, nv]


def settle(model: mujoco.MjModel, num_envs: int) -> Start:
    """Half a second under random targets from the default pose."""
    batch = Batch(model, num_envs, 0)
    state = Start(batch.bind("qpos"), batch.bind("qvel"), batch.bind("qacc_warmstart"))
    control = batch.bind("ctrl")
    state.qpos[:, 7:] = _pose()
    for target in targets(SETTLE_STEPS, num_envs, seed=1):
        control[:] = target
        batch.step(nstep=SUBSTEPS)
    return Start(*(np.array(value, np.float32) for value in state))


def targets(steps: int, num_envs: int, seed: int = 0) -> np.ndarray:
    """Joint targets around the default pose, [steps, N, 12] rad."""
    noise = np.random.default_rng(seed).normal(size=(steps, num_envs, 12))
    return (_pose() + 0.25 * noise).astype(np.float32)


def _pose() -> np.ndarray:
    return np.asarray(get_robot("aliengo").default_pose, np.float32)


def bare_side(model: mujoco.MjModel, start: Start, control: np.ndarray) -> Callable[[], None]:
    """A loop over MuJoCo's own batch; it reads nothing back."""
    batch = Batch(model, len(start.qpos), 0)
    state = Start(batch.bind("qpos"), batch.bind("qvel"), batch.bind("qacc_warmstart"))
    bound = batch.bind("ctrl")

    def run() -> None:
        for array, value in zip(state, start, strict=True):
            array[:] = value
        for target in control:
            bound[:] = target
            batch.step(nstep=SUBSTEPS)

    return run


def native_side(model: mujoco.MjModel, start: Start, control: np.ndarray) -> Callable[[], None]:
    """`NativePhysics.step` of all rows inside a compiled scan."""
    physics = NativePhysics(model, force_body="trunk")
    rows = len(start.qpos)
    parameters = jnp.zeros((rows, physics.num_parameters), jnp.float32)
    force = jnp.zeros((rows, 6), jnp.float32)
    step = jax.vmap(functools.partial(physics.step, num_substeps=SUBSTEPS))

    @jax.jit
    def roll(start: Start, control: jax.Array) -> Any:
        state = PhysicsState(start.qpos, start.qvel, start.warmstart, jnp.zeros(rows, jnp.float32))  # pyright: ignore[reportArgumentType] traced here

        def body(state: Any, target: jax.Array) -> tuple[Any, None]:
            return step(state, target, force, parameters), None

        return jax.lax.scan(body, state, control)[0]

    arguments = jax.device_put((start, control))
    return lambda: jax.block_until_ready(roll(*arguments))


def compare_with_bare(num_envs: int, rounds: int) -> dict[str, Any]:
    """Physics behind JAX against the bare loop, from the same states under the same targets."""
    model = make_model()
    given = (model, settle(model, num_envs), targets(CONTROL_STEPS, num_envs))
    seconds = alternate({"native": native_side(*given), "bare": bare_side(*given)}, rounds)
    steps = num_envs * CONTROL_STEPS * SUBSTEPS
    return {
        "num_envs": num_envs,
        "seconds": seconds,
        "physics_steps_per_s": {name: speed(taken, steps) for name, taken in seconds.items()},
        "native_over_bare": ratio(seconds["bare"], seconds["native"]),
    }


def compare_with_mjx(num_envs: int, rounds: int, mjx_steps: int) -> dict[str, Any]:
    """Physics behind JAX against MJX, which takes fewer control steps for the same patience."""
    model = make_model()
    start, control = settle(model, num_envs), targets(CONTROL_STEPS, num_envs)
    with mjx_side(num_envs, mjx_steps) as mjx:
        seconds = alternate({"native": native_side(model, start, control), "mjx": mjx}, rounds)
    per_step = num_envs * SUBSTEPS
    found = ratio(seconds["mjx"], seconds["native"])
    return {
        "num_envs": num_envs,
        "mjx_control_steps": mjx_steps,
        "seconds": seconds,
        "physics_steps_per_s": {
            "native": speed(seconds["native"], per_step * CONTROL_STEPS),
            "mjx": speed(seconds["mjx"], per_step * mjx_steps),
        },
        "native_over_mjx": scaled(found, CONTROL_STEPS / mjx_steps),
    }


def main() -> None:
    """Measures both and writes one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-envs", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--mjx-steps", type=int, default=1, help="control steps of MJX per round")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    bare = compare_with_bare(options.num_envs, options.rounds)
    print(f"native / bare: {bare['native_over_bare']}, {bare['physics_steps_per_s']}")
    mjx = compare_with_mjx(options.num_envs, max(5, options.rounds - 2), options.mjx_steps)
    print(f"native / mjx: {mjx['native_over_mjx']}, {mjx['physics_steps_per_s']}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.output, {"provenance": provenance(), "bare": bare, "mjx": mjx})


if __name__ == "__main__":
    main()
