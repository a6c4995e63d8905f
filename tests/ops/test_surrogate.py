"""The PPO losses: branches by hand, gradients against differences, masks and empty masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinf_rl.ops.distributions import normal_log_prob
from hinf_rl.ops.surrogate import (
    clipped_surrogate,
    clipped_value_loss,
    kl_step_size,
    masked_mean,
    masked_std,
    normalize_advantage,
)


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected", "slope"),
    [
        # d loss / d log_prob = -ratio * A where unclipped, 0 where clipped; clip 0.2.
        (1.0, 2.0, -2.0, -2.0),
        (1.1, 2.0, -2.2, -2.2),
        (1.5, 2.0, -2.4, 0.0),  # min(3.0, 1.2 * 2): no reward for going further
        (0.5, 2.0, -1.0, -1.0),  # min(1.0, 0.8 * 2): may come back
        (1.5, -2.0, 3.0, 3.0),  # min(-3.0, -2.4): may come back
        (0.5, -2.0, 1.6, 0.0),  # min(-1.0, -1.6)
    ],
)
def test_surrogate_branches_by_hand(ratio, advantage, expected, slope):
    def loss(log_prob):
        return clipped_surrogate(log_prob, jnp.float32(0.3), jnp.float32(advantage), clip_ratio=0.2)

    value, gradient = jax.value_and_grad(loss)(jnp.float32(np.log(ratio) + 0.3))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-7)


def test_first_minibatch_is_the_plain_policy_gradient(key):
    # At ratio 1 nothing is clipped: the loss is -A and its gradient the score times -A,
    # for a normal of std 1 with respect to the mean: -(x - mean) A.
    x, advantage = jax.random.normal(key, (2, 64), jnp.float32)
    zeros = jnp.zeros((64, 1), jnp.float32)
    old = normal_log_prob(x[:, None], zeros, zeros)

    def loss(mean):
        new = normal_log_prob(x[:, None], jnp.full((64, 1), mean), zeros)
        return jnp.mean(clipped_surrogate(new, old, advantage, clip_ratio=0.2))

    value, gradient = jax.value_and_grad(loss)(jnp.float32(0.0))
    np.testing.assert_allclose(value, -np.mean(advantage), rtol=1e-5)
    np.testing.assert_allclose(gradient, -np.mean(x * advantage), rtol=1e-4, atol=1e-6)


@given(seed=st.integers(0, 10_000))
def test_surrogate_gradient_equals_finite_differences(seed):
    draw = np.random.default_rng(seed)
    log_ratio, advantage = draw.normal(scale=[[0.2], [1.0]], size=(2, 8))
    # Away from the two kinks, in float64, the reference is exact to second order.
    kinks = np.log([[0.8], [1.2]])
    smooth = np.min(np.abs(log_ratio - kinks), axis=0) > 1e-3

    def reference(x):
        ratio = np.exp(x)
        return -np.minimum(ratio * advantage, np.clip(ratio, 0.8, 1.2) * advantage)

    slope = (reference(log_ratio + 1e-5) - reference(log_ratio - 1e-5)) / 2e-5
    old = jnp.zeros(8, jnp.float32)
    actual = jax.grad(
        lambda x: jnp.sum(clipped_surrogate(x, old, jnp.float32(advantage), clip_ratio=0.2))
    )(jnp.float32(log_ratio))
    np.testing.assert_allclose(actual[smooth], slope[smooth], rtol=1e-3, atol=1e-5)


def test_a_step_down_the_surrogate_makes_good_actions_likelier():
    def loss(log_prob):
        return clipped_surrogate(log_prob, jnp.float32(0.0), jnp.float32(1.0), clip_ratio=0.2)

    assert jax.grad(loss)(jnp.float32(0.0)) < 0.0


@pytest.mark.parametrize("log_ratio", [-1e4, 1e4])
@pytest.mark.parametrize("advantage", [-1.0, 0.0, 1.0])
def test_a_wild_ratio_stays_finite(log_ratio, advantage):
    def loss(log_prob):
        return clipped_surrogate(log_prob, jnp.float32(0.0), jnp.float32(advantage), clip_ratio=0.2)

    value, gradient = jax.value_and_grad(loss)(jnp.float32(log_ratio))
    assert np.isfinite(value)
    assert np.isfinite(gradient)


def test_value_loss_by_hand():
    # v 2, old 0, target 1, clip 0.5: plain (2-1)^2 = 1, clipped (0.5-1)^2 = 0.25; 0.5 max = 0.5.
    # v 2, old 0, target 3: plain 1, clipped (0.5-3)^2 = 6.25; 0.5 max = 3.125.
    value, old = jnp.float32([2.0, 2.0]), jnp.float32([0.0, 0.0])
    target = jnp.float32([1.0, 3.0])
    np.testing.assert_allclose(clipped_value_loss(value, old, target, clip_value=0.5), [0.5, 3.125])
    np.testing.assert_allclose(clipped_value_loss(value, old, target, clip_value=None), [0.5, 0.5])


def test_value_loss_sums_its_heads():
    heads = jnp.float32([[2.0, 2.0], [1.0, 5.0]])
    old, target = jnp.zeros((2, 2), jnp.float32), jnp.float32([[1.0, 3.0], [1.0, 1.0]])
    # Row 0 as above: 0.5 + 3.125; row 1: 0.5 max(0, 0.25) = 0.125 and 0.5 max(16, 0.25) = 8.
    actual = clipped_value_loss(heads, old, target, clip_value=0.5)
    np.testing.assert_allclose(actual, [3.625, 8.125])


@given(seed=st.integers(0, 10_000))
def test_masked_moments_equal_numpy_on_the_chosen_samples(seed):
    draw = np.random.default_rng(seed)
    x = draw.normal(3.0, 2.0, size=(5, 4)).astype(np.float32)
    mask = draw.random((5, 4)) < 0.6
    mask[0, 0] = True
    poisoned = np.where(mask, x, np.nan)
    np.testing.assert_allclose(masked_mean(poisoned, mask), x[mask].mean(), rtol=1e-5)
    np.testing.assert_allclose(masked_std(poisoned, mask), x[mask].std(), rtol=1e-4, atol=1e-5)
    normal = np.asarray(normalize_advantage(poisoned, mask))
    np.testing.assert_array_equal(normal[~mask], 0.0)
    np.testing.assert_allclose(normal[mask].mean(), 0.0, atol=1e-5)
    if x[mask].std() > 1e-3:
        np.testing.assert_allclose(normal[mask].std(), 1.0, rtol=1e-4)


def test_an_empty_mask_gives_zero_and_finite_gradients():
    x, nobody = jnp.float32([1.0, 2.0]), jnp.zeros(2, bool)
    for reduce in (masked_mean, masked_std, lambda x, m: jnp.sum(normalize_advantage(x, m))):
        value, gradient = jax.value_and_grad(reduce)(x, nobody)
        assert value == 0.0
        np.testing.assert_array_equal(gradient, 0.0)


# Every size compiles anew: a few that no power of two divides, and their neighbours.
@given(value=st.floats(-1e3, 1e3, width=32), size=st.sampled_from([1, 2, 3, 7, 64, 333, 998, 999]))
def test_equal_advantages_normalise_to_zero(value, size):
    # The mean of equal float32 numbers is off by a bit; that bit must not be blown up.
    normal = normalize_advantage(jnp.full(size, value, jnp.float32), jnp.ones(size, bool))
    assert np.max(np.abs(normal)) < 1e-2


@given(scale=st.floats(0.1, 100.0), shift=st.floats(-10.0, 10.0))
def test_normalised_advantage_ignores_scale_and_shift(scale, shift):
    x = np.random.default_rng(0).normal(size=32).astype(np.float32)
    everyone = jnp.ones(32, bool)
    moved = jnp.float32(scale) * x + jnp.float32(shift)
    expected = normalize_advantage(x, everyone)
    np.testing.assert_allclose(normalize_advantage(moved, everyone), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("kl", "expected"),
    [
        (0.021, 2e-3),  # above 2 * 0.01: 3e-3 / 1.5
        (0.02, 3e-3),
        (0.01, 3e-3),
        (0.004, 4.5e-3),  # below 0.01 / 2: 3e-3 * 1.5
        (0.0, 3e-3),  # nothing was measured
        (float("nan"), 3e-3),
    ],
)
def test_step_size_follows_the_kl(kl, expected):
    actual = kl_step_size(jnp.float32(3e-3), jnp.float32(kl), desired_kl=0.01)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    assert actual.dtype == jnp.float32


def test_step_size_keeps_to_its_bounds():
    low, high = jnp.float32(1e-5), jnp.float32(1e-2)
    np.testing.assert_allclose(kl_step_size(low, jnp.float32(1.0), desired_kl=0.01), 1e-5)
    np.testing.assert_allclose(kl_step_size(high, jnp.float32(1e-4), desired_kl=0.01), 1e-2)
