"""Bellman operators on finite decision processes, dense arrays; the oracle of the sampled ones.

Q is [S, A], the expected reward [S, A], the transition [S, A, S]. A row of the transition may sum
to less than 1: the rest is the chance that the episode ends, after which nothing is earned.
Source: B-Coder (arXiv 2310.03173), equations 13, 14, 18, propositions 4.1 and 4.2.
"""

import chex
import jax.numpy as jnp

from hinf_rl.types import Array, Numeric


def optimality_operator(q: Array, reward: Array, transition: Array, gamma: Numeric) -> Array:
    """Bellman optimality operator, `(B* Q)(s, a) = r(s, a) + gamma E max_b Q(s', b)`, eq. 13.

    Args:
      q: [S, A] action values.
      reward: [S, A] expected reward.
      transition: [S, A, S] chance of each next state.
      gamma: scalar discount in [0, 1).

    Returns:
      [S, A] its image. A gamma-contraction in the sup-norm.

    Raises:
      AssertionError: shapes do not belong together.
    """
    _check(q, transition, reward)
    return reward + gamma * jnp.einsum("saz,z->sa", transition, jnp.max(q, axis=-1))


def conservative_operator(
    q: Array, reference: Array, reward: Array, transition: Array, gamma: Numeric
) -> Array:
    """Conservative operator, `(B^q Q)(s, a) = r(s, a) + gamma E Q(s', argmax_b q(b|s'))`, eq. 14.

    The next action is the greedy one of a fixed reference policy q, whatever Q says: for two
    Q's it is the same, so their images differ by at most gamma times what they differ by
    (prop. 4.1). The fixed point is the value of following q greedily; acting on it is one step
    of policy improvement over q, and no maximum is taken over actions that no data cover.

    Args:
      q: [S, A] action values.
      reference: [S, A] probabilities, or logits, of the reference policy.
      reward: [S, A] expected reward.
      transition: [S, A, S] chance of each next state.
      gamma: scalar discount in [0, 1).

    Returns:
      [S, A] its image.

    Raises:
      AssertionError: shapes do not belong together.
    """
    _check(q, transition, reward, reference)
    return reward + gamma * _reference_value(q, reference, transition)


def inverse_operator(q: Array, reference: Array, transition: Array, gamma: Numeric) -> Array:
    """The reward that makes Q the fixed point of B^q, eq. 18.

    `(T^q Q)(s, a) = Q(s, a) - gamma E Q(s', argmax_b q(b|s'))`. For each reward B^q has exactly
    one fixed point, and T^q gives the reward back: a bijection (prop. 4.2).

    Args:
      q: [S, A] action values.
      reference: [S, A] probabilities, or logits, of the reference policy.
      transition: [S, A, S] chance of each next state.
      gamma: scalar discount in [0, 1).

    Returns:
      [S, A] reward.

    Raises:
      AssertionError: shapes do not belong together.
    """
    _check(q, transition, reference)
    return q - gamma * _reference_value(q, reference, transition)


def _reference_value(q: Array, reference: Array, transition: Array) -> Array:
    """[S, A] expected value of the next state when the reference acts there greedily."""
    greedy = jnp.argmax(reference, axis=-1)
    value = jnp.take_along_axis(q, greedy[:, None], axis=-1)[:, 0]
    return jnp.einsum("saz,z->sa", transition, value)


def _check(q: Array, transition: Array, *like_q: Array) -> None:
    chex.assert_rank([q, transition], [2, 3])
    chex.assert_equal_shape([q, *like_q])
    chex.assert_shape(transition, (*q.shape, q.shape[0]))


__all__ = ["conservative_operator", "inverse_operator", "optimality_operator"]
