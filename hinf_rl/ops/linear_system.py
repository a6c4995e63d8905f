"""Linear systems with quadratic costs: checked matrices, the reference systems, closed loops.

NumPy in float64: JAX has no float64 without a process-wide switch, and float32 is not enough
near the optimal attenuation level.
"""

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike

from hinf_rl.errors import UserError

Matrix = np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class LinearSystem:
    """A linear system with a quadratic cost, checked and read-only.

    Attributes:
      A: [n, n] dynamics.
      B: [n, m] control input.
      D: [n, d] disturbance input.
      Q: [n, n] state weight, symmetric positive semi-definite.
      R: [m, m] control weight, symmetric positive definite.
    """

    A: Matrix
    B: Matrix
    D: Matrix
    Q: Matrix
    R: Matrix

    def __post_init__(self) -> None:
        for name in "ABDQR":
            value = np.array(getattr(self, name), np.float64)
            if value.ndim != 2 or value.size == 0:
                raise UserError(f"{name} must be a matrix, got shape {value.shape}")
            if not np.isfinite(value).all():
                raise UserError(f"{name} holds NaN or inf; every entry must be finite")
            value.setflags(write=False)
            object.__setattr__(self, name, value)
        n, m = self.A.shape[0], self.B.shape[1]
        expected = {"A": (n, n), "B": (n, m), "D": (n, self.D.shape[1]), "Q": (n, n), "R": (m, m)}
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise UserError(f"{name} must be {shape}, got {getattr(self, name).shape}")
        for name, bound, claim in (("Q", -1e-12, "semi-definite"), ("R", 1e-12, "definite")):
            value = getattr(self, name)
            scale = max(float(np.abs(value).max()), 1e-300)
            if np.abs(value - value.T).max() > 1e-12 * scale:
                raise UserError(f"{name} must be symmetric; use ({name} + {name}') / 2")
            smallest = float(np.linalg.eigvalsh(value)[0])
            if smallest < bound * scale:
                raise UserError(
                    f"{name} must be positive {claim}, its smallest eigenvalue is {smallest:.3g}"
                )

    @property
    def matrices(self) -> tuple[Matrix, Matrix, Matrix, Matrix, Matrix]:
        """(A, B, D, Q, R), the leading arguments of the functions in this module."""
        return self.A, self.B, self.D, self.Q, self.R


_INTEGRATOR_INPUT = np.array([[0.0], [0.1]])
_PENDULUM_INPUT = np.array([[0.0], [0.05]])

# Reference systems: scalar, double integrator, linearised pendulum (Euler, 0.05 s), and a coupled
# three-state system with two inputs and two disturbances.
SYSTEMS = {
    "S1": LinearSystem(*(np.eye(1),) * 5),
    "S2": LinearSystem(
        A=np.array([[1.0, 0.1], [0.0, 1.0]]),
        B=_INTEGRATOR_INPUT,
        D=_INTEGRATOR_INPUT,
        Q=np.diag([1.0, 0.1]),
        R=np.array([[0.1]]),
    ),
    "S3": LinearSystem(
        A=np.eye(2) + 0.05 * np.array([[0.0, 1.0], [9.81, -0.1]]),
        B=_PENDULUM_INPUT,
        D=_PENDULUM_INPUT,
        Q=np.diag([1.0, 0.1]),
        R=np.array([[0.01]]),
    ),
    "S4": LinearSystem(
        A=np.array([[0.9, 0.2, 0.0], [0.0, 0.95, 0.3], [0.1, 0.0, 1.02]]),
        B=np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.5]]),
        D=np.array([[0.3, 0.0], [0.0, 0.2], [0.1, 0.1]]),
        Q=np.eye(3),
        R=np.diag([1.0, 0.5]),
    ),
}
"""The reference systems by name."""


def spectral_radius(matrix: ArrayLike) -> float:
    """Returns the largest absolute eigenvalue of a square matrix; below 1 is stable."""
    return float(np.max(np.abs(np.linalg.eigvals(np.asarray(matrix, np.float64)))))


def psd_root(matrix: Matrix) -> Matrix:
    """Returns the symmetric square root of a positive semi-definite [n, n] matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T


def closed_loop(
    A: ArrayLike, B: ArrayLike, D: ArrayLike, Q: ArrayLike, R: ArrayLike, K: ArrayLike
) -> tuple[Matrix, Matrix, Matrix]:
    """Returns the system from w to z = [Q^(1/2) x; R^(1/2) u] under u = -K x.

    Args:
      A: [n, n] dynamics.
      B: [n, m] control input.
      D: [n, d] disturbance input.
      Q: [n, n] state weight, positive semi-definite.
      R: [m, m] control weight; zeros give the gain from w to Q^(1/2) x alone.
      K: [m, n] control gain.

    Returns:
      (Ac [n, n], D [n, d], C [n + m, n]): A - B K, D and [Q^(1/2); -R^(1/2) K].
    """
    A, B, D, Q, R, K = (np.asarray(value, np.float64) for value in (A, B, D, Q, R, K))
    return A - B @ K, D, np.vstack([psd_root(Q), -psd_root(R) @ K])


def discounted(
    A: ArrayLike, B: ArrayLike, D: ArrayLike, beta: float
) -> tuple[Matrix, Matrix, Matrix]:
    """Returns sqrt(beta) (A, B, D): its undiscounted game is the game discounted by beta.

    Args:
      A: [n, n] dynamics.
      B: [n, m] control input.
      D: [n, d] disturbance input.
      beta: discount per step in (0, 1].

    Raises:
      UserError: `beta` outside (0, 1].
    """
    if not 0.0 < beta <= 1.0:
        raise UserError(f"beta must lie in (0, 1], got {beta}")
    A, B, D = (np.asarray(value, np.float64) for value in (A, B, D))
    return math.sqrt(beta) * A, math.sqrt(beta) * B, math.sqrt(beta) * D


__all__ = ["SYSTEMS", "LinearSystem", "closed_loop", "discounted", "psd_root", "spectral_radius"]
