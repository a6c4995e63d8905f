"""The linear-quadratic environment against its own algebra and the Riccati value."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hinf_rl.envs.api import Env
from hinf_rl.envs.lq import LQEnv
from hinf_rl.errors import UserError
from hinf_rl.ops.riccati import SYSTEMS, gare_solve, lqr_gain, optimal_attenuation, saddle_gains


def test_one_step_by_hand():
    # S2: A = [[1, .1], [0, 1]], B = D = [0, .1]', Q = diag(1, .1), R = .1.
    # x = (1, 2), u = 3, w = -1: cost 1 + .1*4 + .1*9 = 2.3; x' = (1.2, 2 + .1*3 - .1) = (1.2, 2.2).
    env = LQEnv(SYSTEMS["S2"])
    state = env.reset(jax.random.key(0)).replace(physics=jnp.array([1.0, 2.0], jnp.float32))
    after = env.step(state, jnp.array([3.0], jnp.float32), jnp.array([-1.0], jnp.float32))
    np.testing.assert_allclose(after.reward, -2.3, rtol=1e-6)
    np.testing.assert_allclose(after.task_reward, -2.3, rtol=1e-6)
    np.testing.assert_allclose(after.physics, [1.2, 2.2], rtol=1e-6)
    np.testing.assert_array_equal(after.observation["policy"], after.physics)
    np.testing.assert_array_equal(after.observation["privileged"], after.physics)
    assert not after.terminated and not after.truncated


def test_split_leaves_the_control_effort_out_of_the_task():
    # As above: task -(1 + .4) = -1.4, whole reward -2.3.
    env = LQEnv(SYSTEMS["S2"], split=True)
    state = env.reset(jax.random.key(0)).replace(physics=jnp.array([1.0, 2.0], jnp.float32))
    after = env.step(state, jnp.array([3.0], jnp.float32))
    np.testing.assert_allclose(after.task_reward, -1.4, rtol=1e-6)
    np.testing.assert_allclose(after.reward, -2.3, rtol=1e-6)


def roll_out(env, state, policy, num_steps):
    """Returns (sum of rewards, sum of |w|^2) under `policy(x) -> (u, w)`."""

    def step(state, _):
        u, w = policy(state.physics)
        state = env.step(state, u, w)
        return state, (state.reward, jnp.sum(w**2))

    _, (rewards, intensities) = jax.lax.scan(step, state, length=num_steps)
    return jnp.sum(rewards), jnp.sum(intensities)


@pytest.mark.parametrize("name", SYSTEMS)
def test_return_of_the_best_policy_is_the_riccati_value(name):
    system = SYSTEMS[name]
    env = LQEnv(system)
    K = jnp.asarray(lqr_gain(system.A, system.B, system.Q, system.R), jnp.float32)
    state = env.reset(jax.random.key(1))
    P = gare_solve(*system.matrices, math.inf).P
    w = jnp.zeros(system.D.shape[1], jnp.float32)
    total, _ = roll_out(env, state, lambda x: (-K @ x, w), 600)
    np.testing.assert_allclose(-total, state.physics @ P @ state.physics, rtol=1e-4)


@pytest.mark.parametrize("name", SYSTEMS)
def test_saddle_play_attains_the_game_value(name):
    system = SYSTEMS[name]
    env = LQEnv(system)
    g = 1.3 * optimal_attenuation(*system.matrices)
    P = gare_solve(*system.matrices, g).P
    gains = saddle_gains(system.A, system.B, system.D, system.R, P, g)
    K, L = (jnp.asarray(gain, jnp.float32) for gain in gains)
    state = env.reset(jax.random.key(2))
    total, intensity = roll_out(env, state, lambda x: (-K @ x, L @ x), 600)
    value = state.physics @ P @ state.physics
    np.testing.assert_allclose(-total - g**2 * intensity, value, rtol=2e-4)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31 - 1), scale=st.floats(0.1, 10.0))
def test_cost_is_quadratic_and_never_negative(seed, scale):
    env = LQEnv(SYSTEMS["S4"])
    key_x, key_u = jax.random.split(jax.random.key(seed))
    state, u = env.reset(key_x), jax.random.normal(key_u, (2,), jnp.float32)
    once = env.step(state, u)
    scaled = env.step(state.replace(physics=scale * state.physics), scale * u)
    assert once.reward <= env.spec.task_reward_max
    np.testing.assert_allclose(scaled.reward, scale**2 * once.reward, rtol=1e-4)


def test_no_disturbance_is_the_nominal_system():
    env = LQEnv(SYSTEMS["S4"])
    state, u = env.reset(jax.random.key(3)), jnp.ones(2, jnp.float32)
    chex.assert_trees_all_equal(env.step(state, u), env.step(state, u, jnp.zeros(2, jnp.float32)))


def test_protocol_sizes_and_dtypes():
    env = LQEnv(SYSTEMS["S4"], episode_length=7)
    assert isinstance(env, Env)
    spec = env.spec
    assert (spec.policy_size, spec.privileged_size, spec.action_size) == (3, 3, 2)
    assert (spec.disturbance.size, spec.disturbance.limit, spec.disturbance.unit) == (
        2,
        math.inf,
        "",
    )
    assert (spec.episode_length, spec.task_reward_max, spec.task_reward_scale) == (7, 0.0, 1.0)
    state = env.reset(jax.random.key(0))
    after = env.step(state, jnp.zeros(2, jnp.float32))
    chex.assert_trees_all_equal_shapes_and_dtypes(state, after)
    assert state.physics.dtype == jnp.float32


def test_vectorised_and_compiled_steps_agree_with_single_ones():
    env = LQEnv(SYSTEMS["S2"])
    keys = jax.random.split(jax.random.key(0), 5)
    states = jax.jit(jax.vmap(env.reset))(keys)
    actions = jax.random.normal(jax.random.key(1), (5, 1), jnp.float32)
    batch = jax.jit(jax.vmap(env.step))(states, actions, actions)
    for row in range(5):
        single = env.step(env.reset(keys[row]), actions[row], actions[row])
        np.testing.assert_allclose(batch.physics[row], single.physics, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(batch.reward[row], single.reward, rtol=1e-5)


def test_start_has_the_given_spread():
    env = LQEnv(SYSTEMS["S2"], initial_std=2.0)
    x = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 4000)).physics
    # Standard error of a standard deviation from 4000 samples: 2/sqrt(8000) = 0.022.
    np.testing.assert_allclose(jnp.std(x, axis=0), [2.0, 2.0], atol=0.1)
    assert not LQEnv(SYSTEMS["S2"], initial_std=0.0).reset(jax.random.key(0)).physics.any()


@pytest.mark.parametrize(
    ("settings_", "message"),
    [({"initial_std": -1.0}, "initial_std"), ({"episode_length": 0}, "episode_length")],
)
def test_bad_settings_are_named(settings_, message):
    with pytest.raises(UserError, match=message):
        LQEnv(SYSTEMS["S2"], **settings_)
