"""Running mean and variance of observations, merged batch by batch."""

from typing import NamedTuple

import chex
import jax.numpy as jnp

from hinf_rl.types import Array


class NormalizerState(NamedTuple):
    """Moments of what was seen so far."""

    count: Array  # [] float32 samples that `mean` and `m2` stand for
    mean: Array  # [O] mean
    m2: Array  # [O] sum of squared deviations from the mean


def normalizer_init(size: int) -> NormalizerState:
    """Returns the state that has seen nothing.

    Args:
      size: length O of an observation.
    """
    zeros = jnp.zeros(size, jnp.float32)
    return NormalizerState(jnp.zeros((), jnp.float32), zeros, zeros)


def normalizer_update(state: NormalizerState, batch: Array, mask: Array) -> NormalizerState:
    """Merges a batch into the moments.

    With w = n_b / (n_a + n_b) and d the difference of the means,
    mean = mean_a + w d and var = var_a + w (var_b - var_a + (1 - w) d^2).
    Source: Chan, Golub and LeVeque 1983, eq. 2.1, divided by the count.

    The weights make the float32 count safe at any size: a plain sum of squares would go on
    growing where the count, beyond 2^24, has stopped for small batches; here both hold still,
    and a batch that is less than 2^-24 of the past simply no longer matters.

    Args:
      state: moments so far.
      batch: [..., O] observations; those outside the mask may be anything.
      mask: [...] bool, the observations that count.

    Returns:
      The merged moments, unchanged where the mask is empty.

    Raises:
      AssertionError: shapes differ or the mask is not boolean.
    """
    chex.assert_shape(batch, (*mask.shape, *state.mean.shape))
    chex.assert_type(mask, bool)
    count = jnp.sum(mask, dtype=jnp.float32)
    delta, batch_var = _shifted_moments(batch, mask, state.mean, jnp.maximum(count, 1.0))
    total = state.count + count
    weight = count / jnp.maximum(total, 1.0)
    var = state.m2 / jnp.maximum(state.count, 1.0)
    var = var + weight * (batch_var - var + (1.0 - weight) * delta**2)
    m2 = jnp.where(count > 0.0, var * total, state.m2)
    return NormalizerState(count=total, mean=state.mean + weight * delta, m2=m2)


def _shifted_moments(batch: Array, mask: Array, origin: Array, count: Array) -> tuple[Array, Array]:
    """Returns the batch's [O] mean less `origin`, and its [O] variance, over the mask."""
    axes = tuple(range(mask.ndim))
    # Deviations from the old mean: squares of raw observations would lose a small variance.
    shift = jnp.where(mask[..., None], batch - _like(origin, batch), 0.0)
    delta = jnp.sum(shift, axis=axes) / count
    deviation = jnp.where(mask[..., None], shift - _like(delta, batch), 0.0)
    return delta, jnp.sum(deviation**2, axis=axes) / count


def normalizer_apply(
    state: NormalizerState, x: Array, *, clip: float = 10.0, min_std: float = 1e-2
) -> Array:
    """Shifts and scales observations to mean 0 and deviation 1.

    Args:
      state: moments, constants here.
      x: [..., O] observations.
      clip: bound on the result, in deviations.
      min_std: least deviation that is divided by, in units of the observation: a component
        that hardly moved in training must not explode when it moves at last.

    Returns:
      [..., O] normalised observations; `x` itself as long as the state has seen nothing.
    """
    variance = state.m2 / jnp.maximum(state.count, 1.0)
    std = jnp.sqrt(jnp.maximum(variance, min_std**2))
    scaled = (x - _like(state.mean, x)) / _like(std, x)
    return jnp.where(state.count > 0.0, jnp.clip(scaled, -clip, clip), x)


def _like(vector: Array, x: Array) -> Array:
    """Returns [O] `vector` broadcast to [..., O]."""
    return jnp.broadcast_to(vector, x.shape)


__all__ = ["NormalizerState", "normalizer_apply", "normalizer_init", "normalizer_update"]
