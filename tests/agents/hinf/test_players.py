"""A Gaussian player: densities, its own optimiser, and the policy that leaves training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinf_rl.agents.hinf import GaussianPolicy, PlayerConfig
from hinf_rl.agents.hinf.players import Player
from hinf_rl.ops.normalize import NormalizerState

RATE = 0.01


def linear(**changes):
    """A player whose mean is W x, without hidden layers."""
    settings = {"hidden": (), "desired_kl": None, "learning_rate": RATE} | changes
    return Player(PlayerConfig(**settings), input_size=2, size=2)


def with_gain(player, gain, log_std=-0.5):
    state = player.init(jax.random.key(0), jnp.float32(RATE))
    kernel = jnp.asarray(gain, jnp.float32).T
    params = {
        "mean": {"params": {"gain": {"kernel": kernel}}},
        "log_std": jnp.full((2,), log_std, jnp.float32),
    }
    assert jax.tree.structure(params) == jax.tree.structure(state.params)
    return state._replace(params=params)


GAIN = [[0.5, -1.0], [2.0, 0.25]]


@given(x=st.lists(st.floats(-2, 2), min_size=4, max_size=4))
def test_log_prob_is_the_normal_density(x):
    player = linear()
    params = with_gain(player, GAIN).params
    state, raw = np.array(x[:2], np.float32), np.array(x[2:], np.float32)
    mean = np.array(GAIN) @ state
    variance = np.exp(-1.0)  # (e^-0.5)^2
    expected = np.sum(-((raw - mean) ** 2) / (2 * variance) - 0.5 * np.log(2 * np.pi * variance))
    found, found_mean, log_std = player.log_prob(params, jnp.asarray(state), jnp.asarray(raw))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found_mean, mean, atol=1e-5)
    np.testing.assert_allclose(log_std, -0.5)


@pytest.mark.parametrize("distribution", ["normal", "tanh_normal"])
def test_a_sample_carries_the_log_prob_of_itself(distribution, key):
    player = linear(distribution=distribution)
    params = with_gain(player, GAIN).params
    x = jax.random.normal(key, (64, 2))
    raw, log_prob, mean, log_std = player.sample(key, params, x)
    again, mean_again, log_std_again = player.log_prob(params, x, raw)
    for first, second in ((log_prob, again), (mean, mean_again), (log_std, log_std_again)):
        np.testing.assert_array_equal(first, second)


def test_samples_have_the_mean_and_deviation_that_they_claim(key):
    player = linear()
    x = jnp.broadcast_to(jnp.array([1.0, 2.0], jnp.float32), (40_000, 2))
    raw, *_ = player.sample(key, with_gain(player, GAIN).params, x)
    # W (1, 2) = (-1.5, 2.5); 0.61 / sqrt(40000) = 0.003, five of which are the margin.
    np.testing.assert_allclose(np.mean(raw, axis=0), [-1.5, 2.5], atol=0.015)
    np.testing.assert_allclose(np.std(raw, axis=0), np.exp(-0.5), rtol=0.02)


def adam_reference(params, gradients, max_norm):
    """NumPy float64: global-norm clip, then Adam (beta 0.9, 0.999, epsilon 1e-5)."""
    first = [np.zeros_like(p) for p in params]
    second = [np.zeros_like(p) for p in params]
    for count, gradient in enumerate(gradients, start=1):
        norm = np.sqrt(sum(np.sum(g**2) for g in gradient))
        for i, g in enumerate(gradient):
            clipped = g * min(1.0, max_norm / norm)
            first[i] = 0.9 * first[i] + 0.1 * clipped
            second[i] = 0.999 * second[i] + 0.001 * clipped**2
            step = first[i] / (1 - 0.9**count)
            step = step / (np.sqrt(second[i] / (1 - 0.999**count)) + 1e-5)
            params[i] = params[i] - RATE * step
    return params


def test_a_gradient_step_is_adam_on_the_clipped_gradient():
    player = linear(max_grad_norm=0.5)
    state = with_gain(player, GAIN)
    rng = np.random.default_rng(0)
    gradients = [(rng.normal(size=2), rng.normal(size=(2, 2))) for _ in range(3)]
    gradients[1] = tuple(1e-3 * g for g in gradients[1])  # below the clip
    for log_std, kernel in gradients:
        gradient = {
            "mean": {"params": {"gain": {"kernel": jnp.asarray(kernel, jnp.float32)}}},
            "log_std": jnp.asarray(log_std, jnp.float32),
        }
        state = player.apply_gradient(state, gradient)
    expected = adam_reference([np.full(2, -0.5), np.array(GAIN).T], gradients, 0.5)
    np.testing.assert_allclose(state.params["log_std"], expected[0], rtol=1e-5)
    kernel = state.params["mean"]["params"]["gain"]["kernel"]
    np.testing.assert_allclose(kernel, expected[1], rtol=1e-5)


def test_the_deviation_stays_in_range_and_can_leave_its_bound():
    player = linear(log_std_range=(-1.0, 0.0), init_log_std=-0.5)
    state = with_gain(player, GAIN)._replace(learning_rate=jnp.float32(5.0))
    up = jax.tree.map(lambda p: -jnp.ones_like(p), state.params)
    state = player.apply_gradient(state, up)
    np.testing.assert_array_equal(state.params["log_std"], [0.0, 0.0])
    # At the bound the density still has a slope: a player that wants less noise can have it.
    x = jnp.ones((1, 2), jnp.float32)
    mean, _ = player.distribution(state.params, x)

    def density(params):
        return jnp.sum(player.log_prob(params, x, mean)[0])

    assert np.all(np.asarray(jax.grad(density)(state.params)["log_std"]) < 0.0)


def policy(bound=None, normalizer=None, observation_key="policy", gain=GAIN):
    player = linear()
    return GaussianPolicy(
        with_gain(player, gain).params, normalizer, bound, player, observation_key
    )


def test_a_policy_acts_by_its_mean_without_a_key_and_by_a_sample_with_one(key):
    observation = {"policy": jnp.array([[1.0, 2.0]], jnp.float32)}
    np.testing.assert_allclose(policy()(observation), [[-1.5, 2.5]], rtol=1e-6)
    first, second = policy()(observation, key), policy()(observation, jax.random.key(1))
    assert not np.allclose(first, second)


@given(scale=st.floats(0.01, 100.0), bound=st.floats(0.1, 100.0))
def test_a_bounded_policy_acts_in_units_of_its_bound(scale, bound):
    observation = {"policy": jnp.array([[scale, 0.0]], jnp.float32)}
    action = policy(bound=jnp.float32(bound))(observation)[0]
    mean = scale * np.array([0.5, 2.0])  # first column of the gain
    expected = bound * mean / max(1.0, np.linalg.norm(mean))
    np.testing.assert_allclose(action, expected, rtol=1e-4)
    assert np.linalg.norm(action) <= bound * (1.0 + 1e-5)


def test_a_policy_normalises_what_it_sees_and_sees_what_it_was_told_to():
    seen = NormalizerState(jnp.float32(4), jnp.array([1.0, 0.0]), jnp.array([16.0, 4.0]))
    observation = {
        "policy": jnp.zeros((1, 2), jnp.float32),
        "privileged": jnp.array([[5.0, 2.0]], jnp.float32),
    }
    # ((5 - 1) / 2, (2 - 0) / 1) = (2, 2), times the gain (-0.5, 2.25) each.
    found = policy(normalizer=seen, observation_key="privileged")(observation)
    np.testing.assert_allclose(found, [[-1.0, 4.5]], rtol=1e-5)


def test_a_policy_is_a_pytree_that_jit_and_vmap_take():
    players = [policy(gain=GAIN), policy(gain=np.zeros((2, 2)))]
    players = [player.replace(player=players[0].player) for player in players]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *players)
    observation = {"policy": jnp.array([[1.0, 2.0]], jnp.float32)}
    found = jax.jit(jax.vmap(lambda p: p(observation)))(stacked)
    np.testing.assert_allclose(found, [[[-1.5, 2.5]], [[0.0, 0.0]]], rtol=1e-6)
