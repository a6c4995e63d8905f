"""What an environment carries from episode to episode, through the batch layer and wrappers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.envs.api import DisturbanceSpec, EnvSpec, State, restart
from hinf_rl.envs.batch import BatchEnv
from hinf_rl.envs.wrappers import ActionDisturbanceWrapper, HistoryWrapper


class Counter:
    """Counts its episodes; each lasts two steps, and rows whose action is NaN are lost."""

    spec = EnvSpec(
        name="counter",
        policy_size=1,
        privileged_size=1,
        action_size=1,
        disturbance=DisturbanceSpec(size=0, limit=0.0, unit="", meaning=""),
        dt_s=1.0,
        episode_length=2,
        task_reward_max=1.0,
        task_reward_scale=1.0,
    )

    def _state(self, key, episode, reward):
        false = jnp.zeros((), bool)
        seen = episode.astype(jnp.float32)[None]
        return State(
            physics=episode,
            observation={"policy": seen, "privileged": seen},
            reward=reward,
            task_reward=reward,
            terminated=false,
            truncated=false,
            metrics={},
            parameters={},
            key=key,
        )

    def reset(self, key):
        return self._state(key, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.float32))

    def restart(self, key, final):
        return self._state(key, final.physics + 1, jnp.zeros((), jnp.float32))

    def step(self, state, action, disturbance=None):
        return self._state(state.key, state.physics, action[0])


class Forgetful(Counter):
    restart = None


@pytest.mark.parametrize(
    "wrap",
    [
        lambda env: env,
        lambda env: HistoryWrapper(env, 3),
        lambda env: ActionDisturbanceWrapper(env, 1.0),
        lambda env: HistoryWrapper(ActionDisturbanceWrapper(env, 1.0), 2),
    ],
    ids=["bare", "history", "action", "both"],
)
def test_an_environment_that_restarts_gets_its_last_state(wrap):
    batch = BatchEnv(wrap(Counter()), 3)
    state = jax.jit(batch.reset)(jax.random.key(0))
    step = jax.jit(batch.step)
    for index in range(1, 6):
        state, out = step(state, jnp.zeros((3, 1), jnp.float32))
        np.testing.assert_array_equal(out.observation["privileged"], (index - 1) // 2)
        np.testing.assert_array_equal(state.env.observation["policy"], index // 2)
    assert step._cache_size() == 1


def test_an_environment_without_a_memory_is_reset():
    env = Forgetful()
    batch = BatchEnv(HistoryWrapper(env, 2), 2)
    state = jax.jit(batch.reset)(jax.random.key(0))
    step = jax.jit(batch.step)
    for _ in range(4):
        state, _ = step(state, jnp.zeros((2, 1), jnp.float32))
        np.testing.assert_array_equal(state.env.observation["policy"], 0.0)
    assert restart(env, jax.random.key(1), env.reset(jax.random.key(0))).physics == 0
