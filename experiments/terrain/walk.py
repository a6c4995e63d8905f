"""Walks straight ahead over terrain of one kind and level: how far, how well, who falls."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from hinf_rl.envs.api import Env, State
from hinf_rl.envs.legged import kinematics
from hinf_rl.envs.legged.config import TerrainConfig, VelocityConfig
from hinf_rl.envs.legged.velocity import VelocityEnv
from hinf_rl.envs.wrappers import HistoryWrapper

PHYSICS_DT_S = 0.005
"""Of the walks, whatever the training took: with 10 ms native physics swallows feet that strike."""


class StraightAhead:
    """A velocity task whose command is one forward speed, along the heading that it begins with.

    Args:
      env: the task; it must not draw commands before the episode ends, and turn by heading.
      speed_m_s: forward speed asked for.
    """

    def __init__(self, env: VelocityEnv, speed_m_s: float) -> None:
        self.env, self.spec = env, env.spec
        self._command = jnp.array([speed_m_s, 0.0, 0.0], jnp.float32)

    def reset(self, key: jax.Array) -> State:
        state = self.env.reset(key)
        heading = kinematics.yaw_angle(state.physics.qpos[3:7])
        physics = state.physics._replace(command=self._command, heading=heading)
        # Both observations begin with the command, scaled; this one turns by nothing.
        shown = self._command * jnp.array([2.0, 2.0, 0.25], jnp.float32)
        seen = {name: x.at[:3].set(shown) for name, x in state.observation.items()}
        return dataclasses.replace(state, physics=physics, observation=seen)

    def step(self, state: State, action: jax.Array, disturbance: jax.Array | None = None) -> State:
        return self.env.step(state, action, disturbance)


class Walks(NamedTuple):
    """What N walks came to.

    Attributes:
      survived: [N] bool, no fall and nothing non-finite.
      time_s: [N] until the fall or the end.
      distance_m: [N] furthest from the start.
      velocity_error: [N] mean error of the planar velocity until the end (m/s).
    """

    survived: NDArray[np.bool_]
    time_s: NDArray[np.float32]
    distance_m: NDArray[np.float32]
    velocity_error: NDArray[np.float32]


def walk_config(
    config: VelocityConfig,
    terrain: TerrainConfig,
    *,
    duration_s: float,
    physics_dt_s: float = PHYSICS_DT_S,
) -> VelocityConfig:
    """A run's task on other ground, in nominal native physics, under one command."""
    return dataclasses.replace(
        config,
        physics="native",
        physics_dt_s=physics_dt_s,
        substeps=round(config.dt_s / physics_dt_s),
        randomise=False,
        terrain=terrain,
        heading_command=True,
        episode_length_s=duration_s,
        command_interval_s=2.0 * duration_s,
    )


def make_walk(config: VelocityConfig, speed_m_s: float) -> Env:
    """The environment of one walk."""
    env = StraightAhead(VelocityEnv(config), speed_m_s)
    return HistoryWrapper(env, config.history) if config.history > 1 else env


class Walker:
    """Walks of one environment; compiled once, policies are arguments."""

    def __init__(self, env: Env) -> None:
        self._env = env
        self._run = jax.jit(self._walk)

    def __call__(self, policy: Any, key: jax.Array, num_envs: int) -> Walks:
        """Runs `num_envs` walks; `policy` maps batched observations to actions."""
        keys = jax.random.split(key, num_envs)
        return Walks(*jax.device_get(self._run(policy, keys)))

    def _walk(self, policy: Any, keys: jax.Array) -> tuple[jax.Array, ...]:
        count, steps = keys.shape[0], self._env.spec.episode_length

        def body(
            carry: tuple[State, jax.Array, jax.Array], _: None
        ) -> tuple[tuple[State, jax.Array, jax.Array], None]:
            state, alive, error = carry
            stepped = jax.vmap(self._env.step)(state, policy(state.observation))
            lost = stepped.terminated | (stepped.metrics["nonfinite"] > 0)
            lost |= ~jnp.isfinite(stepped.physics.qpos).all(axis=1)
            goes_on = alive & ~lost
            # A robot that fell rests in its last state before the fall.
            state = jax.tree.map(
                lambda new, old: jnp.where(
                    goes_on.reshape((count,) + (1,) * (new.ndim - 1)), new, old
                ),
                stepped,
                state,
            )
            error += jnp.where(goes_on, stepped.metrics["velocity_error"], 0.0)
            return (state, goes_on, error), None

        state = jax.vmap(self._env.reset)(keys)
        begin = (state, jnp.ones(count, bool), jnp.zeros(count, jnp.float32))
        (state, alive, error), _ = jax.lax.scan(body, begin, None, length=steps)
        time_s = state.physics.time_s
        moved = jnp.maximum(jnp.round(time_s / self._env.spec.dt_s), 1.0)
        return (alive, time_s, state.physics.visit.furthest_m, error / moved)
