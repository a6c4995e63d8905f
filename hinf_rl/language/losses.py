"""Quantities per token and per sequence; logits here are aligned with the tokens they predict.

Reductions are the caller's, by name: the sum over a sequence (`sequence_log_prob`, as preference
losses want it), its mean (`sequence_mean`), or the mean over all tokens of a batch
(`hinf_rl.ops.surrogate.masked_mean`).
"""

import chex
import jax
import jax.numpy as jnp

from hinf_rl.types import Array


def token_log_probs(logits: Array, tokens: Array) -> Array:
    """Log-probability of each token, log softmax(logits)[token].

    Args:
      logits: [..., V] of the distribution that the token comes from, not of the next one.
      tokens: [...] int32.

    Returns:
      [...] float32, at most 0.
    """
    chex.assert_equal_shape_prefix([logits, tokens], tokens.ndim)
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    return jnp.take_along_axis(log_probs, tokens[..., None], axis=-1)[..., 0]


def token_cross_entropy(logits: Array, tokens: Array) -> Array:
    """Loss of each token, -log softmax(logits)[token].

    Args:
      logits: [..., V].
      tokens: [...] int32.

    Returns:
      [...] float32 in nats; padding is not left out.
    """
    return -token_log_probs(logits, tokens)


def token_entropy(logits: Array) -> Array:
    """Entropy of each token's distribution, -sum p log p.

    Args:
      logits: [..., V]; -inf marks a token that cannot come.

    Returns:
      [...] float32 in nats.
    """
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    possible = jnp.isfinite(log_probs)
    safe = jnp.where(possible, log_probs, 0.0)  # 0 log 0 = 0, in the gradient too
    return -jnp.sum(jnp.where(possible, jnp.exp(safe) * safe, 0.0), axis=-1)


def sequence_log_prob(log_probs: Array, mask: Array) -> Array:
    """Log-probability of each sequence, the sum over its tokens, without length normalisation.

    Args:
      log_probs: [B, N] per token; those outside the mask may be anything.
      mask: [B, N] bool.

    Returns:
      [B] in nats; 0 for an empty sequence.
    """
    chex.assert_rank([log_probs, mask], 2)
    chex.assert_equal_shape([log_probs, mask])
    return jnp.sum(jnp.where(mask, log_probs, 0.0), axis=-1)


def sequence_mean(x: Array, mask: Array) -> Array:
    """Mean of each sequence over its tokens; 0 for an empty one.

    Args:
      x: [B, N] per token; those outside the mask may be anything.
      mask: [B, N] bool.

    Returns:
      [B].
    """
    count = jnp.sum(mask, axis=-1, dtype=jnp.float32)
    return sequence_log_prob(x, mask) / jnp.maximum(count, 1.0)


__all__ = [
    "sequence_log_prob",
    "sequence_mean",
    "token_cross_entropy",
    "token_entropy",
    "token_log_probs",
]
