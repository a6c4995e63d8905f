"""One episode of one environment, kept step by step: what films and gait pictures are made of."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from hinf_rl.envs.api import Env, State
from hinf_rl.evaluation.disturbances import Disturbance
from hinf_rl.types import Array, PyTree


class Recording(NamedTuple):
    """One episode, until its end.

    Attributes:
      physics: the simulator's states, leaves [T, ...].
      parameters: the episode's parameters.
      force: [T, D] disturbance of each step, in its unit and frame.
      has_fallen: whether it ended with a fall.
      dt_s: control period.
    """

    physics: PyTree
    parameters: PyTree
    force: NDArray[np.float32]
    has_fallen: bool
    dt_s: float


def record_episode(
    env: Env,
    policy: Any,
    disturbance: Disturbance,
    key: Array,
    *,
    num_steps: int | None = None,
) -> Recording:
    """Runs one episode of one environment and keeps its states.

    Args:
      env: the environment of one instance.
      policy: PyTree that maps batched observations to actions; its mean is used.
      disturbance: what pushes, made for one environment.
      key: of the start state and the pushes.
      num_steps: control steps; the spec's episode by default. A fall ends the recording.
    """
    num_steps = num_steps or env.spec.episode_length
    key_env, key_force = jax.random.split(key)
    state = jax.jit(jax.vmap(env.reset))(key_env[None])
    force_state = disturbance.init(key_force, 1)

    def body(state: State, t: Array) -> tuple[State, tuple[PyTree, Array, Array]]:
        action = policy(state.observation)
        force = disturbance.sample(force_state, state.observation, t)
        keys = jax.vmap(jax.random.split)(state.key)[:, 0]
        stepped = jax.vmap(env.step)(dataclasses.replace(state, key=keys), action, force)
        return stepped, (stepped.physics, force, stepped.terminated)

    steps = jnp.arange(num_steps, dtype=jnp.int32)
    _, (physics, force, fallen) = jax.jit(lambda s: jax.lax.scan(body, s, steps))(state)
    fallen = np.asarray(fallen)[:, 0]
    length = int(fallen.argmax()) + 1 if fallen.any() else num_steps
    return Recording(
        physics=jax.tree.map(lambda x: np.asarray(x)[:length, 0], physics),
        parameters=jax.tree.map(lambda x: np.asarray(x)[0], state.parameters),
        force=np.asarray(force)[:length, 0],
        has_fallen=bool(fallen.any()),
        dt_s=env.spec.dt_s,
    )


__all__ = ["Recording", "record_episode"]
