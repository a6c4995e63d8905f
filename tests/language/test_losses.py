"""Token quantities against SciPy and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import log_softmax

from hinf_rl.language.losses import (
    sequence_log_prob,
    sequence_mean,
    token_cross_entropy,
    token_entropy,
    token_log_probs,
)

LOGITS = np.random.default_rng(0).normal(0.0, 3.0, (2, 3, 5)).astype(np.float32)
TOKENS = np.array([[0, 4, 2], [3, 3, 1]], np.int32)


def test_log_probs_and_entropy_are_scipys():
    exact = log_softmax(LOGITS.astype(np.float64), axis=-1)
    taken = np.take_along_axis(exact, TOKENS[..., None], -1)[..., 0]
    np.testing.assert_allclose(token_log_probs(LOGITS, TOKENS), taken, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(token_cross_entropy(LOGITS, TOKENS), -taken, rtol=1e-5, atol=1e-6)
    entropy = -(np.exp(exact) * exact).sum(-1)
    np.testing.assert_allclose(token_entropy(LOGITS), entropy, rtol=1e-5)


def test_the_slope_of_cross_entropy_is_probability_less_one_hot():
    slope = jax.grad(lambda x: jnp.sum(token_cross_entropy(x, TOKENS)))(jnp.asarray(LOGITS))
    expected = np.exp(log_softmax(LOGITS, axis=-1)) - np.eye(5)[TOKENS]
    np.testing.assert_allclose(slope, expected, atol=1e-6)


def test_half_precision_logits_are_scored_in_float32():
    found = token_log_probs(jnp.asarray(LOGITS, jnp.bfloat16), TOKENS)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, token_log_probs(LOGITS, TOKENS), atol=0.1)


def test_entropy_of_a_cut_distribution():
    # Two tokens of equal weight, the third cannot come: log 2, and a finite slope.
    logits = jnp.array([1.0, 1.0, -jnp.inf])
    np.testing.assert_allclose(token_entropy(logits), np.log(2.0), rtol=1e-6)
    assert np.isfinite(jax.grad(token_entropy)(logits)).all()


def test_sequences_sum_and_average_their_own_tokens_only():
    x = jnp.array([[1.0, 2.0, jnp.nan], [5.0, jnp.inf, 7.0], [1.0, 1.0, 1.0]])
    mask = jnp.array([[True, True, False], [True, False, False], [False, False, False]])
    np.testing.assert_array_equal(sequence_log_prob(x, mask), [3.0, 5.0, 0.0])
    np.testing.assert_array_equal(sequence_mean(x, mask), [1.5, 5.0, 0.0])
