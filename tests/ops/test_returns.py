"""Returns and advantages against hand arithmetic, a NumPy loop and their limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinf_rl.ops.returns import (
    discounted_return,
    gae,
    lambda_returns,
    multi_head_gae,
    two_head_gae,
)


def column(*values):
    """[T, 1] column of float32 or bool."""
    dtype = bool if isinstance(values[0], bool) else np.float32
    return jnp.asarray(np.array(values, dtype)[:, None])


def rollout(seed, steps=9, batch=4, p_end=0.25):
    """Random arrays in the order that `gae` takes them, as NumPy."""
    draw = np.random.default_rng(seed)
    r_t, v_t, v_tp1 = draw.normal(size=(3, steps, batch)).astype(np.float32)
    terminated = draw.random((steps, batch)) < p_end
    truncated = draw.random((steps, batch)) < p_end
    valid = draw.random((steps, batch)) > p_end
    return r_t, v_t, v_tp1, terminated, truncated, valid


def gae_reference(r_t, v_t, v_tp1, terminated, truncated, valid, gamma, lam):
    """Sums each trace forward, term by term, as the definition reads."""
    advantage = np.zeros(r_t.shape)
    for t, b in np.ndindex(*r_t.shape):
        weight = 1.0
        for k in range(t, r_t.shape[0]):
            if not valid[k, b]:
                break
            bootstrap = 0.0 if terminated[k, b] else v_tp1[k, b]
            advantage[t, b] += weight * (r_t[k, b] + gamma * bootstrap - v_t[k, b])
            if terminated[k, b] or truncated[k, b]:
                break
            weight *= gamma * lam
    return advantage, advantage + v_t


def test_gae_by_hand():
    # gamma 0.5, lambda 0.5, hence trace 0.25; the second step terminates, the last bootstraps.
    # delta_2 = 3 + 0.5 * 4 - 2 = 3          A_2 = 3
    # delta_1 = 2 + 0       - 1 = 1          A_1 = 1 (cut)
    # delta_0 = 1 + 0.5 * 1 - 1 = 0.5        A_0 = 0.5 + 0.25 * 1 = 0.75
    advantage, target = gae(
        column(1.0, 2.0, 3.0),
        column(1.0, 1.0, 2.0),
        column(1.0, 7.0, 4.0),
        column(False, True, False),
        column(False, False, False),
        column(True, True, True),
        gamma=0.5,
        gae_lambda=0.5,
    )
    np.testing.assert_allclose(advantage[:, 0], [0.75, 1.0, 3.0])
    np.testing.assert_allclose(target[:, 0], [1.75, 2.0, 5.0])


def test_truncation_bootstraps_and_termination_does_not():
    # One step, r 1, v 0.5, next value 4, gamma 0.5: 1 + 2 - 0.5 = 2.5 against 1 - 0.5 = 0.5.
    # Where both flags are set, the task has ended: no value follows.
    flags = [(False, True, 2.5), (True, False, 0.5), (True, True, 0.5)]
    for terminated, truncated, expected in flags:
        advantage, _ = gae(
            column(1.0),
            column(0.5),
            column(4.0),
            column(terminated),
            column(truncated),
            column(True),
            gamma=0.5,
            gae_lambda=0.9,
        )
        np.testing.assert_allclose(advantage, [[expected]])


@given(seed=st.integers(0, 10_000), gamma=st.floats(0, 1), lam=st.floats(0, 1))
def test_gae_equals_the_definition(seed, gamma, lam):
    arrays = rollout(seed)
    expected = gae_reference(*arrays, gamma, lam)
    actual = gae(*map(jnp.asarray, arrays), gamma=gamma, gae_lambda=lam)
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(actual[1], expected[1], rtol=1e-4, atol=1e-5)


def test_lambda_zero_is_the_td_error():
    r_t, v_t, v_tp1, terminated, truncated, _ = rollout(1)
    valid = np.ones_like(terminated)
    actual, _ = gae(r_t, v_t, v_tp1, terminated, truncated, valid, gamma=0.9, gae_lambda=0.0)
    np.testing.assert_allclose(actual, r_t + 0.9 * v_tp1 * ~terminated - v_t, rtol=1e-5, atol=1e-6)


def test_lambda_one_is_the_monte_carlo_return():
    # With consistent values between ends, the intermediate values telescope away.
    r_t, v_t, v_tp1, terminated, truncated, _ = rollout(2)
    goes_on = ~(terminated | truncated)
    v_tp1[:-1] = np.where(goes_on[:-1], v_t[1:], v_tp1[:-1])
    expected = np.zeros_like(r_t)
    g_tp1 = v_tp1[-1]
    for t in reversed(range(len(r_t))):
        after = np.where(goes_on[t], g_tp1, np.where(terminated[t], 0.0, v_tp1[t]))
        g_tp1 = expected[t] = r_t[t] + 0.9 * after
    valid = np.ones_like(terminated)
    _, target = gae(r_t, v_t, v_tp1, terminated, truncated, valid, gamma=0.9, gae_lambda=1.0)
    np.testing.assert_allclose(target, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
def test_constant_reward_has_value_r_over_one_minus_gamma(lam):
    # r = 2, gamma = 0.9: v = 2 / 0.1 = 20 is the fixed point when truncation bootstraps.
    ones = jnp.ones((12, 3), jnp.float32)
    truncated = jnp.broadcast_to((jnp.arange(12) % 5 == 4)[:, None], (12, 3))
    never, always = jnp.zeros((12, 3), bool), jnp.ones((12, 3), bool)
    advantage, target = gae(
        2.0 * ones, 20.0 * ones, 20.0 * ones, never, truncated, always, gamma=0.9, gae_lambda=lam
    )
    np.testing.assert_allclose(advantage, 0.0, atol=2e-5)
    np.testing.assert_allclose(target, 20.0, rtol=1e-5)


def test_nothing_of_an_invalid_step_leaks_out():
    r_t, v_t, v_tp1, terminated, truncated, _ = rollout(3, p_end=0.0)
    valid = np.ones_like(terminated)
    valid[4] = False
    poisoned_r, poisoned_v = r_t.copy(), v_tp1.copy()
    poisoned_r[4], poisoned_v[4] = np.nan, np.inf
    kwargs = {"gamma": 0.9, "gae_lambda": 0.8}
    advantage, target = gae(poisoned_r, v_t, poisoned_v, terminated, truncated, valid, **kwargs)
    np.testing.assert_array_equal(advantage[4], 0.0)
    np.testing.assert_array_equal(target[4], v_t[4])
    # The steps before it see what they would see if the rollout were cut there.
    cut = gae(*(x[:4] for x in (r_t, v_t, v_tp1, terminated, truncated, valid)), **kwargs)
    np.testing.assert_allclose(advantage[:4], cut[0], rtol=1e-6)
    np.testing.assert_allclose(target[:4], cut[1], rtol=1e-6)


def test_value_after_termination_may_be_nan():
    nan = column(float("nan"))
    advantage, _ = gae(
        column(1.0),
        column(0.0),
        nan,
        column(True),
        column(False),
        column(True),
        gamma=0.9,
        gae_lambda=0.9,
    )
    np.testing.assert_allclose(advantage, [[1.0]])


def test_gae_takes_any_batch_shape_and_traced_scalars():
    arrays = tuple(map(jnp.asarray, rollout(4, batch=6)))
    folded = tuple(x.reshape(9, 2, 3) for x in arrays)
    flat, _ = gae(*arrays, gamma=0.97, gae_lambda=0.9)

    def run(gamma):
        return gae(*folded, gamma=gamma, gae_lambda=0.9)[0]

    gammas = jnp.array([0.5, 0.97], jnp.float32)
    stacked = jax.jit(jax.vmap(run))(gammas)
    assert stacked.dtype == jnp.float32
    np.testing.assert_allclose(stacked[1], flat.reshape(9, 2, 3), rtol=1e-5, atol=1e-6)


@given(seed=st.integers(0, 10_000), lam=st.floats(0, 1))
def test_lambda_return_is_gae_plus_value(seed, lam):
    # Equal wherever v_tp1 is the next step's v_t, as in a rollout with one critic.
    r_t, v_t, v_tp1, terminated, truncated, _ = rollout(seed)
    goes_on = ~(terminated | truncated)
    v_tp1[:-1] = np.where(goes_on[:-1], v_t[1:], v_tp1[:-1])
    valid = np.ones_like(terminated)
    _, target = gae(r_t, v_t, v_tp1, terminated, truncated, valid, gamma=0.9, gae_lambda=lam)
    actual = lambda_returns(r_t, v_tp1, terminated, truncated, gamma=0.9, gae_lambda=lam)
    np.testing.assert_allclose(actual, target, rtol=1e-4, atol=1e-5)


def test_discounted_return_by_hand():
    # gamma 0.5: G_3 = 4; G_2 = 3 + 2 = 5; G_1 = 2 (its episode ends); G_0 = 1 + 1 = 2.
    done = column(False, True, False, False)
    actual = discounted_return(column(1.0, 2.0, 3.0, 4.0), done, gamma=0.5)
    np.testing.assert_allclose(actual[:, 0], [2.0, 2.0, 5.0, 4.0])


def test_each_head_is_its_own_gae():
    r_t, v_t, v_tp1, *masks = rollout(5)
    other_r, other_v, other_next, *_ = rollout(6)
    kwargs = {"gamma": 0.95, "gae_lambda": 0.9}
    heads = [np.stack(pair, -1) for pair in [(r_t, other_r), (v_t, other_v), (v_tp1, other_next)]]
    advantage, target = multi_head_gae(*heads, *masks, **kwargs)
    first, second = (
        gae(r_t, v_t, v_tp1, *masks, **kwargs),
        gae(other_r, other_v, other_next, *masks, **kwargs),
    )
    np.testing.assert_allclose(advantage, np.stack([first[0], second[0]], -1), rtol=1e-6)
    named = two_head_gae(r_t, other_r, v_t, other_v, v_tp1, other_next, *masks, **kwargs)
    expected = (first[0], second[0], first[1], second[1])
    for actual, wanted in zip(named, expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-6)
    assert target.shape == (*r_t.shape, 2)


def test_the_last_step_of_both_heads_bootstraps_from_its_own_next_value():
    # T = 1, r = 0, v = 0, gamma 0.5: advantages are half of the next values, 3 and 5.
    zero, ends = column(0.0), column(False)
    result = two_head_gae(
        zero,
        zero,
        zero,
        zero,
        column(6.0),
        column(10.0),
        ends,
        ends,
        ~ends,
        gamma=0.5,
        gae_lambda=0.9,
    )
    np.testing.assert_allclose([float(x[0, 0]) for x in result], [3.0, 5.0, 3.0, 5.0])


def test_mismatched_shapes_are_refused():
    r_t, v_t, v_tp1, *masks = map(jnp.asarray, rollout(7))
    with pytest.raises(AssertionError):
        gae(r_t[:-1], v_t, v_tp1, *masks, gamma=0.9, gae_lambda=0.9)
