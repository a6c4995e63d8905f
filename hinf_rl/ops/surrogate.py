"""Proximal policy optimisation: per-sample losses, masked moments, adaptive step size."""

import chex
import jax.numpy as jnp

from hinf_rl.types import Array, Numeric

# exp(20) = 5e8: no useful ratio lies beyond, and the loss of a lone outlier stays finite.
_MAX_LOG_RATIO = 20.0


def clipped_surrogate(
    log_prob: Array, old_log_prob: Array, advantage: Array, *, clip_ratio: Numeric
) -> Array:
    """Negative clipped objective of PPO, which either player minimises with its own advantage.

    loss = -min(rho A, clip(rho, 1 - e, 1 + e) A), rho = exp(log_prob - old_log_prob)
    Source: Schulman et al. 2017, eq. 7. |log rho| is cut at 20, beyond which no gradient flows.

    Args:
      log_prob: [...] log-probability under the policy that learns.
      old_log_prob: [...] log-probability under the policy that acted, a constant.
      advantage: [...] advantage of the same samples, a constant.
      clip_ratio: scalar e > 0.

    Returns:
      [...] loss. At ratio 1 it equals -A and its gradient -A d log_prob.

    Raises:
      AssertionError: shapes differ.
    """
    chex.assert_equal_shape([log_prob, old_log_prob, advantage])
    log_ratio = jnp.clip(log_prob - old_log_prob, -_MAX_LOG_RATIO, _MAX_LOG_RATIO)
    ratio = jnp.exp(log_ratio)
    clipped = jnp.clip(ratio, 1.0 - clip_ratio, 1.0 + clip_ratio)
    return -jnp.minimum(ratio * advantage, clipped * advantage)


def clipped_value_loss(
    value: Array, old_value: Array, target: Array, *, clip_value: Numeric | None
) -> Array:
    """Squared value error, pessimistic about steps longer than `clip_value`.

    loss = 0.5 max((v - R)^2, (v_old + clip(v - v_old, -c, c) - R)^2), summed over heads.

    Args:
      value: [B] or [B, H] value that learns, one column per head.
      old_value: as `value`, at the time of the rollout.
      target: as `value`, return to be predicted.
      clip_value: largest step that is trusted, in units of the value; None = plain square.

    Returns:
      [B] loss.

    Raises:
      AssertionError: shapes differ or the rank is neither 1 nor 2.
    """
    chex.assert_rank(value, {1, 2})
    chex.assert_equal_shape([value, old_value, target])
    loss = (value - target) ** 2
    if clip_value is not None:
        near = old_value + jnp.clip(value - old_value, -clip_value, clip_value)
        loss = jnp.maximum(loss, (near - target) ** 2)
    return 0.5 * (loss if value.ndim == 1 else jnp.sum(loss, axis=-1))


def masked_mean(x: Array, mask: Array) -> Array:
    """Mean over the samples in `mask`; 0 where there are none.

    Args:
      x: [...] samples; those outside the mask may be anything, NaN included.
      mask: [...] bool.

    Returns:
      [] mean.

    Raises:
      AssertionError: shapes differ or the mask is not boolean.
    """
    chex.assert_equal_shape([x, mask])
    chex.assert_type(mask, bool)
    count = jnp.sum(mask, dtype=jnp.float32)
    return jnp.sum(jnp.where(mask, x, 0.0)) / jnp.maximum(count, 1.0)


def masked_std(x: Array, mask: Array) -> Array:
    """Population standard deviation over the samples in `mask`; 0 where there are none.

    Args:
      x: [...] samples; those outside the mask may be anything.
      mask: [...] bool.

    Returns:
      [] standard deviation, with gradient 0 where it is 0.

    Raises:
      AssertionError: shapes differ or the mask is not boolean.
    """
    variance = masked_mean(_centre(x, mask) ** 2, mask)
    spread = variance > 0.0
    return jnp.where(spread, jnp.sqrt(jnp.where(spread, variance, 1.0)), 0.0)


def normalize_advantage(advantage: Array, mask: Array, epsilon: float = 1e-8) -> Array:
    """Shifts and scales the advantages in `mask` to mean 0 and deviation 1.

    Args:
      advantage: [...] advantages; those outside the mask may be anything.
      mask: [...] bool, the samples that count.
      epsilon: added to the deviation, in units of the advantage.

    Returns:
      [...] normalised advantages, 0 outside the mask and wherever all of them are equal.

    Raises:
      AssertionError: shapes differ or the mask is not boolean.
    """
    centred = _centre(advantage, mask)
    return jnp.where(mask, centred / (masked_std(centred, mask) + epsilon), 0.0)


def _centre(x: Array, mask: Array) -> Array:
    """Returns `x` less its mean, 0 outside the mask."""
    # Twice: the rounding error of the first mean is common to all samples, and without the
    # second pass equal advantages of, say, 3.3 would be blown up to +-1 by their last bit.
    once = jnp.where(mask, x - masked_mean(x, mask), 0.0)
    return jnp.where(mask, once - masked_mean(once, mask), 0.0)


def kl_step_size(
    step_size: Numeric,
    kl: Array,
    *,
    desired_kl: float,
    factor: float = 1.5,
    bounds: tuple[float, float] = (1e-5, 1e-2),
) -> Array:
    """Step size that keeps the policy's KL step near `desired_kl`.

    Divided by `factor` where kl > 2 desired, multiplied where 0 < kl < desired / 2.
    Source: Rudin et al. 2022, appendix (adaptive learning rate).

    Args:
      step_size: [] current step size.
      kl: [] mean KL divergence of the last update, in nats.
      desired_kl: KL that is aimed at, > 0.
      factor: ratio of one change, > 1.
      bounds: least and greatest step size.

    Returns:
      [] float32 next step size; a NaN `kl` leaves it as it is.
    """
    step_size = jnp.asarray(step_size, jnp.float32)
    too_far = kl > 2.0 * desired_kl
    too_near = (kl > 0.0) & (kl < 0.5 * desired_kl)
    scaled = jnp.where(too_far, step_size / factor, step_size)
    scaled = jnp.where(too_near, step_size * factor, scaled)
    return jnp.clip(scaled, *bounds)


__all__ = [
    "clipped_surrogate",
    "clipped_value_loss",
    "kl_step_size",
    "masked_mean",
    "masked_std",
    "normalize_advantage",
]
