"""The stage recursion of linear-quadratic games by doubling.

k doubling steps do the work of 2^k steps of value iteration, so that even a level that is nearly
critical, where value iteration crawls, is decided in some tens of small solves.

Source: the structure-preserving doubling algorithm of Chu, Fan, Lin and Wang (2004), with a
coupling that may be indefinite.
"""

import math
from typing import NamedTuple

import numpy as np

Matrix = np.ndarray

_MAX_DOUBLINGS = 60
_BLOW_UP = 1e12


class StageLimit(NamedTuple):
    """Where the recursion ended.

    Attributes:
      P: [n, n] the last iterate, finite always.
      is_converged: whether it settled with g^2 I - D'PD positive definite all the way.
      n_iter: doubling steps.
    """

    P: Matrix
    is_converged: bool
    n_iter: int


def double_stages(A: Matrix, spread: Matrix, Q: Matrix, D: Matrix, g: float) -> StageLimit:
    """Iterates P <- Q + A'P (I + spread P)^-1 A from P = 0, doubling the stages each time.

    While g^2 I - D'PD stays positive definite the iterates do not decrease, so a violation seen
    at any of them is final. The caller checks that the limit stabilises.

    Args:
      A: [n, n] dynamics.
      spread: [n, n] symmetric coupling, B R^-1 B' - g^-2 D D' for a game.
      Q: [n, n] state weight.
      D: [n, d] disturbance input.
      g: level, > 0; `inf` switches the test off.

    Returns:
      The last iterate, whether it converged, and the number of doublings.
    """
    onward, P = A, Q
    if not is_attainable(P, D, g):
        return StageLimit(np.zeros_like(A), False, 0)
    for n_iter in range(1, _MAX_DOUBLINGS + 1):
        mixed = _solve_finite(np.eye(len(A)) + spread @ P, np.hstack([onward, spread]))
        if mixed is None:
            return StageLimit(P, False, n_iter)
        through, coupling = mixed[:, : len(A)], mixed[:, len(A) :]
        P_next = _symmetric(P + onward.T @ P @ through)
        spread = _symmetric(spread + onward @ coupling @ onward.T)
        onward = onward @ through
        if not is_attainable(P_next, D, g) or np.abs(P_next).max() > _BLOW_UP:
            return StageLimit(P, False, n_iter)
        change = np.linalg.norm(P_next - P) / max(float(np.linalg.norm(P_next)), 1e-300)
        P = P_next
        if change <= 1e-14:
            return StageLimit(P, True, n_iter)
    return StageLimit(P, False, _MAX_DOUBLINGS)


def is_attainable(P: Matrix, D: Matrix, g: float) -> bool:
    """Says whether g^2 I - D'PD is positive definite."""
    return math.isinf(g) or bool(np.linalg.eigvalsh(D.T @ P @ D)[-1] < g**2)


def _solve_finite(matrix: Matrix, right: Matrix) -> Matrix | None:
    """Returns matrix^-1 right, or None where that is singular or not finite."""
    try:
        solution = np.linalg.solve(matrix, right)
    except np.linalg.LinAlgError:
        return None
    # The caller squares entries, which overflows beyond the square root of the largest float.
    return solution if np.abs(solution).max() < 1e150 else None


def _symmetric(matrix: Matrix) -> Matrix:
    return 0.5 * (matrix + matrix.T)


__all__ = ["StageLimit", "double_stages", "is_attainable"]
