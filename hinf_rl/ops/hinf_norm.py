"""The H-infinity norm of a closed loop, three ways, and the gain of a nonlinear rollout.

`hinf_norm` is NumPy in float64: JAX has no float64 without a process-wide switch, and float32
does not resolve the levels near the optimum. `power_gain` is JAX, because it differentiates
whatever rollout it is given.

Source: bounded real lemma and the unit-circle eigenvalue test of Boyd and Balakrishnan (1990),
in the discrete-time form.
"""

import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike

from hinf_rl.errors import UserError, unknown_name
from hinf_rl.ops.doubling import double_stages
from hinf_rl.ops.linear_system import Matrix, spectral_radius
from hinf_rl.types import Array

NormMethod = Literal["sweep", "pencil", "bisection"]

_CIRCLE_TOLERANCE = 1e-6  # A double eigenvalue on the circle moves by about sqrt(float64 eps).
_MAX_PENCIL_ROUNDS = 50
_BISECTION_RTOL = 1e-8


def hinf_norm(
    Ac: ArrayLike,
    D: ArrayLike,
    C: ArrayLike,
    method: NormMethod = "pencil",
    n_freq: int = 2001,
) -> float:
    """Returns sup over frequencies of the largest singular value of C (e^(jw) I - Ac)^-1 D.

    Equal to the largest ||z||_2 / ||w||_2 over disturbances of finite energy with x_0 = 0.

    Args:
      Ac: [n, n] closed-loop dynamics.
      D: [n, d] disturbance input.
      C: [p, n] output.
      method: "sweep" takes the maximum over a grid (a lower bound); "pencil" raises the sweep's
        value until no frequency exceeds it (both bounds, the default); "bisection" tests levels
        by the bounded real lemma (an upper bound, independent of the other two).
      n_freq: grid points in [0, pi].

    Returns:
      The norm; `inf` where Ac is not stable.

    Raises:
      UserError: unknown method, a matrix that is not finite, or fewer than 2 grid points.
    """
    Ac, D, C = np.asarray(Ac, np.float64), np.asarray(D, np.float64), np.asarray(C, np.float64)
    if not all(np.isfinite(value).all() for value in (Ac, D, C)):
        raise UserError("hinf_norm got a matrix with NaN or inf; the gain that made it diverged")
    if n_freq < 2:
        raise UserError(f"n_freq must be at least 2, got {n_freq}")
    if method not in ("sweep", "pencil", "bisection"):
        raise unknown_name("norm method", method, ("sweep", "pencil", "bisection"))
    if spectral_radius(Ac) >= 1.0:
        return math.inf
    lower = _largest_gain(Ac, D, C, np.linspace(0.0, math.pi, n_freq))
    if method == "sweep" or lower == 0.0:
        return lower
    if method == "pencil":
        return _norm_by_pencil(Ac, D, C, lower)
    return _norm_by_bisection(Ac, D, C, lower)


def _largest_gain(Ac: Matrix, D: Matrix, C: Matrix, angles: Matrix) -> float:
    """Returns the largest singular value of the transfer matrix over [F] angles (rad)."""
    shifted = np.exp(1j * angles)[:, None, None] * np.eye(len(Ac)) - Ac
    transfer = C @ np.linalg.solve(shifted, np.broadcast_to(D, (len(angles), *D.shape)))
    return float(np.linalg.svd(transfer, compute_uv=False).max())


def _circle_angles(Ac: Matrix, D: Matrix, C: Matrix, level: float) -> Matrix:
    """Returns the angles in [0, pi] at which `level` is a singular value, sorted.

    F v = s E v with F = [[Ac, 0], [-C'C, I]] and E = [[I, -D D'/level^2], [0, Ac']] has an
    eigenvalue s on the unit circle exactly there.
    """
    n = len(Ac)
    zero, eye = np.zeros((n, n)), np.eye(n)
    F = np.block([[Ac, zero], [-C.T @ C, eye]])
    E = np.block([[eye, -D @ D.T / level**2], [zero, Ac.T]])
    pairs = np.asarray(scipy.linalg.eigvals(F, E, homogeneous_eigvals=True))
    alpha, beta = pairs[0], pairs[1]
    on_circle = np.abs(np.abs(alpha) - np.abs(beta)) < _CIRCLE_TOLERANCE * np.abs(beta)
    return np.unique(np.abs(np.angle(alpha[on_circle] / beta[on_circle])))


def _norm_by_pencil(Ac: Matrix, D: Matrix, C: Matrix, lower: float) -> float:
    """Raises a lower bound to the norm: between two crossings of a level lies a larger gain."""
    for _ in range(_MAX_PENCIL_ROUNDS):
        crossings = _circle_angles(Ac, D, C, lower * (1.0 + 1e-9))
        edges = np.concatenate([[0.0], crossings, [math.pi]])
        angles = np.concatenate([crossings, 0.5 * (edges[1:] + edges[:-1])])
        raised = _largest_gain(Ac, D, C, angles)
        if raised <= lower * (1.0 + 1e-9):
            break
        lower = raised
    return lower


def _is_norm_below(Ac: Matrix, D: Matrix, C: Matrix, level: float) -> bool:
    """Says whether the bounded real recursion from 0 converges with level^2 I - D'XD > 0."""
    X, is_converged, _ = double_stages(Ac, -D @ D.T / level**2, C.T @ C, D, level)
    if not is_converged:
        return False
    worst_loop = np.linalg.solve(np.eye(len(Ac)) - D @ D.T @ X / level**2, Ac)
    return spectral_radius(worst_loop) < 1.0


def _norm_by_bisection(Ac: Matrix, D: Matrix, C: Matrix, sweep: float) -> float:
    """Bisects the level of the bounded real recursion; the sweep only seeds the bracket."""
    low, high = 0.5 * sweep, 1.01 * sweep
    while not _is_norm_below(Ac, D, C, high):
        low, high = high, 2.0 * high
    while high - low > _BISECTION_RTOL * high:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if _is_norm_below(Ac, D, C, middle) else (middle, high)
    return high


def power_gain(
    rollout_fn: Callable[[Array], Array], w0: Array, n_iter: int = 50
) -> tuple[Array, Array]:
    """Finds a disturbance that a rollout amplifies most, by power iteration on its adjoint.

    w <- ||w0|| * J(w)' z(w) / ||J(w)' z(w)||. For a linear rollout this converges to the
    finite-horizon gain, which grows towards the H-infinity norm with T. For a nonlinear one it is
    the local gain at disturbances of the size of `w0`.

    Args:
      rollout_fn: maps [T, D] disturbances to the [T, Z] performance output of a rollout from the
        equilibrium, so that zero disturbance gives zero output.
      w0: [T, D] start; its norm is the size of the disturbances that are searched.
      n_iter: adjoint steps.

    Returns:
      (gain [], w_worst [T, D]): ||z|| / ||w|| at the disturbance that was found.
    """
    size = jnp.linalg.norm(w0)

    def ascend(w: Array, _: None) -> tuple[Array, None]:
        z, pull_back = jax.vjp(rollout_fn, w)
        (direction,) = pull_back(z)
        length = jnp.linalg.norm(direction)
        safe_length = jnp.where(length > 0, length, 1.0)
        return jnp.where(length > 0, direction * (size / safe_length), w), None

    w_worst, _ = jax.lax.scan(ascend, w0, length=n_iter)
    safe_size = jnp.where(size > 0, size, 1.0)
    return jnp.linalg.norm(rollout_fn(w_worst)) / safe_size, w_worst


__all__ = ["hinf_norm", "power_gain"]
