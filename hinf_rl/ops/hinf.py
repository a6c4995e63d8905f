"""The H-infinity constraint: cost, intensity, their bound, its multiplier, both players' gains.

The disturber is paid in cost C, the shortfall of the task reward, and pays eta per unit of
intensity I. The constraint E[C] - Cbar <= eta E[I] asks that disturbances cost no more than
that; its multiplier says how much of the actor's attention goes to the task.
Source: H-infinity locomotion paper (arXiv 2404.14405), framework figure, for cost, the signs of
the two gradients and of the dual step; normalisation and Cbar are ours.
"""

import chex
import jax
import jax.numpy as jnp

from hinf_rl.ops.surrogate import masked_mean, normalize_advantage
from hinf_rl.types import Array, Numeric


def task_cost(
    task_reward: Array, task_reward_max: Numeric, *, task_reward_scale: Numeric = 1.0
) -> Array:
    """Cost C = (r_max - r_task) / scale; positive = bad for the actor.

    Args:
      task_reward: [...] task reward of one step.
      task_reward_max: scalar, the largest attainable one.
      task_reward_scale: scalar that takes the unit away, > 0; r_max for rewards in [0, r_max].

    Returns:
      [...] cost, >= 0 as long as `task_reward_max` really is the largest.
    """
    return (task_reward_max - task_reward) / task_reward_scale


def disturbance_intensity(disturbance: Array, reference: Numeric, power: Numeric) -> Array:
    """Intensity I = (|d| / reference)^power.

    Args:
      disturbance: [..., D] disturbance that was executed, after clipping, in its own unit.
      reference: scalar norm of intensity 1, in the same unit, > 0.
      power: scalar > 0; 1 bounds the cost by the force, 2 is the energy of linear theory.

    Returns:
      [...] intensity, unitless. Its gradient at d = 0 is 0, the middle of the subgradients.
    """
    squared = jnp.sum((disturbance / reference) ** 2, axis=-1)
    moved = squared > 0.0
    return jnp.where(moved, jnp.where(moved, squared, 1.0) ** (0.5 * power), 0.0)


def nominal_cost_ema(
    nominal_cost: Array, cost: Array, is_undisturbed: Array, valid: Array, decay: Numeric
) -> Array:
    """Running mean Cbar of the cost that is there without any disturbance.

    Cbar <- decay Cbar + (1 - decay) mean of C over valid, undisturbed samples.

    Args:
      nominal_cost: [] Cbar so far, in the unit of `cost`.
      cost: [T, E] or [B] cost.
      is_undisturbed: as `cost`, or its trailing axes ([E]), bool.
      valid: the same, bool.
      decay: scalar in [0, 1).

    Returns:
      [] next Cbar, unchanged where nobody is undisturbed.
    """
    mask = jnp.broadcast_to(is_undisturbed, cost.shape) & jnp.broadcast_to(valid, cost.shape)
    moved = decay * nominal_cost + (1.0 - decay) * masked_mean(cost, mask)
    return jnp.where(jnp.any(mask), moved, nominal_cost)


def hinf_constraint(
    cost: Array, intensity: Array, nominal_cost: Numeric, eta: Numeric, mask: Array
) -> Array:
    """Slack of the constraint, G = eta mean(I) - (mean(C) - Cbar); positive = satisfied.

    It is measured, not a surrogate: with normalised advantages a surrogate is about 0 at ratio
    1 and would leave the multiplier where it is.

    Args:
      cost: [...] unitless cost.
      intensity: [...] intensity of what was executed.
      nominal_cost: [] Cbar, in the unit of `cost`; without it the cost of standing idle would
        be charged to a weak disturber and the multiplier would run to its bound.
      eta: scalar, extra cost that is tolerated per intensity, > 0.
      mask: [...] bool, valid and disturbed samples.

    Returns:
      [] slack, 0 where nobody is disturbed.

    Raises:
      AssertionError: shapes differ or the mask is not boolean.
    """
    chex.assert_equal_shape([cost, intensity, mask])
    extra_cost = masked_mean(cost, mask) - nominal_cost
    slack = eta * masked_mean(intensity, mask) - extra_cost
    return jnp.where(jnp.any(mask), slack, 0.0)


def dual_update(multiplier: Array, slack: Array, *, lr: Numeric, max_multiplier: Numeric) -> Array:
    """Dual gradient step, lambda <- clip(lambda - lr G, 0, max); it falls while G > 0.

    Args:
      multiplier: [] lambda.
      slack: [] G of `hinf_constraint`.
      lr: scalar step size.
      max_multiplier: scalar bound.

    Returns:
      [] next lambda. No gradient flows into either argument.
    """
    stepped = multiplier - lr * slack
    return jax.lax.stop_gradient(jnp.clip(stepped, 0.0, max_multiplier))


def actor_advantage(
    advantage: Array,
    task_advantage: Array,
    multiplier: Numeric,
    mask: Array,
    *,
    normalize: bool = True,
) -> Array:
    """The actor's advantage, (A + lambda A_task) / (1 + lambda).

    Divided by 1 + lambda so that a large multiplier turns the direction, not the step. The
    actor is not paid for intensity: that would make it invite disturbances.

    Args:
      advantage: [...] A of the whole reward.
      task_advantage: [...] A of the task reward.
      multiplier: [] lambda >= 0.
      mask: [...] bool, valid samples.
      normalize: whether each advantage is brought to deviation 1 over the mask first; if not,
        both must be in the same unit.

    Returns:
      [...] advantage, 0 outside the mask.

    Raises:
      AssertionError: shapes differ or the mask is not boolean.
    """
    chex.assert_equal_shape([advantage, task_advantage, mask])
    if normalize:
        advantage = normalize_advantage(advantage, mask)
        task_advantage = normalize_advantage(task_advantage, mask)
    mixed = (advantage + multiplier * task_advantage) / (1.0 + multiplier)
    return jnp.where(mask, mixed, 0.0)


def centred_intensity(intensity: Array, mask: Array) -> Array:
    """One-step advantage of the intensity, A_I = I - mean(I) over the mask.

    The alternative is a third head of `multi_head_gae` on I.

    Args:
      intensity: [...] intensity.
      mask: [...] bool, valid and disturbed samples.

    Returns:
      [...] advantage, 0 outside the mask.
    """
    return jnp.where(mask, intensity - masked_mean(intensity, mask), 0.0)


def disturber_advantage(
    task_advantage: Array,
    intensity_advantage: Array,
    eta: Numeric,
    task_reward_scale: Numeric,
    mask: Array,
    *,
    normalize: bool = True,
) -> Array:
    """The disturber's advantage, A_d = -A_task / scale - eta A_I.

    The cost's advantage is -A_task: a fall forfeits all later task reward, so it is worth
    having, as it would not be if the cost were summed up to the fall.

    Args:
      task_advantage: [...] A of the task reward.
      intensity_advantage: [...] A of the intensity.
      eta: scalar price of intensity.
      task_reward_scale: scalar that makes the cost unitless, as in `task_cost`.
      mask: [...] bool, valid and disturbed samples.
      normalize: whether the result is brought to mean 0 and deviation 1 over the mask.

    Returns:
      [...] advantage, 0 outside the mask.

    Raises:
      AssertionError: shapes differ or the mask is not boolean.
    """
    chex.assert_equal_shape([task_advantage, intensity_advantage, mask])
    gain = -task_advantage / task_reward_scale - eta * intensity_advantage
    return normalize_advantage(gain, mask) if normalize else jnp.where(mask, gain, 0.0)


def radial_clip(x: Array, max_norm: Numeric) -> Array:
    """Shortens vectors to `max_norm`, keeping their direction: x min(1, max_norm / |x|).

    It makes the executed disturbance; the log-density is that of the sample before it.

    Args:
      x: [..., D] vectors.
      max_norm: scalar or [...] bound in the unit of `x`, >= 0; may be infinite.

    Returns:
      [..., D] vectors of norm at most `max_norm`, with finite gradients everywhere.
    """
    squared = jnp.sum(x**2, axis=-1)
    bound = jnp.broadcast_to(jnp.asarray(max_norm, x.dtype), squared.shape)
    is_long = squared > bound**2
    norm = jnp.sqrt(jnp.where(is_long, squared, 1.0))
    scale = jnp.where(is_long, jnp.where(is_long, bound, 1.0) / norm, 1.0)
    return x * scale[..., None]


def force_schedule(progress: Numeric, warmup: Numeric, ramp: Numeric, limit: Numeric) -> Array:
    """Bound on the disturbance at this point of training: 0, then a line up to `limit`.

    Args:
      progress: [] share of the iterations that is done, in [0, 1].
      warmup: scalar share in which the actor trains alone.
      ramp: scalar share over which the bound grows; 0 = at once.
      limit: scalar full bound, in the disturbance's unit; may be infinite, which cannot grow
        and holds from the end of the warm-up.

    Returns:
      [] float32 bound.
    """
    since = jnp.asarray(progress, jnp.float32) - warmup
    ramp = jnp.asarray(ramp, jnp.float32)
    rising = jnp.clip(since / jnp.where(ramp > 0.0, ramp, 1.0), 0.0, 1.0)
    fraction = jnp.where(ramp > 0.0, rising, jnp.where(since >= 0.0, 1.0, 0.0))
    return jnp.where(fraction > 0.0, fraction * limit, 0.0).astype(jnp.float32)


__all__ = [
    "actor_advantage",
    "centred_intensity",
    "disturbance_intensity",
    "disturber_advantage",
    "dual_update",
    "force_schedule",
    "hinf_constraint",
    "nominal_cost_ema",
    "radial_clip",
    "task_cost",
]
