"""The language model as a Q-function: hand arithmetic, the tabular operators, identities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinf_rl.ops.bellman import conservative_operator, inverse_operator, optimality_operator
from hinf_rl.ops.bellman_tokens import (
    advantage_of,
    bellman_target,
    completion_mask,
    dueling_q,
    following,
    greedy_actions,
    log_prob_of,
    recovered_rewards,
    soft_cap,
    terminal_rewards,
)

B, T, V = 3, 5, 4
LENGTHS = (5, 3, 1)
GAMMA = 0.9


def sequences(seed):
    """Logits, reference logits, values, tokens, mask of three sequences of 5, 3 and 1 tokens."""
    draw = np.random.default_rng(seed)
    logits, reference = draw.normal(scale=2.0, size=(2, B, T, V)).astype(np.float32)
    value = draw.normal(size=(B, T)).astype(np.float32)
    tokens = draw.integers(0, V, (B, T)).astype(np.int32)
    mask = np.arange(T)[None] < np.array(LENGTHS)[:, None]
    return tuple(map(jnp.asarray, (logits, reference, value, tokens, mask)))


def test_dueling_q_by_hand():
    # alpha 0.5, logits (1, 3, 2), V 0.25: A = 0.5 * (-2, 0, -1), Q = A + 0.25.
    logits, value = jnp.array([[1.0, 3.0, 2.0]]), jnp.array([0.25])
    np.testing.assert_allclose(dueling_q(logits, value, 0.5), [[-0.75, 0.25, -0.25]])
    np.testing.assert_allclose(advantage_of(logits, jnp.array([2]), 0.5), [-0.5])
    assert greedy_actions(logits).tolist() == [1]
    assert greedy_actions(logits).dtype == jnp.int32


@given(seed=st.integers(0, 10_000), alpha=st.floats(0.05, 2.0))
def test_the_policy_of_q_is_the_language_model_for_any_value(seed, alpha):
    logits, _, value, tokens, _ = sequences(seed)
    q = dueling_q(logits, 10.0 * value, alpha)
    np.testing.assert_allclose(
        jax.nn.softmax(q / alpha), jax.nn.softmax(logits), rtol=1e-3, atol=1e-5
    )
    # One token at a time, the same numbers; the best action is worth V.
    taken = jnp.take_along_axis(dueling_q(logits, value, alpha), tokens[..., None], -1)[..., 0]
    np.testing.assert_allclose(advantage_of(logits, tokens, alpha) + value, taken, atol=1e-5)
    np.testing.assert_allclose(jnp.max(dueling_q(logits, value, alpha), -1), value, atol=1e-6)
    picked = jax.nn.log_softmax(logits)[np.arange(B)[:, None], np.arange(T)[None], tokens]
    np.testing.assert_allclose(log_prob_of(logits, tokens), picked, atol=1e-5)


def test_the_maximum_is_differentiated():
    # dA(a)/dl = alpha (onehot(a) - onehot(argmax)); a max behind a stop-gradient would lose the
    # second term.
    logits = jnp.array([1.0, 3.0, 2.0])
    gradient = jax.grad(lambda x: advantage_of(x, jnp.int32(2), 0.5))(logits)
    np.testing.assert_allclose(gradient, [0.0, -0.5, 0.5])
    np.testing.assert_allclose(
        jax.grad(lambda x: advantage_of(x, jnp.int32(1), 0.5))(logits), [0.0, 0.0, 0.0]
    )


def test_soft_cap_by_hand():
    # softabs(0) = 2 ln 2 - 2 ln 2 = 0, so the cap itself is attained; far out it is |x| - 2 ln 2.
    np.testing.assert_allclose(soft_cap(jnp.zeros(1)), [1.0], atol=1e-6)
    np.testing.assert_allclose(
        soft_cap(jnp.array([-30.0, 30.0]), 0.5), [0.5 - 30 + 2 * np.log(2)] * 2, rtol=1e-6
    )
    # The printed sign, [softplus(x) + softplus(-x)] / 2 + ln 2, cannot represent a reward of +1.
    x = np.linspace(-5, 5, 101)
    printed = 1.0 - (np.logaddexp(0, x) + np.logaddexp(0, -x)) / 2 - np.log(2)
    np.testing.assert_allclose(printed.max(), 1.0 - 2.0 * np.log(2.0))
    assert printed.max() < -0.38


@given(x=st.floats(-1e4, 1e4), cap=st.floats(-2, 2))
def test_soft_cap_caps_is_even_and_has_a_bounded_slope(x, cap):
    value = soft_cap(jnp.float32(x), cap)
    assert value <= cap + 1e-6
    np.testing.assert_allclose(value, soft_cap(jnp.float32(-x), cap))
    slope = jax.grad(soft_cap)(jnp.float32(x), cap)
    np.testing.assert_allclose(slope, -np.tanh(x / 2), atol=1e-5)


def test_completion_mask_counts_the_first_end_token():
    tokens = jnp.array([[5, 3, 3, 0], [3, 5, 5, 5], [5, 5, 5, 5]])
    assert completion_mask(tokens, 3).tolist() == [
        [True, True, False, False],
        [True, False, False, False],
        [True, True, True, True],  # cut off
    ]


def test_reward_comes_with_the_last_token_also_of_a_sequence_that_was_cut_off():
    mask = jnp.array([[True, True, False], [True, True, True], [True, False, False]])
    found = terminal_rewards(jnp.array([1.0, -1.0, -0.3]), mask)
    np.testing.assert_allclose(found, [[0, 1, 0], [0, 0, -1], [-0.3, 0, 0]])


def test_nothing_is_bootstrapped_from_behind_the_last_token():
    mask = jnp.array([[True, True, False], [True, True, True]])
    x = jnp.array([[1.0, 2.0, jnp.nan], [3.0, 4.0, 5.0]])
    np.testing.assert_allclose(following(x, mask), [[2, 0, 0], [4, 5, 0]])
    # Target: 0 + 0.5 * 2, then the reward alone.
    reward = terminal_rewards(jnp.array([1.0, -1.0]), mask)
    found = bellman_target(reward, x, mask, 0.5)
    np.testing.assert_allclose(found[0, :2], [1.0, 1.0])
    np.testing.assert_allclose(found[1], [2.0, 2.5, -1.0])


def chain(logits, value, tokens, mask, row, alpha):
    """One sequence as a decision process: token t leads from state t to t + 1, others end it."""
    length = int(mask[row].sum())
    q = np.asarray(dueling_q(logits, value, alpha))[row, :length]
    transition = np.zeros((length, V, length), np.float32)
    for t in range(length - 1):
        transition[t, tokens[row, t], t + 1] = 1.0
    return jnp.asarray(q), jnp.asarray(transition)


@pytest.mark.parametrize("row", range(B))
def test_sampled_operators_equal_the_tabular_ones_on_the_taken_tokens(row):
    alpha = 0.3
    logits, reference, value, tokens, mask = sequences(7)
    outcome = jnp.array([1.0, -0.3, -1.0])
    reward = terminal_rewards(outcome, mask)
    greedy = greedy_actions(reference)
    bootstrap = advantage_of(logits, greedy, alpha) + value
    q, transition = chain(logits, value, tokens, mask, row, alpha)
    length = q.shape[0]
    table = (
        jnp.zeros((length, V))
        .at[jnp.arange(length), tokens[row, :length]]
        .set(reward[row, :length])
    )
    at = (np.arange(length), np.asarray(tokens[row, :length]))
    expected = conservative_operator(q, reference[row, :length], table, transition, GAMMA)[at]
    found = bellman_target(reward, bootstrap, mask, GAMMA)[row, :length]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    expected = optimality_operator(q, table, transition, GAMMA)[at]
    found = bellman_target(reward, value, mask, GAMMA)[row, :length]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    expected = inverse_operator(q, reference[row, :length], transition, GAMMA)[at]
    q_taken = advantage_of(logits, tokens, alpha) + value
    found = recovered_rewards(q_taken, bootstrap, mask, GAMMA)[row, :length]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@given(seed=st.integers(0, 10_000), gamma=st.floats(0.5, 1.0))
def test_approximate_reward_telescopes(seed, gamma):
    # sum r~ = V(s_0) + sum A + (1 - gamma) sum_{t >= 1} V(s_t), summed here in double precision.
    logits, _, value, tokens, mask = sequences(seed)
    advantage = advantage_of(logits, tokens, 0.2)
    found = jnp.sum(recovered_rewards(advantage + value, value, mask, gamma), axis=-1)
    a, v, m = (np.asarray(x, np.float64) for x in (advantage, value, mask))
    expected = v[:, 0] + (a * m).sum(-1) + (1.0 - gamma) * (v * m)[:, 1:].sum(-1)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_exact_and_approximate_reward_agree_where_the_policy_follows_the_reference():
    logits, _, value, tokens, mask = sequences(11)
    q_taken = advantage_of(logits, tokens, 0.2) + value
    same = advantage_of(logits, greedy_actions(logits), 0.2) + value
    np.testing.assert_allclose(
        recovered_rewards(q_taken, same, mask, GAMMA),
        recovered_rewards(q_taken, value, mask, GAMMA),
    )


def test_exact_reward_at_the_fixed_point_is_the_reward_of_the_tests():
    # Q with Q(s_t, a_t) = r_t + gamma Q(s_{t+1}, a^_{t+1}) implies exactly the tests' rewards.
    _, _, bootstrap, _, mask = sequences(13)
    reward = terminal_rewards(jnp.array([1.0, -0.3, -1.0]), mask)
    q_taken = bellman_target(reward, bootstrap, mask, GAMMA)
    np.testing.assert_allclose(
        recovered_rewards(q_taken, bootstrap, mask, GAMMA), reward, atol=1e-6
    )


def test_padding_may_hold_anything():
    _, _, value, _, mask = sequences(17)
    dirty = jnp.where(mask, value, jnp.nan)
    for function in (
        lambda v: bellman_target(terminal_rewards(v[:, 0], mask), v, mask, GAMMA),
        lambda v: recovered_rewards(v + 1.0, v, mask, GAMMA),
    ):
        clean_out, dirty_out = function(value), function(dirty)
        np.testing.assert_array_equal(np.asarray(clean_out)[mask], np.asarray(dirty_out)[mask])


def test_masks_must_be_boolean():
    with pytest.raises(AssertionError):
        terminal_rewards(jnp.ones(1), jnp.ones((1, 2)))
