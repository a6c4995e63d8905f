"""Losses of B-Coder, one value per token; the caller takes the mean over the mask.

Source: B-Coder (arXiv 2310.03173), equations 1, 8, 12, 15 and 17. The paper divides L_Q by the
length and sums L_adv and L_ce over the tokens; means over tokens are taken of all three here, so
that their weights do not depend on the length.
"""

from typing import NamedTuple

import chex
import jax

from hinf_rl.ops.bellman_tokens import advantage_of, bellman_target, log_prob_of
from hinf_rl.ops.surrogate import masked_mean
from hinf_rl.types import Array, Numeric


def value_loss(
    reference_advantage: Array, value: Array, reward: Array, mask: Array, gamma: Numeric
) -> Array:
    """Squared Bellman error of the frozen model's advantages and a value that learns, eq. 12.

    `L_V = [r_t + gamma SG(V(s_{t+1})) - A_ref(s_t, a_t) - V(s_t)]^2`: the reference's own choice
    has advantage 0 under its own logits, so that the bootstrap is the value alone.

    Args:
      reference_advantage: [B, T] of the tokens taken, from the frozen model's logits.
      value: [B, T] value that learns.
      reward: [B, T] rewards.
      mask: [B, T] bool, the tokens that count.
      gamma: scalar discount.

    Returns:
      [B, T] loss. No gradient flows into the advantages or the bootstrap.

    Raises:
      AssertionError: shapes differ or the mask is not boolean.
    """
    chex.assert_equal_shape([reference_advantage, value, reward, mask])
    target = bellman_target(reward, value, mask, gamma)
    return (target - jax.lax.stop_gradient(reference_advantage) - value) ** 2


def q_loss(q_taken: Array, bootstrap: Array, reward: Array, mask: Array, gamma: Numeric) -> Array:
    """Squared Bellman error, `L_Q = [r_t + gamma SG(bootstrap_{t+1}) - Q(s_t, a_t)]^2`, eq. 15.

    Args:
      q_taken: [B, T] action value of the token that was taken.
      bootstrap: [B, T] Q(s, a^) for the conservative operator, V(s) for the optimality operator.
      reward: [B, T] rewards.
      mask: [B, T] bool, the tokens that count.
      gamma: scalar discount.

    Returns:
      [B, T] loss. No gradient flows into the bootstrap.

    Raises:
      AssertionError: shapes differ or the mask is not boolean.
    """
    chex.assert_equal_shape([q_taken, bootstrap, reward, mask])
    return (bellman_target(reward, bootstrap, mask, gamma) - q_taken) ** 2


def advantage_loss(logits: Array, actions: Array, alpha: Numeric) -> Array:
    """How far a human's tokens are from being the model's choice, `L_adv = |A(s, a*)|`, eq. 8.

    A <= 0, so that |A| = alpha (max_b l - l(a*)): a perceptron's loss without margin. It is 0,
    and so is its gradient, where the human's token is the model's choice.

    Args:
      logits: [B, T, V] of the model that learns.
      actions: [B, T] tokens of programs known to be right.
      alpha: scalar temperature.

    Returns:
      [B, T] loss >= 0.
    """
    return -advantage_of(logits, actions, alpha)


def cross_entropy_loss(logits: Array, actions: Array) -> Array:
    """Negative log-likelihood of a human's tokens, eq. 1.

    Args:
      logits: [B, T, V] of the model that learns.
      actions: [B, T] tokens of programs known to be right.

    Returns:
      [B, T] loss >= 0.
    """
    return -log_prob_of(logits, actions)


class FineTuningLosses(NamedTuple):
    """The parts of L_ft, each a mean over its tokens.

    Attributes:
      q: L_Q, over all tokens.
      advantage: L_adv, over the tokens of human programs.
      cross_entropy: L_ce, over the tokens of human programs.
    """

    q: Array
    advantage: Array
    cross_entropy: Array


def fine_tuning_losses(
    logits: Array,
    value: Array,
    actions: Array,
    bootstrap: Array,
    reward: Array,
    mask: Array,
    is_human: Array,
    *,
    alpha: Numeric,
    gamma: Numeric,
) -> FineTuningLosses:
    """The three losses of the second stage, eq. 17 before they are weighted and added.

    Args:
      logits: [B, T, V] of the model that learns.
      value: [B, T] its state value, residual and frozen part together.
      actions: [B, T] tokens that were taken.
      bootstrap: [B, T] value of each state under the operator's action.
      reward: [B, T] rewards.
      mask: [B, T] bool, the tokens that count.
      is_human: [B] bool, rows that are programs known to be right.
      alpha: scalar temperature.
      gamma: scalar discount.

    Returns:
      [] losses; those of human programs are 0 where the batch has none.

    Raises:
      AssertionError: shapes do not belong together.
    """
    q_taken = advantage_of(logits, actions, alpha) + value
    human = mask & is_human[:, None]
    return FineTuningLosses(
        q=masked_mean(q_loss(q_taken, bootstrap, reward, mask, gamma), mask),
        advantage=masked_mean(advantage_loss(logits, actions, alpha), human),
        cross_entropy=masked_mean(cross_entropy_loss(logits, actions), human),
    )


def policy_gradient_loss(log_prob: Array, outcome: Array, baseline: Array) -> Array:
    """REINFORCE with a baseline, `-(R - b) log pi(a_t | s_t)` of every token.

    Source: Williams 1992.

    Args:
      log_prob: [B, T] log-probability of the tokens under the policy that learns and sampled.
      outcome: [B] return of the whole sequence.
      baseline: [B] what was to be expected, independent of this sequence's tokens.

    Returns:
      [B, T] loss; no gradient flows into outcome or baseline.

    Raises:
      AssertionError: shapes do not belong together.
    """
    chex.assert_equal_shape([outcome, baseline])
    chex.assert_equal_shape_prefix([log_prob, outcome], 1)
    return -jax.lax.stop_gradient(outcome - baseline)[:, None] * log_prob


__all__ = [
    "FineTuningLosses",
    "advantage_loss",
    "cross_entropy_loss",
    "fine_tuning_losses",
    "policy_gradient_loss",
    "q_loss",
    "value_loss",
]
