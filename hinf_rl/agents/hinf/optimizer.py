"""Adam on a clipped gradient: one optimiser per player and one of the critic, never shared."""

import jax
import optax

from hinf_rl.types import Array, PyTree


class Adam:
    """Adam (Kingma and Ba, 2015) behind a global-norm clip, with the step size as an argument.

    Args:
      max_grad_norm: global norm that the gradient is shortened to.
    """

    def __init__(self, max_grad_norm: float) -> None:
        self._transform = optax.chain(
            optax.clip_by_global_norm(max_grad_norm), optax.scale_by_adam(eps=1e-5)
        )

    def init(self, params: PyTree) -> PyTree:
        """Starts the moments of `params` at zero."""
        return self._transform.init(params)

    def step(
        self, params: PyTree, gradient: PyTree, state: PyTree, learning_rate: Array
    ) -> tuple[PyTree, PyTree]:
        """Descends once; returns the next parameters and moments."""
        # optax raises a float to its int32 step count, which strict promotion forbids.
        with jax.numpy_dtype_promotion("standard"):
            updates, state = self._transform.update(gradient, state)
        return jax.tree.map(lambda p, u: p - learning_rate * u, params, updates), state


__all__ = ["Adam"]
