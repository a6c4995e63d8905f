"""The gradient of a loss that couples all steps of all trajectories, in bounded memory.

A loss L(l) of the table l [R] of all steps' log-probabilities has the gradient
sum_i (dL/dl_i) d l_i/d params. The first pass makes the table without keeping anything for
differentiation, the loss's own derivative gives the weights, and the second pass adds up weighted
log-probabilities microbatch by microbatch. The result is the gradient itself, not an estimate.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from hinf_rl.errors import UserError
from hinf_rl.types import Array, PyTree

LogProb = Callable[[PyTree, PyTree], Array]
"""`log_prob(params, rows) -> [R]` for rows whose leaves are [R, ...]."""
TableLoss = Callable[[Array], tuple[Array, PyTree]]
"""`loss(table [R]) -> ([], auxiliary)`."""


class TableGradient(NamedTuple):
    """Loss, what it reports beside, and its gradient by the parameters."""

    loss: Array
    auxiliary: PyTree
    gradient: PyTree


def log_prob_table(
    log_prob: LogProb, params: PyTree, rows: PyTree, microbatch: int | None = None
) -> Array:
    """Log-probabilities of all rows, `microbatch` at a time.

    Args:
      log_prob: of a batch of rows.
      params: of the policy.
      rows: leaves [R, ...].
      microbatch: rows at a time, a divisor of R; None for all at once.

    Returns:
      [R].

    Raises:
      UserError: the rows do not divide.
    """
    if microbatch is None:
        return log_prob(params, rows)
    parts = _split(rows, microbatch)
    return jax.lax.map(lambda part: log_prob(params, part), parts).ravel()


def accumulate_gradient(
    log_prob: LogProb, params: PyTree, rows: PyTree, weights: Array, microbatch: int
) -> PyTree:
    """Gradient of sum_i weight_i log_prob_i by the parameters, `microbatch` rows at a time.

    Args:
      log_prob: of a batch of rows.
      params: of the policy.
      rows: leaves [R, ...].
      weights: [R], constants.
      microbatch: rows at a time, a divisor of R.

    Raises:
      UserError: the rows do not divide.
    """

    def add(total: PyTree, part: tuple[PyTree, Array]) -> tuple[PyTree, None]:
        some, weight = part
        gradient = jax.grad(lambda p: jnp.sum(weight * log_prob(p, some)))(params)
        return jax.tree.map(jnp.add, total, gradient), None

    weights = jax.lax.stop_gradient(weights)
    start = jax.tree.map(jnp.zeros_like, params)
    return jax.lax.scan(add, start, _split((rows, weights), microbatch))[0]


def table_gradient(
    loss: TableLoss,
    log_prob: LogProb,
    params: PyTree,
    rows: PyTree,
    microbatch: int | None = None,
) -> TableGradient:
    """Gradient of a loss of the whole table: at once, or in two passes.

    Args:
      loss: of the table.
      log_prob: of a batch of rows.
      params: of the policy.
      rows: leaves [R, ...].
      microbatch: rows at a time in both passes; None differentiates through all at once, which is
        a third cheaper and keeps the activations of all rows.

    Raises:
      UserError: the rows do not divide.
    """
    if microbatch is None:
        (value, auxiliary), gradient = jax.value_and_grad(
            lambda p: loss(log_prob(p, rows)), has_aux=True
        )(params)
        return TableGradient(value, auxiliary, gradient)
    table = log_prob_table(log_prob, params, rows, microbatch)
    (value, auxiliary), weights = jax.value_and_grad(loss, has_aux=True)(table)
    gradient = accumulate_gradient(log_prob, params, rows, weights, microbatch)
    return TableGradient(value, auxiliary, gradient)


def _split(rows: PyTree, microbatch: int) -> PyTree:
    count = jax.tree.leaves(rows)[0].shape[0]
    if microbatch < 1 or count % microbatch:
        raise UserError(
            f"microbatch must divide the {count} denoising steps of a minibatch, got {microbatch}"
        )
    return jax.tree.map(lambda leaf: leaf.reshape(-1, microbatch, *leaf.shape[1:]), rows)


__all__ = [
    "LogProb",
    "TableGradient",
    "TableLoss",
    "accumulate_gradient",
    "log_prob_table",
    "table_gradient",
]
