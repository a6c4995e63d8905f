"""Diagonal normal and tanh-normal distributions; everything is summed over the last axis.

`log_std` may have fewer axes than `mean` (one vector for all states); it is broadcast here,
visibly, since the library runs with implicit rank promotion switched off.
"""

import math

import jax
import jax.numpy as jnp

from hinf_rl.types import Array

_LOG_2 = math.log(2.0)
_LOG_2PI = math.log(2.0 * math.pi)


def normal_sample(key: Array, mean: Array, log_std: Array) -> Array:
    """Draws x = mean + exp(log_std) * noise.

    Args:
      key: PRNG key, consumed.
      mean: [..., A] mean.
      log_std: [..., A] or [A] log standard deviation.

    Returns:
      [..., A] sample, differentiable in both parameters.
    """
    noise = jax.random.normal(key, mean.shape, mean.dtype)
    return mean + jnp.exp(jnp.broadcast_to(log_std, mean.shape)) * noise


def normal_log_prob(x: Array, mean: Array, log_std: Array) -> Array:
    """Log-density of a diagonal normal.

    sum over A of -0.5 ((x - mean) / std)^2 - log_std - 0.5 log(2 pi).

    Args:
      x: [..., A] point.
      mean: [..., A] mean.
      log_std: [..., A] or [A] log standard deviation.

    Returns:
      [...] log-density in nats.
    """
    log_std = jnp.broadcast_to(log_std, mean.shape)
    scaled = (x - mean) * jnp.exp(-log_std)
    return jnp.sum(-0.5 * scaled**2 - log_std - 0.5 * _LOG_2PI, axis=-1)


def normal_entropy(log_std: Array) -> Array:
    """Entropy of a diagonal normal, sum over A of log_std + 0.5 log(2 pi e).

    Args:
      log_std: [..., A] log standard deviation.

    Returns:
      [...] entropy in nats.
    """
    return jnp.sum(log_std + 0.5 * (1.0 + _LOG_2PI), axis=-1)


def normal_kl(mean_p: Array, log_std_p: Array, mean_q: Array, log_std_q: Array) -> Array:
    """KL(p || q) of two diagonal normals.

    sum over A of log(std_q / std_p) + (std_p^2 + (mean_p - mean_q)^2) / (2 std_q^2) - 1/2.

    Args:
      mean_p: [..., A] mean of p, the distribution that the samples come from.
      log_std_p: [..., A] or [A] log standard deviation of p.
      mean_q: [..., A] mean of q.
      log_std_q: [..., A] or [A] log standard deviation of q.

    Returns:
      [...] divergence in nats, 0 where both agree.
    """
    log_ratio = jnp.broadcast_to(log_std_p, mean_p.shape) - jnp.broadcast_to(
        log_std_q, mean_q.shape
    )
    distance = (mean_p - mean_q) * jnp.exp(-jnp.broadcast_to(log_std_q, mean_q.shape))
    # expm1(2x) - 2x in place of std_p^2 / std_q^2 - 1 - 2x: small steps must not round to 0.
    return 0.5 * jnp.sum(jnp.expm1(2.0 * log_ratio) - 2.0 * log_ratio + distance**2, axis=-1)


def tanh_normal_sample(key: Array, mean: Array, log_std: Array) -> tuple[Array, Array]:
    """Draws tanh(u) with u from a diagonal normal.

    Args:
      key: PRNG key, consumed.
      mean: [..., A] mean of u.
      log_std: [..., A] or [A] log standard deviation of u.

    Returns:
      [..., A] action in [-1, 1], and [..., A] u, which the log-density is taken at: the inverse
      of tanh is lost to rounding near the bounds.
    """
    pre_tanh = normal_sample(key, mean, log_std)
    return jnp.tanh(pre_tanh), pre_tanh


def tanh_normal_log_prob(pre_tanh: Array, mean: Array, log_std: Array) -> Array:
    """Log-density of tanh(u), given u.

    log N(u) - sum over A of log(1 - tanh(u)^2), where
    log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2 u)), which holds for any size of u.
    Source: Haarnoja et al. 2018, appendix C.

    Args:
      pre_tanh: [..., A] u.
      mean: [..., A] mean of u.
      log_std: [..., A] or [A] log standard deviation of u.

    Returns:
      [...] log-density in nats, with respect to the action.
    """
    log_slope = 2.0 * (_LOG_2 - pre_tanh - jax.nn.softplus(-2.0 * pre_tanh))
    return normal_log_prob(pre_tanh, mean, log_std) - jnp.sum(log_slope, axis=-1)


def tanh_normal_entropy(key: Array, mean: Array, log_std: Array) -> Array:
    """One-sample estimate of the entropy, unbiased, with pathwise gradients.

    Args:
      key: PRNG key, consumed.
      mean: [..., A] mean before tanh.
      log_std: [..., A] or [A] log standard deviation before tanh.

    Returns:
      [...] estimate in nats.
    """
    _, pre_tanh = tanh_normal_sample(key, mean, log_std)
    return -tanh_normal_log_prob(pre_tanh, mean, log_std)


def held_force_sample(
    key: Array, lead: tuple[int, ...], size: int, *, hold_steps: tuple[int, int]
) -> tuple[Array, Array]:
    """Draws forces as domain randomisation does, and how long each is held.

    Args:
      key: consumed.
      lead: leading shape, for example (E,).
      size: number of components D.
      hold_steps: least and largest number of steps, both may be drawn.

    Returns:
      ([*lead, D] forces uniform in direction and in size within [0, 1], [*lead] int32 steps).
    """
    key_direction, key_size, key_time = jax.random.split(key, 3)
    force = jax.random.normal(key_direction, (*lead, size))
    force /= jnp.linalg.norm(force, axis=-1, keepdims=True) + 1e-8
    force *= jax.random.uniform(key_size, (*lead, 1))
    low, high = hold_steps
    return force, jax.random.randint(key_time, lead, low, high + 1, dtype=jnp.int32)


__all__ = [
    "held_force_sample",
    "normal_entropy",
    "normal_kl",
    "normal_log_prob",
    "normal_sample",
    "tanh_normal_entropy",
    "tanh_normal_log_prob",
    "tanh_normal_sample",
]
