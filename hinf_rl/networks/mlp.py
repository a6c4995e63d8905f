"""Multilayer perceptrons: the players' means and the critic."""

from collections.abc import Callable

import flax.linen as nn
import jax

from hinf_rl.errors import unknown_name
from hinf_rl.types import Array

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "elu": jax.nn.elu,
    "relu": jax.nn.relu,
    "swish": jax.nn.swish,
    "tanh": jax.nn.tanh,
}


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
            x = activation(nn.Dense(width, kernel_init=nn.initializers.orthogonal(2**0.5))(x))
        last = nn.initializers.orthogonal(self.final_scale)
        return nn.Dense(self.size, kernel_init=last)(x)


def check_activation(name: str) -> None:
    """Raises UserError unless `name` is a known activation."""
    if name not in ACTIVATIONS:
        raise unknown_name("activation", name, ACTIVATIONS)


__all__ = ["ACTIVATIONS", "MLP", "check_activation"]
