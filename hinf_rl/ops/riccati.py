"""Ground truth of linear-quadratic games: Riccati solutions, optimal levels, exact gradients.

The system is x_{t+1} = A x + B u + D w with the cost x'Qx + u'Ru and the attenuation level g:
the controller u = -K x lowers sum x'Qx + u'Ru - g^2 w'w, the disturbance w = L x raises it.

NumPy in float64: JAX has no float64 without a process-wide switch, and float32 is not enough
near the optimal level. Matrices and norms of `linear_system` and `hinf_norm` are re-exported, so
that this module is the whole oracle.

Source: Basar and Bernhard, H-infinity optimal control and related minimax design problems, the
discrete-time state-feedback game; the fixed points and gradients are derived here and checked
against finite differences in the tests.
"""

import math
from typing import NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike

from hinf_rl.errors import UserError
from hinf_rl.ops.doubling import double_stages, is_attainable
from hinf_rl.ops.hinf_norm import hinf_norm, power_gain
from hinf_rl.ops.linear_system import (
    SYSTEMS,
    LinearSystem,
    Matrix,
    closed_loop,
    discounted,
    spectral_radius,
)


class GameSolution(NamedTuple):
    """Outcome of the game Riccati recursion.

    Attributes:
      P: [n, n] value matrix, x_0'P x_0 is the game's value; where infeasible, the last iterate
        that kept g^2 I - D'PD positive definite (finite, of no further meaning).
      feasible: whether the level can be attained.
      n_iter: steps taken.
    """

    P: Matrix
    feasible: bool
    n_iter: int


def random_system(seed: int, n: int, m: int, d: int) -> LinearSystem:
    """Draws a system whose dynamics have spectral radius in [0.5, 1.1], that LQR stabilises.

    Args:
      seed: of NumPy's generator.
      n: states.
      m: controls.
      d: disturbances.

    Returns:
      The system; Q is positive definite, so every state is seen in the cost.
    """
    rng = np.random.default_rng([seed, n, m, d])
    while True:
        A = rng.standard_normal((n, n))
        A *= rng.uniform(0.5, 1.1) / max(spectral_radius(A), 1e-3)
        B, D = rng.standard_normal((n, m)), 0.5 * rng.standard_normal((n, d))
        root_q, root_r = rng.standard_normal((n, n)), 0.3 * rng.standard_normal((m, m))
        system = LinearSystem(
            A, B, D, root_q @ root_q.T / n + 0.1 * np.eye(n), root_r @ root_r.T + 0.2 * np.eye(m)
        )
        solution = gare_solve(*system.matrices, math.inf)
        # A value beyond this belongs to an almost uncontrollable unstable mode.
        if solution.feasible and np.trace(solution.P) < 1e3 * np.trace(system.Q):
            return system


def gare_solve(
    A: ArrayLike, B: ArrayLike, D: ArrayLike, Q: ArrayLike, R: ArrayLike, g: float
) -> GameSolution:
    """Solves the game Riccati equation P = Q + A'P Lam^-1 A, Lam = I + (B R^-1 B' - g^-2 D D') P.

    The limit of value iteration from P = 0, reached by doubling, checked against the conditions
    of existence: g^2 I - D'PD > 0, P >= 0, and Lam^-1 A stable.

    Args:
      A: [n, n] dynamics.
      B: [n, m] control input.
      D: [n, d] disturbance input.
      Q: [n, n] state weight.
      R: [m, m] control weight, positive definite.
      g: attenuation level, > 0; `inf` is the LQR problem.

    Returns:
      The value matrix, whether the level is feasible, and the number of doubling steps.

    Raises:
      UserError: `g` is not positive.
    """
    if not g > 0.0:
        raise UserError(f"attenuation level g must be positive, got {g}")
    A, B, D, Q, R = (np.asarray(value, np.float64) for value in (A, B, D, Q, R))
    P, is_converged, n_iter = double_stages(A, _spread(B, D, R, g), Q, D, g)
    return GameSolution(P, is_converged and _is_saddle(A, B, D, R, P, g), n_iter)


def _is_saddle(A: Matrix, B: Matrix, D: Matrix, R: Matrix, P: Matrix, g: float) -> bool:
    """Says whether a converged P is the stabilising, positive semi-definite solution."""
    loop = np.linalg.solve(np.eye(len(A)) + _spread(B, D, R, g) @ P, A)
    is_psd = np.linalg.eigvalsh(P)[0] >= -1e-9 * np.abs(P).max()
    return bool(is_psd) and spectral_radius(loop) < 1.0


def _spread(B: Matrix, D: Matrix, R: Matrix, g: float) -> Matrix:
    """Returns B R^-1 B' - g^-2 D D', [n, n]."""
    return B @ np.linalg.solve(R, B.T) - D @ D.T / g**2


def saddle_gains(
    A: ArrayLike, B: ArrayLike, D: ArrayLike, R: ArrayLike, P: ArrayLike, g: float
) -> tuple[Matrix, Matrix]:
    """Returns K = R^-1 B'P Lam^-1 A and L = g^-2 D'P Lam^-1 A of the game's saddle point.

    Args:
      A: [n, n] dynamics.
      B: [n, m] control input.
      D: [n, d] disturbance input.
      R: [m, m] control weight.
      P: [n, n] solution of the game Riccati equation.
      g: the level it was solved for.

    Returns:
      (K [m, n], L [d, n]) for u = -K x and w = L x.

    Raises:
      UserError: g^2 I - D'PD is not positive definite, so there is no saddle point.
    """
    A, B, D, R, P = (np.asarray(value, np.float64) for value in (A, B, D, R, P))
    if not is_attainable(P, D, g):
        raise UserError(
            f"level g={g:.6g} has no saddle point with this P: g^2 I - D'PD is not positive "
            "definite; use a g above optimal_attenuation(...) and its feasible solution"
        )
    onward = P @ np.linalg.solve(np.eye(len(A)) + _spread(B, D, R, g) @ P, A)
    return np.linalg.solve(R, B.T @ onward), D.T @ onward / g**2


def lqr_gain(A: ArrayLike, B: ArrayLike, Q: ArrayLike, R: ArrayLike) -> Matrix:
    """Returns the gain K [m, n] of u = -K x that minimises sum x'Qx + u'Ru.

    Args:
      A: [n, n] dynamics.
      B: [n, m] control input.
      Q: [n, n] state weight.
      R: [m, m] control weight.

    Raises:
      UserError: the system cannot be stabilised, or Q does not see an unstable mode.
    """
    D = np.zeros((np.shape(A)[0], 1))
    solution = gare_solve(A, B, D, Q, R, math.inf)
    if not solution.feasible:
        raise UserError(
            "LQR has no stabilising gain: (A, B) must be stabilisable and (A, Q) detectable"
        )
    return saddle_gains(A, B, D, R, solution.P, math.inf)[0]


def optimal_attenuation(
    A: ArrayLike, B: ArrayLike, D: ArrayLike, Q: ArrayLike, R: ArrayLike, rtol: float = 1e-9
) -> float:
    """Returns the smallest attainable level g*, from above, by bisection.

    Args:
      A: [n, n] dynamics.
      B: [n, m] control input.
      D: [n, d] disturbance input.
      Q: [n, n] state weight.
      R: [m, m] control weight.
      rtol: relative width of the final bracket.

    Returns:
      A feasible level within `rtol` of g*; 0 where the disturbance reaches no cost.

    Raises:
      UserError: the system cannot be stabilised.
    """
    # The LQR gain attains its own norm, so g* lies below it; the sweep may be a hair short.
    high = hinf_norm(*closed_loop(A, B, D, Q, R, lqr_gain(A, B, Q, R)), method="sweep")
    if high == 0.0:
        return 0.0
    low = 0.0
    while not gare_solve(A, B, D, Q, R, high).feasible:
        low, high = high, 2.0 * high
    while high - low > rtol * high:
        middle = 0.5 * (low + high)
        is_feasible = gare_solve(A, B, D, Q, R, middle).feasible
        low, high = (low, middle) if is_feasible else (middle, high)
    return high


def lq_policy_gradient(
    A: ArrayLike,
    B: ArrayLike,
    D: ArrayLike,
    Q: ArrayLike,
    R: ArrayLike,
    K: ArrayLike,
    L: ArrayLike,
    g: float,
    Sigma0: ArrayLike,
) -> tuple[Matrix, Matrix, Matrix]:
    """Returns the gradients of J(K, L) = trace(P Sigma0), the game's value under fixed gains.

    With Acl = A - B K + D L, P = Q + K'RK - g^2 L'L + Acl'P Acl and
    Sig = Sigma0 + Acl Sig Acl':
      dJ/dK = 2 ((R + B'PB) K - B'P (A + D L)) Sig,
      dJ/dL = 2 ((D'PD - g^2 I) L + D'P (A - B K)) Sig.

    Args:
      A: [n, n] dynamics.
      B: [n, m] control input.
      D: [n, d] disturbance input.
      Q: [n, n] state weight.
      R: [m, m] control weight.
      K: [m, n] control gain, u = -K x.
      L: [d, n] disturbance gain, w = L x.
      g: attenuation level.
      Sigma0: [n, n] second moment of x_0; the natural gradient has Sig = I in the two lines.

    Returns:
      (gK [m, n], gL [d, n], P [n, n]).

    Raises:
      UserError: A - B K + D L is not stable, so the value is infinite.
    """
    A, B, D, Q, R, K, L = (np.asarray(value, np.float64) for value in (A, B, D, Q, R, K, L))
    loop = A - B @ K + D @ L
    P = _value_under(loop, Q + K.T @ R @ K - g**2 * L.T @ L)
    visits = scipy.linalg.solve_discrete_lyapunov(loop, np.asarray(Sigma0, np.float64))
    grad_k = 2.0 * ((R + B.T @ P @ B) @ K - B.T @ P @ (A + D @ L)) @ visits
    grad_l = 2.0 * (D.T @ P @ (A - B @ K + D @ L) - g**2 * L) @ visits
    return grad_k, grad_l, P


def _value_under(loop: Matrix, cost: Matrix) -> Matrix:
    """Returns P = cost + loop'P loop, [n, n]."""
    radius = spectral_radius(loop)
    if radius >= 1.0:
        raise UserError(
            f"A - B K + D L has spectral radius {radius:.6g}, so the value is infinite; "
            "use gains with a radius below 1"
        )
    return scipy.linalg.solve_discrete_lyapunov(loop.T, cost)


def constrained_fixed_point(
    A: ArrayLike,
    B: ArrayLike,
    D: ArrayLike,
    Q: ArrayLike,
    R: ArrayLike,
    eta: float,
    lam: float,
    split: bool,
    *,
    use_disturber: bool = True,
    damping: float = 0.1,
    n_iter: int = 5000,
    rtol: float = 1e-12,
) -> tuple[Matrix, Matrix]:
    """Returns the gains at which the actor with a multiplier and the disturber both rest.

    The cost C_t is x'Qx + u'Ru, or x'Qx alone where `split` (u'Ru is then an auxiliary cost).
    The actor minimises x'Qx + u'Ru + lam (C - eta w'w), the disturber maximises C - eta w'w;
    each side's gain answers the other's, found by damped alternation from the LQR gain and L = 0.

    Args:
      A: [n, n] dynamics.
      B: [n, m] control input.
      D: [n, d] disturbance input.
      Q: [n, n] state weight.
      R: [m, m] control weight.
      eta: bound on cost per squared disturbance, the square of an attenuation level.
      lam: multiplier, >= 0; `inf` is the zero-sum game unless `split`.
      split: whether the control effort is left out of the constrained cost.
      use_disturber: False leaves w = 0.
      damping: part of the way to the answer that each step goes.
      n_iter: largest number of steps.
      rtol: relative change at which the steps end.

    Returns:
      (K [m, n], L [d, n]).

    Raises:
      UserError: bad multiplier or level, no fixed point at this level, or no convergence.
    """
    if not eta > 0.0 or not lam >= 0.0 or (split and math.isinf(lam)):
        raise UserError(f"need eta > 0, lam >= 0 (finite if split), got eta={eta}, lam={lam}")
    A, B, D, Q, R = (np.asarray(value, np.float64) for value in (A, B, D, Q, R))
    # Not split, the actor's objective divided by 1 + lam, so that lam = inf has a meaning.
    share = 1.0 if math.isinf(lam) else lam / (1.0 + lam)
    actor_q, price = ((1.0 + lam) * Q, lam * eta) if split else (Q, share * eta)
    task_r = np.zeros_like(R) if split else R
    K = lqr_gain(A, B, actor_q, R)
    L = np.zeros((D.shape[1], len(A)))
    if not use_disturber:
        return K, L
    for _ in range(n_iter):
        loop = A - B @ K + D @ L
        actor_p = _value_under(loop, actor_q + K.T @ R @ K - price * L.T @ L)
        disturber_p = _value_under(loop, Q + K.T @ task_r @ K - eta * L.T @ L)
        if not is_attainable(disturber_p, D, math.sqrt(eta)):
            raise UserError(f"eta={eta:.6g} has no fixed point at lam={lam:.6g}; use a larger eta")
        margin = eta * np.eye(D.shape[1]) - D.T @ disturber_p @ D
        step_k = np.linalg.solve(R + B.T @ actor_p @ B, B.T @ actor_p @ (A + D @ L)) - K
        step_l = np.linalg.solve(margin, D.T @ disturber_p @ (A - B @ K)) - L
        K, L = K + damping * step_k, L + damping * step_l
        size = np.linalg.norm(K) + np.linalg.norm(L)
        if np.linalg.norm(step_k) + np.linalg.norm(step_l) <= rtol * size:
            return K, L
    raise UserError(f"no fixed point within {n_iter} steps; use a smaller damping than {damping}")


__all__ = [
    "SYSTEMS",
    "GameSolution",
    "LinearSystem",
    "closed_loop",
    "constrained_fixed_point",
    "discounted",
    "gare_solve",
    "hinf_norm",
    "lq_policy_gradient",
    "lqr_gain",
    "optimal_attenuation",
    "power_gain",
    "random_system",
    "saddle_gains",
    "spectral_radius",
]
