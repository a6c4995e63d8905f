"""A language model as a dueling action-value function, on sampled token sequences.

Logits l and a state value V make Q = A + V with A = alpha (l - max l) <= 0, whose Boltzmann policy
at temperature alpha is the language model itself. Arrays are [B, T]: position t holds the token a_t
and what is known in the state s_t before it. `mask` marks the tokens that count, one unbroken run
per row that ends with the last token, an end-of-sequence token or not.
Source: B-Coder (arXiv 2310.03173), equations 7, 16, 19 and appendix G.
"""

import chex
import jax
import jax.numpy as jnp

from hinf_rl.types import Array, Numeric


def dueling_q(logits: Array, value: Array, alpha: Numeric) -> Array:
    """Action values of all tokens, `Q(s, a) = alpha (l(s, a) - max_b l(s, b)) + V(s)`, eq. 16.

    `softmax(Q / alpha) = softmax(l)` for any V. The maximum is differentiated: its gradient
    belongs to the logit that attains it.

    Args:
      logits: [..., V] of the language model.
      value: [...] state value.
      alpha: scalar temperature > 0, in units of the reward per nat.

    Returns:
      [..., V] action values, at most `value`.

    Raises:
      AssertionError: shapes do not belong together.
    """
    chex.assert_shape(value, logits.shape[:-1])
    return alpha * (logits - jnp.max(logits, axis=-1, keepdims=True)) + value[..., None]


def advantage_of(logits: Array, actions: Array, alpha: Numeric) -> Array:
    """Advantage of one token per position, `A(s, a) = alpha (l(s, a) - max_b l(s, b)) <= 0`.

    Args:
      logits: [..., V] of the language model.
      actions: [...] int32 tokens.
      alpha: scalar temperature > 0.

    Returns:
      [...] advantages, what `dueling_q` holds at `actions` less the value.

    Raises:
      AssertionError: shapes do not belong together.
    """
    chex.assert_shape(actions, logits.shape[:-1])
    return alpha * (_at(logits, actions) - jnp.max(logits, axis=-1))


def log_prob_of(logits: Array, actions: Array) -> Array:
    """Log-probability of one token per position.

    Args:
      logits: [..., V] of the language model.
      actions: [...] int32 tokens.

    Returns:
      [...] log softmax(logits) at `actions`.

    Raises:
      AssertionError: shapes do not belong together.
    """
    chex.assert_shape(actions, logits.shape[:-1])
    return _at(jax.nn.log_softmax(logits, axis=-1), actions)


def greedy_actions(logits: Array) -> Array:
    """The reference's own choice, `argmax_b q(b|s)`.

    Args:
      logits: [..., V] of the reference policy.

    Returns:
      [...] int32 tokens.
    """
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def soft_cap(x: Array, max_value: Numeric = 1.0) -> Array:
    """Caps a value from above, `max_value - softabs(x)`; with A <= 0 it caps Q as well.

    softabs(x) = softplus(x) + softplus(-x) - 2 ln 2 >= 0, about |x| far from 0 and 0 at 0, where
    softplus(0) = ln 2. The paper's appendix G prints half the sum *plus* ln 2: that is 2 ln 2 at
    0 and nowhere less, so that a cap of 1 would keep V below -0.386 and out of reach of the
    reward 1 of every correct program. The constant must be subtracted; the factor one half only
    scales the head and is dropped.

    The cap is attained where x = 0 and has no gradient there: a head must not start at 0.

    Args:
      x: [...] unbounded output of a value head.
      max_value: scalar largest return, R_max.

    Returns:
      [...] value, at most `max_value`.
    """
    # softplus(x) + softplus(-x) = |x| + 2 log(1 + exp(-|x|)), without overflow.
    softabs = jax.nn.softplus(x) + jax.nn.softplus(-x) - 2.0 * jnp.log(2.0).astype(x.dtype)
    return max_value - softabs


def completion_mask(tokens: Array, end_token: int) -> Array:
    """Marks the tokens up to the first `end_token`, which counts; all where there is none.

    Args:
      tokens: [B, T] completions.
      end_token: id of the end-of-sequence token.

    Returns:
      [B, T] bool.
    """
    is_end = (tokens == end_token).astype(jnp.int32)
    return jnp.cumsum(is_end, axis=-1) - is_end == 0


def terminal_rewards(outcome: Array, mask: Array) -> Array:
    """Puts the reward of a whole sequence on its last token, eq. 2.

    A sequence that was cut off has no end token: it earns what its judge says (a compile error,
    as a rule) at the last token that there is, and nothing is bootstrapped from behind it.

    Args:
      outcome: [B] reward of each sequence.
      mask: [B, T] bool, the tokens that count.

    Returns:
      [B, T] rewards, 0 everywhere else.

    Raises:
      AssertionError: shapes do not belong together.
    """
    chex.assert_equal_shape_prefix([outcome, mask], 1)
    return jnp.where(mask & ~_goes_on(mask), outcome[:, None], 0.0)


def following(x: Array, mask: Array) -> Array:
    """What belongs to the next state, `x_{t+1}`, and 0 behind the last token.

    Args:
      x: [B, T] something of each state.
      mask: [B, T] bool, the tokens that count.

    Returns:
      [B, T] shifted values.

    Raises:
      AssertionError: shapes differ or the mask is not boolean.
    """
    chex.assert_equal_shape([x, mask])
    shifted = jnp.pad(x[:, 1:], ((0, 0), (0, 1)))
    # Selected, not multiplied: padding may hold anything, NaN included.
    return jnp.where(_goes_on(mask), shifted, 0.0)


def bellman_target(reward: Array, bootstrap: Array, mask: Array, gamma: Numeric) -> Array:
    """Target of one step, `r_t + gamma SG(bootstrap_{t+1})`, with r_T alone at the last token.

    What is bootstrapped from makes the operator: Q(s, a^) with a^ the frozen reference's greedy
    token for B^q (eq. 14), max_b Q(s, b) = V(s) for B* (eq. 13).

    Args:
      reward: [B, T] rewards.
      bootstrap: [B, T] value of each state s_t under the operator's action.
      mask: [B, T] bool, the tokens that count.
      gamma: scalar discount in [0, 1].

    Returns:
      [B, T] targets, constants.

    Raises:
      AssertionError: shapes differ or the mask is not boolean.
    """
    chex.assert_equal_shape([reward, bootstrap, mask])
    return jax.lax.stop_gradient(reward + gamma * following(bootstrap, mask))


def recovered_rewards(q_taken: Array, bootstrap: Array, mask: Array, gamma: Numeric) -> Array:
    """The reward that Q implies for each token, `r~_t = Q(s_t, a_t) - gamma bootstrap_{t+1}`.

    With bootstrap = Q(s, a^) this is T^q Q, exactly (eq. 18); with bootstrap = V(s) it is the
    approximation of eq. 19, which does not run the reference. Summed over a program, the
    approximate one telescopes:
      sum_t r~_t = V(s_0) + sum_t A(s_t, a_t) + (1 - gamma) sum_{t >= 1} V(s_t).

    Args:
      q_taken: [B, T] action value of the token that was taken.
      bootstrap: [B, T] value of each state.
      mask: [B, T] bool, the tokens that count.
      gamma: scalar discount in [0, 1].

    Returns:
      [B, T] rewards, 0 outside the mask.

    Raises:
      AssertionError: shapes differ or the mask is not boolean.
    """
    chex.assert_equal_shape([q_taken, bootstrap, mask])
    return jnp.where(mask, q_taken - gamma * following(bootstrap, mask), 0.0)


def _at(x: Array, actions: Array) -> Array:
    return jnp.take_along_axis(x, actions[..., None], axis=-1)[..., 0]


def _goes_on(mask: Array) -> Array:
    """[B, T] whether another token that counts follows."""
    chex.assert_rank(mask, 2)
    chex.assert_type(mask, bool)
    return mask & jnp.pad(mask[:, 1:], ((0, 0), (0, 1)))


__all__ = [
    "advantage_of",
    "bellman_target",
    "completion_mask",
    "dueling_q",
    "following",
    "greedy_actions",
    "log_prob_of",
    "recovered_rewards",
    "soft_cap",
    "terminal_rewards",
]
