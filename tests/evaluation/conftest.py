"""A small environment whose every number is known, for the tests of this folder."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from hinf_rl.envs.api import DisturbanceSpec, EnvSpec, State


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hazard:
    """Each step falls with probability `1 - exp(-hazard |d|)`; pays task reward `2 - 0.1 |d|`.

    Its reward is the task reward plus 1. `fall_at`, `nonfinite_at`, `truncate_at`: the step (from
    1) with which the episode ends so, whatever the force.
    """

    hazard: float = 0.0
    size: int = 3
    limit: float = 10.0
    fall_at: int = 0
    nonfinite_at: int = 0
    truncate_at: int = 0
    randomise: bool = False
    episode_length: int = 40
    name: str = "hazard"

    @property
    def spec(self):
        return EnvSpec(
            name=self.name,
            policy_size=2,
            privileged_size=2,
            action_size=1,
            disturbance=DisturbanceSpec(
                size=self.size, limit=self.limit, unit="N", meaning="the hazard"
            ),
            dt_s=0.1,
            episode_length=self.episode_length,
            task_reward_max=2.0,
            task_reward_scale=2.0,
        )

    def reset(self, key):
        key_start, key = jax.random.split(key)
        start = jax.random.normal(key_start, (2,), jnp.float32)
        zero = jnp.float32(0)
        return State(
            physics={"count": jnp.int32(0)},
            observation={"policy": start, "privileged": start},
            reward=zero,
            task_reward=zero,
            terminated=jnp.bool_(False),
            truncated=jnp.bool_(False),
            metrics={"velocity_error": zero, "height": zero},
            parameters={},
            key=key,
        )

    def step(self, state, action, disturbance=None):
        if disturbance is None:
            disturbance = jnp.zeros((self.size,), jnp.float32)
        size = jnp.linalg.norm(disturbance)
        count = state.physics["count"] + jnp.int32(1)
        falls = jax.random.bernoulli(state.key, 1.0 - jnp.exp(-self.hazard * size))
        task_reward = 2.0 - 0.1 * size
        task_reward = jnp.where(count == self.nonfinite_at, jnp.nan, task_reward)
        return dataclasses.replace(
            state,
            physics={"count": count},
            reward=task_reward + 1.0,
            task_reward=task_reward,
            terminated=falls | (count == self.fall_at),
            truncated=count == self.truncate_at,
            metrics={"velocity_error": size, "height": jnp.float32(1)},
        )


@pytest.fixture
def hazard_env():
    """Returns the class, to be called with its fields."""
    return Hazard


@pytest.fixture
def idle_policy():
    """Returns a policy that does nothing, as a PyTree."""
    return jax.tree_util.Partial(_idle)


def _idle(observation, key=None):
    del key
    return jnp.zeros((*observation["policy"].shape[:-1], 1), jnp.float32)
