"""Probe environments: the documented solutions against brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.envs.probe import PROBES

GRID = np.linspace(-1.0, 1.0, 201, dtype=np.float32)


def first_states(probe, num=64):
    return jax.vmap(probe.reset)(jax.random.split(jax.random.key(0), num))


def one_state_per_sign(probe):
    states = first_states(probe)
    sign = np.asarray(states.observation["policy"][:, 0])
    picks = [int(np.flatnonzero(sign == s)[0]) for s in np.unique(sign)]
    return [jax.tree.map(lambda x, i=i: x[i], states) for i in picks]


def rewards_on_grid(probe, state):
    """[A, W] rewards of the next step on the grid of actions and disturbances."""
    actions = jnp.asarray(GRID)[:, None]
    pushes = actions if probe.takes_disturbance else jnp.zeros((1, 0), jnp.float32)
    step = jax.vmap(jax.vmap(probe.step, (None, None, 0)), (None, 0, None))
    return np.asarray(step(state, actions, pushes).reward)


@pytest.mark.parametrize("name", sorted(set(PROBES) - {"delayed_reward"}))
def test_value_and_action_equal_the_best_on_a_grid(name):
    probe = PROBES[name]
    for state in one_state_per_sign(probe):
        rewards = rewards_on_grid(probe, state)
        assert rewards.min() >= -1e-6 and rewards.max() <= 1.0 + 1e-6
        worst = rewards.min(axis=1)
        observation = state.observation["policy"][0]
        value = float(probe.optimal_value(observation, 0.9))
        np.testing.assert_allclose(worst.max(), value, atol=1e-5)
        best = float(probe.optimal_action(observation))
        np.testing.assert_allclose(worst[np.argmin(np.abs(GRID - best))], value, atol=1e-5)


def test_saddle_by_hand():
    # o = 1: a = 0.4, w = 0.2 gives f = -(0.1)^2 - 0.08 + 0.04 = -0.05 and
    # (2.5 - 0.05) / 4.25 = 49/85.
    probe = PROBES["saddle"]
    (low, high) = one_state_per_sign(probe)
    assert float(high.observation["policy"][0]) == 1.0
    out = probe.step(high, jnp.array([0.4], jnp.float32), jnp.array([0.2], jnp.float32))
    np.testing.assert_allclose(out.reward, 49 / 85, rtol=1e-6)
    out = probe.step(low, jnp.array([-0.4], jnp.float32), jnp.array([-0.2], jnp.float32))
    np.testing.assert_allclose(out.reward, 49 / 85, rtol=1e-6)
    # Neither player gains by leaving the saddle alone: max min equals min max on the grid.
    rewards = rewards_on_grid(probe, high)
    np.testing.assert_allclose(rewards.min(1).max(), rewards.max(0).min(), atol=1e-5)
    # The bounds of f that put the reward in [0, 1] are met: -5/2 at (-1, -1/2), 7/4 at (1, -1).
    np.testing.assert_allclose([rewards.min(), rewards.max()], [0.0, 1.0], atol=1e-6)


@pytest.mark.parametrize("price", [0.0, 0.2, 1.0])
def test_best_disturbance_maximises_cost_less_price(price):
    probe = PROBES["saddle"]
    state = one_state_per_sign(probe)[1]
    rewards = rewards_on_grid(probe, state)
    payoff = 1.0 - rewards - price * GRID[None, :] ** 2
    best = np.asarray(probe.best_disturbance(jnp.asarray(GRID), price))
    np.testing.assert_allclose(GRID[payoff.argmax(1)], best, atol=0.0051)  # half the grid's pitch


def test_delayed_reward_by_hand():
    # Two steps, rewards 0 then 1: V(0) = discount, V(1) = 1; terminated only at the end.
    probe = PROBES["delayed_reward"]
    state = probe.reset(jax.random.key(0))
    action = jnp.zeros(1, jnp.float32)
    first = probe.step(state, action)
    second = probe.step(first, action)
    observed = [float(s.observation["policy"][0]) for s in (state, first)]
    assert observed == [0.0, 1.0]
    assert [float(first.reward), float(second.reward)] == [0.0, 1.0]
    assert [bool(first.terminated), bool(second.terminated)] == [False, True]
    np.testing.assert_allclose(probe.optimal_value(jnp.float32(0), 0.9), 0.9, rtol=1e-6)
    np.testing.assert_allclose(probe.optimal_value(jnp.float32(1), 0.9), 1.0, rtol=1e-6)


def test_observed_signs_are_fair():
    signs = np.asarray(first_states(PROBES["observed_reward"], 1000).observation["policy"])
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert abs(signs.mean()) < 0.1  # three standard errors


def test_actions_beyond_the_limit_count_as_the_limit():
    probe = PROBES["action_reward"]
    state = probe.reset(jax.random.key(0))
    # At a = -1: 1 - (1.5 / 2)^2 = 0.4375.
    for action in (-1.0, -9.0):
        out = probe.step(state, jnp.array([action], jnp.float32))
        np.testing.assert_allclose(out.reward, 0.4375, rtol=1e-6)
