"""AdamW whose step size is an argument, and which passes over gradients that are not finite."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from hinf_rl.types import Array, Numeric, PyTree


class Updated(NamedTuple):
    """What an update gives back.

    Attributes:
      params: parameters after it.
      state: of the optimiser.
      nonfinite: [] float32, 1 where the update was passed over.
    """

    params: PyTree
    state: PyTree
    nonfinite: Array


class AdamW:
    """Adam with decoupled weight decay. Source: Loshchilov and Hutter 2019."""

    def __init__(self, weight_decay: float) -> None:
        self._transform = optax.chain(
            optax.scale_by_adam(), optax.add_decayed_weights(weight_decay)
        )

    def init(self, params: PyTree) -> PyTree:
        """The first state."""
        return self._transform.init(params)

    def update(
        self, params: PyTree, state: PyTree, gradient: PyTree, learning_rate: Numeric
    ) -> Updated:
        """One step; everything stays as it is where the gradient is not finite."""
        is_finite = jnp.isfinite(optax.tree.norm(gradient))
        # optax raises a float to its int32 step count, which strict promotion forbids.
        with jax.numpy_dtype_promotion("standard"):
            direction, moved = self._transform.update(gradient, state, params)
        stepped = jax.tree.map(lambda p, d: p - learning_rate * d, params, direction)

        def keep(new: Array, old: Array) -> Array:
            return jnp.where(is_finite, new, old)

        return Updated(
            jax.tree.map(keep, stepped, params),
            jax.tree.map(keep, moved, state),
            1.0 - is_finite.astype(jnp.float32),
        )


__all__ = ["AdamW", "Updated"]
