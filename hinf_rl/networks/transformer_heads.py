"""Scalar heads that read the final hidden states of a transformer."""

from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from hinf_rl.types import Array


class ValueHead(nn.Module):
    """Maps hidden states [..., D] to values [...], in float32.

    Attributes:
      hidden: widths of tanh layers in between; none makes it linear.
      init_scale: variance scale of the last layer; 0 starts with the value 0 everywhere.
    """

    hidden: tuple[int, ...] = ()
    init_scale: float = 0.0

    @nn.compact
    def __call__(self, hidden: Array) -> Array:
        """Applies the head to [..., D]."""
        x = hidden.astype(jnp.float32)
        for width in self.hidden:
            x = jnp.tanh(nn.Dense(width)(x))
        # Scale 0 is no variance scaling.
        init = (
            nn.initializers.variance_scaling(self.init_scale, "fan_in", "truncated_normal")
            if self.init_scale > 0
            else nn.initializers.zeros
        )
        return nn.Dense(1, kernel_init=init)(x)[..., 0]


class ResidualValueHead(nn.Module):
    """Difference of a head and its own copy at the start: exactly 0 until the head is trained.

    The copy lives in the collection "reference", beside "params", so that neither gradients nor
    weight decay reach it. Source: B-Coder, section 3.2 (residual value h1 - h2).

    Attributes:
      hidden: widths of tanh layers of both heads.
      init_scale: variance scale of their last layers.
    """

    hidden: tuple[int, ...] = ()
    init_scale: float = 1.0

    @nn.compact
    def __call__(self, hidden: Array) -> Array:
        """Applies both heads to [..., D] and subtracts."""
        head = ValueHead(self.hidden, self.init_scale, name="head")
        value = head(hidden)
        reference = self.variable("reference", "copy", lambda: head.variables["params"])
        frozen = jax.lax.stop_gradient(reference.value)
        twin = ValueHead(self.hidden, self.init_scale, parent=None)
        return value - cast(Array, twin.apply({"params": frozen}, hidden))


__all__ = ["ResidualValueHead", "ValueHead"]
