"""Noise predictors of diffusion models: a perceptron for vectors, a small U-Net for images."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from hinf_rl.types import Array

# Angles from 1 to this many radians per unit of time tell apart 1000 noise levels.
_MAX_FREQUENCY = 1000.0


def time_embedding(time: Array, size: int) -> Array:
    """Sines and cosines of the time at geometrically spaced frequencies.

    Args:
      time: [M] in [0, 1].
      size: even number of features.

    Returns:
      [M, size].
    """
    exponents = jnp.linspace(0.0, math.log(_MAX_FREQUENCY), size // 2, dtype=jnp.float32)
    angle = time[:, None] * jnp.exp(exponents)[None, :]
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


class MLPDenoiser(nn.Module):
    """Predicts the noise in [M, D] from the point, an embedding of the time and the condition.

    Attributes:
      size: numbers D of a point.
      hidden: widths of the hidden layers.
      time_size: features of the time.
    """

    size: int
    hidden: tuple[int, ...] = (64, 64, 64)
    time_size: int = 16

    @nn.compact
    def __call__(self, x: Array, time: Array, condition: Array) -> Array:
        """Maps [M, D], [M] and [M, C] to [M, D]."""
        h = jnp.concatenate([x, time_embedding(time, self.time_size), condition], axis=-1)
        for width in self.hidden:
            h = jax.nn.silu(nn.Dense(width)(h))
        return nn.Dense(self.size)(h)


class UNetDenoiser(nn.Module):
    """Predicts the noise in flattened images with a small U-Net.

    One residual block per resolution on the way down and on the way up, joined by skips; time
    and condition shift every block's channels.

    Attributes:
      shape: (height, width, channels) of an image; both sides divide by 2 for each further width.
      widths: channels at each resolution, the finest first.
      time_size: features of the time, and of the embedding.
    """

    shape: tuple[int, int, int]
    widths: tuple[int, ...] = (16, 32)
    time_size: int = 32

    @nn.compact
    def __call__(self, x: Array, time: Array, condition: Array) -> Array:
        """Maps [M, H W C], [M] and [M, C'] to [M, H W C]."""
        features = jnp.concatenate([time_embedding(time, self.time_size), condition], axis=-1)
        embedding = jax.nn.silu(nn.Dense(self.time_size)(features))
        h = Conv3x3(self.widths[0])(x.reshape(-1, *self.shape))
        skips = []
        for width in self.widths[:-1]:
            h = _Block(width)(h, embedding)
            skips.append(h)
            h = _halved(h)
        h = _Block(self.widths[-1])(h, embedding)
        for width, skip in zip(self.widths[-2::-1], skips[::-1], strict=True):
            h = jnp.repeat(jnp.repeat(h, 2, axis=1), 2, axis=2)
            h = _Block(width)(jnp.concatenate([h, skip], axis=-1), embedding)
        h = jax.nn.silu(nn.GroupNorm(num_groups=4)(h))
        return Conv3x3(self.shape[-1])(h).reshape(x.shape)


class Conv3x3(nn.Module):
    """A convolution with kernels of 3 x 3 that keeps the size, as one matrix product.

    Of shifted copies of the image: inside a scan XLA's own convolution runs on one thread of a CPU
    and its gradient takes several times as long. Parameters are those of `flax.linen.Conv`.

    Attributes:
      features: channels of the result.
    """

    features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [M, H, W, C] to [M, H, W, features]; beyond the border is 0."""
        height, width, channels = x.shape[1:]
        shape = (3, 3, channels, self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        shifted = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
        columns = jnp.concatenate(shifted, axis=-1)
        return columns @ kernel.reshape(-1, self.features) + bias[None, None, None]


def _halved(x: Array) -> Array:
    """Means of 2 x 2 pixels."""
    rows, height, width, channels = x.shape
    return jnp.mean(x.reshape(rows, height // 2, 2, width // 2, 2, channels), axis=(2, 4))


class _Block(nn.Module):
    """Two convolutions around a residual connection."""

    width: int

    @nn.compact
    def __call__(self, x: Array, embedding: Array) -> Array:
        h = x if x.shape[-1] == self.width else nn.Dense(self.width)(x)
        inner = Conv3x3(self.width)(jax.nn.silu(nn.GroupNorm(num_groups=4)(h)))
        inner = inner + nn.Dense(self.width)(embedding)[:, None, None, :]
        inner = Conv3x3(self.width)(jax.nn.silu(nn.GroupNorm(num_groups=4)(inner)))
        return h + inner


__all__ = ["Conv3x3", "MLPDenoiser", "UNetDenoiser", "time_embedding"]
