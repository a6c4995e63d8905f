"""Several control steps as one: what a policy that plans action chunks acts on."""

import dataclasses

import jax
import jax.numpy as jnp

from hinf_rl.envs.api import Env, EnvSpec, State
from hinf_rl.errors import UserError
from hinf_rl.types import Array


class ChunkWrapper:
    """Executes `length` actions of the wrapped environment in one step, open loop.

    The action is [length * A], the first action first. Rewards are means over the chunk; nothing
    is paid, and nothing moves, after a termination inside of it. The disturbance is held for the
    whole chunk.
    """

    def __init__(self, env: Env, length: int) -> None:
        if length < 1:
            raise UserError(f"chunk length must be at least 1, got {length}")
        if env.spec.episode_length < length:
            raise UserError(
                f"chunk length must not exceed the episode of {env.spec.episode_length} steps, "
                f"got {length}"
            )
        self.env = env
        self.length = length

    @property
    def spec(self) -> EnvSpec:
        """The wrapped spec, in chunks; a remainder of the episode is dropped."""
        inner = self.env.spec
        return dataclasses.replace(
            inner,
            action_size=self.length * inner.action_size,
            dt_s=self.length * inner.dt_s,
            episode_length=inner.episode_length // self.length,
            mirror=None,
        )

    def reset(self, key: Array) -> State:
        """Starts an episode from `key`, which is consumed."""
        return self.env.reset(key)

    def step(self, state: State, action: Array, disturbance: Array | None = None) -> State:
        """Advances `length` control steps."""

        def one(
            carry: tuple[State, Array, Array, Array], action: Array
        ) -> tuple[tuple[State, Array, Array, Array], None]:
            state, ended, reward, task_reward = carry
            stepped = self.env.step(state, action, disturbance)
            reward = reward + jnp.where(ended, 0.0, stepped.reward)
            task_reward = task_reward + jnp.where(ended, 0.0, stepped.task_reward)
            state = jax.tree.map(lambda new, old: jnp.where(ended, old, new), stepped, state)
            ended = ended | stepped.terminated | stepped.truncated
            return (state, ended, reward, task_reward), None

        zero = jnp.zeros((), jnp.float32)
        start = (state, jnp.zeros((), bool), zero, zero)
        actions = action.reshape(self.length, -1)
        (state, _, reward, task_reward), _ = jax.lax.scan(one, start, actions)
        return dataclasses.replace(
            state, reward=reward / self.length, task_reward=task_reward / self.length
        )


__all__ = ["ChunkWrapper"]
