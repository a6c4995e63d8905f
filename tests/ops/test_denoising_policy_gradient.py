"""Advantages and losses of DDPO and DPPO: by hand and against NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.ops.denoising_policy_gradient import (
    batch_advantages,
    context_advantages,
    context_statistics_init,
    context_statistics_update,
    ddpo_loss,
    dppo_clip_range,
    dppo_loss,
    group_advantages,
    reinforce_loss,
)

REWARD = np.array([[1.0, 3.0], [10.0, 10.0], [0.0, 4.0]])
ALL = jnp.ones((3, 2), bool)


def test_batch_and_group_advantages_by_hand():
    reward = jnp.asarray(REWARD, jnp.float32)
    expected = (REWARD - REWARD.mean()) / REWARD.std()
    np.testing.assert_allclose(batch_advantages(reward, ALL), expected, rtol=1e-4)
    np.testing.assert_allclose(group_advantages(reward, ALL), [[-1, 1], [0, 0], [-1, 1]], atol=1e-4)
    np.testing.assert_allclose(
        group_advantages(reward, ALL, scale=False), [[-1, 1], [0, 0], [-2, 2]], atol=1e-5
    )


@pytest.mark.parametrize("scale", [True, False])
def test_samples_outside_the_mask_have_no_advantage_and_no_effect(scale):
    reward = jnp.asarray([[1.0, 3.0, np.nan], [2.0, 6.0, 4.0]], jnp.float32)
    mask = jnp.isfinite(reward)
    found = group_advantages(reward, mask, scale=scale)
    expected = [-1.0, 1.0, 0.0]
    np.testing.assert_allclose(found[0], expected, atol=1e-4)
    assert np.isfinite(batch_advantages(reward, mask)).all()


def test_buffers_keep_the_newest_and_serve_once_filled():
    state = context_statistics_init(2, 3)
    reward = jnp.array([[1.0, 2.0], [5.0, 7.0], [3.0, 4.0]], jnp.float32)
    context = jnp.array([0, 1, 0], jnp.int32)
    state = context_statistics_update(state, context, reward, ALL)
    np.testing.assert_array_equal(state.count, [4, 2])
    # Context 0 saw 1 2 3 4 and remembers 4 2 3.
    np.testing.assert_array_equal(np.sort(state.rewards[0]), [2, 3, 4])
    found = np.asarray(context_advantages(state, context, reward, ALL, min_count=3))
    std = np.std([2.0, 3.0, 4.0])
    np.testing.assert_allclose(found[0], (np.array([1.0, 2.0]) - 3.0) / std, rtol=1e-4)
    # Context 1 holds two rewards: the batch speaks for it.
    everything = np.asarray(reward)
    expected = (everything[1] - everything.mean()) / everything.std()
    np.testing.assert_allclose(found[1], expected, rtol=1e-4)


def test_what_does_not_count_is_not_remembered():
    state = context_statistics_init(1, 4)
    mask = jnp.array([[True, False, True]])
    reward = jnp.array([[1.0, np.nan, 2.0]], jnp.float32)
    state = context_statistics_update(state, jnp.zeros(1, jnp.int32), reward, mask)
    assert int(state.count[0]) == 2
    np.testing.assert_array_equal(state.rewards[0, :2], [1.0, 2.0])


def test_ddpo_bounds_ratio_and_advantage():
    log_ratio, advantage = jnp.log(jnp.array([1.5, 1.0, 0.5])), jnp.array([1.0, 9.0, -1.0])
    found = ddpo_loss(log_ratio, jnp.zeros(3), advantage, clip_eps=0.1, advantage_clip=5.0)
    # -1.1 A; -5; max(0.5, 0.9).
    np.testing.assert_allclose(found, [-1.1, -5.0, 0.9], rtol=1e-5)
    plain = reinforce_loss(jnp.array([-2.0, 1.0]), jnp.array([3.0, 9.0]), advantage_clip=5.0)
    np.testing.assert_allclose(plain, [6.0, -5.0])


def test_dppo_clip_range_grows_from_base_to_full():
    k = jnp.arange(10, dtype=jnp.int32)
    found = dppo_clip_range(k, 10, clip_eps=0.01, clip_base=0.001)
    growth = (np.exp(3 * np.arange(10) / 9) - 1) / (np.exp(3) - 1)
    np.testing.assert_allclose(found, 0.001 + 0.009 * growth, rtol=1e-5)
    np.testing.assert_allclose(dppo_clip_range(k[:1], 1, clip_eps=0.2, clip_base=0.1), 0.2)


def test_dppo_discounts_the_advantage_of_noisier_steps():
    k = jnp.array([0, 1, 2], jnp.int32)
    zeros, advantage = jnp.zeros(3), jnp.full(3, 2.0)
    found = dppo_loss(
        zeros, zeros, advantage, k, num_steps=3, gamma_denoise=0.5, clip_eps=0.1, clip_base=0.1
    )
    # Ratio 1: the loss is -A gamma^(2 - k).
    np.testing.assert_allclose(found, [-0.5, -1.0, -2.0], rtol=1e-6)
