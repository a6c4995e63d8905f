"""Reward differences predicted by log-ratios: the losses of PRDP, and what they can reach.

The optimum of E[r] - beta KL(pi | ref) over trajectories obeys
log pi/ref (a) - log pi/ref (b) = (r(a) - r(b)) / beta for any two trajectories a, b of the same
context: the partition function cancels. Source: Deng et al. 2024 (PRDP), eq. 8 to 10.
"""

import functools
from typing import Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp

from hinf_rl.types import Array, Numeric

StepReduce = Literal["sum", "mean"]
"""How the steps of a trajectory become one number."""


class RewardDifference(NamedTuple):
    """Loss of one group, and how it stands.

    Attributes:
      loss: [] mean over the pairs that count; 0 where there is none.
      num_pairs: [] pairs that count.
      clipped: [] share of their pair losses that the clipped prediction decides.
      explained: [] 1 - |prediction - target|^2 / |target|^2 over the pairs: 0 where nothing was
        learned, 1 at the optimum.
    """

    loss: Array
    num_pairs: Array
    clipped: Array
    explained: Array


def reward_difference_loss(
    log_prob: Array,
    old_log_prob: Array,
    reference_log_prob: Array,
    reward: Array,
    *,
    beta: Numeric,
    clip_eps: Numeric = float("inf"),
    step_reduce: StepReduce = "sum",
    include_ties: bool = True,
    mask: Array | None = None,
) -> RewardDifference:
    """Squared error of predicted reward differences, pessimistic about steps beyond the clip.

    With h = sum_t log pi/ref, and hc the same with each step's log pi/old cut to +-clip_eps
    before the sum, a pair costs max(((h_i - h_j) - d)^2, ((hc_i - hc_j) - d)^2),
    d = (r_i - r_j) / beta. Source: Deng et al. 2024, eq. 16 to 21 and algorithm 1. Their printed
    code takes the mean over steps and drops ties instead: both are options.

    beta, clip_eps and the reductions belong together: with log-probabilities that are means over
    D numbers and T steps, beta stands for beta / (T D).

    Args:
      log_prob: [B, T] of each step, under the policy that learns.
      old_log_prob: [B, T] under the policy at the last collection, a constant.
      reference_log_prob: [B, T] under the reference, a constant.
      reward: [B] of the trajectories, all of one context, a constant.
      beta: price of KL, in units of the reward, > 0.
      clip_eps: largest trusted change of a step's log-probability; inf trusts all.
      step_reduce: "sum" over steps (a log-ratio), or their "mean".
      include_ties: whether pairs of equal reward count, with target 0.
      mask: [B] bool, trajectories that count; the others may hold anything. None for all.

    Returns:
      The loss of the group, [] leaves. Gradients flow into `log_prob` alone.

    Raises:
      AssertionError: shapes differ.
    """
    chex.assert_rank([log_prob, reward], [2, 1])
    chex.assert_equal_shape([log_prob, old_log_prob, reference_log_prob])
    chex.assert_equal_shape_prefix([log_prob, reward], 1)
    mask = jnp.ones(reward.shape, bool) if mask is None else mask
    old, reference, reward = jax.lax.stop_gradient(
        (old_log_prob, reference_log_prob, jnp.where(mask, reward, 0.0))
    )
    step = log_prob - old
    known = old - reference
    near = jnp.clip(step, -clip_eps, clip_eps)
    # What is masked must not reach a product: 0 * NaN is NaN, in gradients too.
    sums = [jnp.where(mask[:, None], change + known, 0.0).sum(axis=-1) for change in (step, near)]
    scale = 1.0 if step_reduce == "sum" else 1.0 / log_prob.shape[-1]
    prediction, cautious = (_differences(scale * value) for value in sums)
    difference = _differences(reward)
    counts = _pairs(mask) & (include_ties | (difference != 0.0))
    target = difference / beta
    error, cautious_error = (prediction - target) ** 2, (cautious - target) ** 2
    number = jnp.sum(counts, dtype=jnp.float32)
    scale_of_targets = _sum_over(counts, target**2)
    explained = 1.0 - _sum_over(counts, error) / jnp.where(
        scale_of_targets > 0.0, scale_of_targets, 1.0
    )
    return RewardDifference(
        loss=_mean_over(counts, jnp.maximum(error, cautious_error)),
        num_pairs=number,
        clipped=_mean_over(counts, (cautious_error > error).astype(jnp.float32)),
        explained=jnp.where(scale_of_targets > 0.0, explained, 0.0),
    )


def reward_difference_weights(
    log_prob: Array,
    old_log_prob: Array,
    reference_log_prob: Array,
    reward: Array,
    *,
    beta: Numeric,
    clip_eps: Numeric = float("inf"),
    step_reduce: StepReduce = "sum",
    include_ties: bool = True,
    mask: Array | None = None,
) -> Array:
    """Derivative of the loss by each step's log-probability: the weights of the second pass.

    The gradient of the loss is sum_it weight_it d log_prob_it, so that it can be gathered
    step by step without keeping all activations. At pi = old = ref it is that of REINFORCE with
    the group's mean as baseline: -(4 / (beta (B - 1))) (r_i - mean r) for each step.

    Args:
      log_prob: as of `reward_difference_loss`.
      old_log_prob: likewise.
      reference_log_prob: likewise.
      reward: likewise.
      beta: likewise.
      clip_eps: likewise.
      step_reduce: likewise.
      include_ties: likewise.
      mask: likewise.

    Returns:
      [B, T] weights.
    """
    loss = functools.partial(
        reward_difference_loss,
        old_log_prob=old_log_prob,
        reference_log_prob=reference_log_prob,
        reward=reward,
        beta=beta,
        clip_eps=clip_eps,
        step_reduce=step_reduce,
        include_ties=include_ties,
        mask=mask,
    )
    return jax.grad(lambda x: loss(x).loss)(log_prob)


def stepwise_difference_loss(
    log_prob: Array,
    old_log_prob: Array,
    advantage: Array,
    *,
    clip_eps: Numeric = float("inf"),
    decay: float = 0.99,
    mask: Array | None = None,
) -> Array:
    """Reward differences predicted step by step: no sum over the trajectory, no KL anchor.

    Mean over pairs and steps of the larger, clipped or not, of
    (decay^t (l_i,t - l_j,t) - (A_i,t - A_j,t))^2 with l = log pi/old.
    Source: Zhang et al. 2024 (SDPO, arXiv 2411.11727), whose pairs share their first noise; here
    they need not.

    Args:
      log_prob: [B, T] under the policy that learns.
      old_log_prob: [B, T] under the policy at the last collection, a constant.
      advantage: [B, T] per step, normalised within its group, a constant.
      clip_eps: largest trusted change of a step's log-probability.
      decay: weight of each later step against the one before, in (0, 1].
      mask: [B] bool, trajectories that count; None for all.

    Returns:
      [] loss, 0 where no pair counts.

    Raises:
      AssertionError: shapes differ.
    """
    chex.assert_equal_shape([log_prob, old_log_prob, advantage])
    rows, steps = log_prob.shape
    mask = jnp.ones((rows,), bool) if mask is None else mask
    old, advantage = jax.lax.stop_gradient((old_log_prob, advantage))
    change = jnp.where(mask[:, None], log_prob - old, 0.0)
    weight = decay ** jnp.arange(steps, dtype=jnp.float32)
    target = jax.vmap(_differences, in_axes=1)(jnp.where(mask[:, None], advantage, 0.0))

    def error(value: Array) -> Array:
        return (jax.vmap(_differences, in_axes=1)(value * weight[None, :]) - target) ** 2

    larger = jnp.maximum(error(change), error(jnp.clip(change, -clip_eps, clip_eps)))
    return _mean_over(_pairs(mask), jnp.mean(larger, axis=0))


def weighted_rewards(rewards: Array, weights: Array) -> Array:
    """Weighted sum of several rewards, taken before any loss; weights carry the units.

    Args:
      rewards: [..., R].
      weights: [R].

    Returns:
      [...].

    Raises:
      AssertionError: there are not as many weights as rewards.
    """
    chex.assert_shape(weights, rewards.shape[-1:])
    return rewards @ weights


class TiltedOracle(NamedTuple):
    """What E[r] - beta KL can reach from a reference, averaged over contexts.

    Attributes:
      reward: [] E[r] of the maximiser.
      objective: [] its E[r] - beta KL: no policy exceeds it.
      kl: [] its KL from the reference.
      sample_size: [C] effective number of samples behind each context's estimate.
    """

    reward: Array
    objective: Array
    kl: Array
    sample_size: Array


def tilted_oracle(reward: Array, *, beta: Numeric) -> TiltedOracle:
    """Estimates the optimum from rewards of the reference policy.

    The maximiser is ref exp(r / beta) / Z, with objective beta log E_ref[exp(r / beta)], context
    by context. Pooling contexts in one softmax would weight them by Z.
    Source: Deng et al. 2024, lemma A.2.

    Args:
      reward: [C, S] of S samples of the reference for each context.
      beta: price of KL, > 0.
    """
    chex.assert_rank(reward, 2)
    scaled = reward / beta
    log_weight = jax.nn.log_softmax(scaled, axis=1)
    weight = jnp.exp(log_weight)
    tilted = jnp.sum(weight * reward, axis=1)
    log_mean = jax.nn.logsumexp(scaled, axis=1) - jnp.log(jnp.float32(reward.shape[1]))
    objective = beta * log_mean
    return TiltedOracle(
        reward=jnp.mean(tilted),
        objective=jnp.mean(objective),
        kl=jnp.mean((tilted - objective) / beta),
        sample_size=1.0 / jnp.sum(weight**2, axis=1),
    )


def _differences(x: Array) -> Array:
    """[B, B] x_i - x_j."""
    return x[:, None] - x[None, :]


def _pairs(mask: Array) -> Array:
    """[B, B] bool, each unordered pair of masked rows once."""
    once = jnp.triu(jnp.ones((mask.shape[0],) * 2, bool), k=1)
    return once & mask[:, None] & mask[None, :]


def _sum_over(counts: Array, x: Array) -> Array:
    return jnp.sum(jnp.where(counts, x, 0.0))


def _mean_over(counts: Array, x: Array) -> Array:
    return _sum_over(counts, x) / jnp.maximum(jnp.sum(counts, dtype=jnp.float32), 1.0)


__all__ = [
    "RewardDifference",
    "StepReduce",
    "TiltedOracle",
    "reward_difference_loss",
    "reward_difference_weights",
    "stepwise_difference_loss",
    "tilted_oracle",
    "weighted_rewards",
]
