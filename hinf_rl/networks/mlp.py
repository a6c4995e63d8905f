"""Multilayer perceptrons: the players' means and the critic."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from hinf_rl.errors import unknown_name
from hinf_rl.types import Array


def elu(x: Array) -> Array:
    """Exponential linear unit: x where positive, exp(x) - 1 elsewhere.

    Not `jax.nn.elu`, whose expm1 is right to the last bit near 0 and takes twice the time on a
    CPU; exp(x) - 1 is within 1e-7 of it.
    """
    is_positive = x > 0
    return jnp.where(is_positive, x, jnp.exp(jnp.where(is_positive, 0.0, x)) - 1.0)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "elu": elu,
    "relu": jax.nn.relu,
    "swish": jax.nn.swish,
    "tanh": jax.nn.tanh,
}
"""Name to activation function."""


class MLP(nn.Module):
    """Maps [..., I] to [..., size] through fully connected hidden layers.

    Without hidden layers it is a linear map without bias, started at zero: the player of a
    linear-quadratic game.

    Attributes:
      hidden: widths of the hidden layers.
      size: number of outputs.
      activation: name in `ACTIVATIONS`.
      final_scale: standard deviation scale of the last layer; small values start a policy near
        its zero action.
    """

    hidden: tuple[int, ...]
    size: int
    activation: str = "elu"
    final_scale: float = 1.0

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Applies the network to [..., I]."""
        if not self.hidden:
            return nn.Dense(
                self.size, use_bias=False, kernel_init=nn.initializers.zeros, name="gain"
            )(x)
        activation = ACTIVATIONS[self.activation]
        for width in self.hidden:
            x = activation(nn.Dense(width, kernel_init=orthogonal(2**0.5))(x))
        last = orthogonal(self.final_scale)
        return nn.Dense(self.size, kernel_init=last)(x)


def orthogonal(scale: float) -> Callable[..., Array]:
    """Initialiser: `scale` times a uniformly random matrix with orthonormal columns (or rows).

    Gram-Schmidt on Gaussian columns, each cleaned twice, which keeps float32 orthogonality.
    Not LAPACK's QR: networks initialised side by side under `vmap` make batched QR calls, and
    two of them at once can wait for each other for ever on a CPU with few cores.
    """

    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        rows, columns = shape
        draw = jax.random.normal(key, (max(shape), min(shape)), dtype)

        def clean(index: Array, basis: Array) -> Array:
            column = jax.lax.dynamic_index_in_dim(draw, index, axis=1, keepdims=False)
            # Columns not yet reached are zero and take nothing away.
            for _ in range(2):
                column = column - basis @ (basis.T @ column)
            return basis.at[:, index].set(column / jnp.linalg.norm(column))

        basis = jax.lax.fori_loop(0, min(shape), clean, jnp.zeros_like(draw))
        return scale * (basis if rows >= columns else basis.T)

    return init


def check_activation(name: str) -> None:
    """Raises UserError unless `name` is a known activation."""
    if name not in ACTIVATIONS:
        raise unknown_name("activation", name, ACTIVATIONS)


__all__ = ["ACTIVATIONS", "MLP", "check_activation", "elu", "orthogonal"]
