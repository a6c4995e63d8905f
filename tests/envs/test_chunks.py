"""A chunk is its actions one by one; a fall inside of it ends it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.envs.chunks import ChunkWrapper
from hinf_rl.envs.classic import CartPole, CartPoleConfig
from hinf_rl.errors import UserError


def test_a_chunk_is_its_actions_one_by_one(key):
    env = CartPole()
    wrapped = ChunkWrapper(env, 4)
    assert wrapped.spec.action_size == 4 and wrapped.spec.episode_length == 62
    assert wrapped.spec.dt_s == pytest.approx(0.08)
    action, force = jnp.array([0.3, -0.5, 1.0, 0.1], jnp.float32), jnp.array([0.4], jnp.float32)
    found = jax.jit(wrapped.step)(wrapped.reset(key), action, force)
    state, rewards = env.reset(key), []
    step = jax.jit(env.step)
    for one in action:
        state = step(state, one[None], force)
        rewards.append([float(state.reward), float(state.task_reward)])
    np.testing.assert_allclose(found.observation["policy"], state.observation["policy"], atol=1e-5)
    np.testing.assert_allclose(
        [found.reward, found.task_reward], np.mean(rewards, axis=0), atol=1e-5
    )
    assert not found.terminated


def test_after_a_fall_nothing_moves_and_nothing_pays(key):
    env = CartPole(CartPoleConfig(angle_limit_rad=0.06))
    step = jax.jit(env.step)
    state, total, count = env.reset(key), 0.0, 0
    while not state.terminated:
        state = step(state, jnp.ones(1, jnp.float32))
        total, count = total + float(state.task_reward), count + 1
    assert 1 <= count < 20
    found = jax.jit(ChunkWrapper(env, 20).step)(env.reset(key), jnp.ones(20, jnp.float32))
    assert found.terminated
    np.testing.assert_allclose(found.physics["angle"], state.physics["angle"], atol=1e-5)
    np.testing.assert_allclose(found.task_reward, total / 20, rtol=1e-4)


@pytest.mark.parametrize("length", [0, 251])
def test_lengths_that_cannot_be_are_named(length):
    with pytest.raises(UserError, match=f"got {length}"):
        ChunkWrapper(CartPole(), length)
