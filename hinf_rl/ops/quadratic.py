"""Least squares by which linear Gaussian players learn a linear-quadratic game from samples.

Where the dynamics are linear and the rewards quadratic, a transition is determined by the state
and the players' noise, so that the one-step temporal difference is exactly a quadratic function
of (x, noise). Two regressions follow: `lstd` for the value heads and `gaussian_gain_step` for
what a player gains by changing its gain. Both carry the other quadratic terms as nuisance
features, which takes the sampling noise out of them; neither knows the system.

All arithmetic is float32, so states are whitened, every feature is scaled to unit root mean
square, and the solution is refined against the residual of the data.

The step rule for the simultaneous game: each iteration fits `lstd` with the noise of both players,
takes advantages at GAE lambda 0, and moves both gains by `gain_update`, the actor 0.5 and the
disturber 0.05 of the way. The actor must be the faster one: with the exact model, from the LQR
gain and no disturbance, all of 64 systems converge at 1.05, 1.1, 1.2 and 2 times the optimal level
(at most 170 iterations to 0.5 %); a disturber four times as fast as the actor fails on a third of
34 systems at 1.2 times. From samples (512 x 50 steps, noise 0.3) the gains end within 5e-5 of the
saddle point; GAE lambda 0.95, or no noise terms, leaves up to 1e-3.

An unstable system cannot start from zero gains at the final discount, where the temporal
difference equation has another solution. Let 1 - discount fall from 0.5 to 0.01 first, over eight
stages of four actor steps each.
"""

import jax
import jax.numpy as jnp

from hinf_rl.types import Array, Numeric

# TF32 on a GPU would leave three digits of a moment matrix.
_EXACT = jax.lax.Precision.HIGHEST
_REFINEMENTS = 3


def quadratic_features(x: Array) -> Array:
    """Returns the monomials x_i x_j (i <= j, row by row) and, last, 1.

    Args:
      x: [..., n] states.

    Returns:
      [..., F] features, F = n (n + 1) / 2 + 1.
    """
    rows, columns = jnp.triu_indices(x.shape[-1])
    ones = jnp.ones((*x.shape[:-1], 1), x.dtype)
    return jnp.concatenate([x[..., rows] * x[..., columns], ones], axis=-1)


def quadratic_value(weights: Array, x: Array) -> Array:
    """Returns the values of all heads.

    Args:
      weights: [F, H] from `lstd`.
      x: [..., n] states.

    Returns:
      [..., H] values.
    """
    return jnp.matmul(quadratic_features(x), weights, precision=_EXACT)


def lstd(
    x_t: Array,
    x_tp1: Array,
    r_t: Array,
    discount_t: Array,
    *,
    noise_t: Array | None = None,
    mask_t: Array | None = None,
    ridge: float = 1e-6,
) -> Array:
    """Fits V(x) = phi(x)'weights to V(x_t) = E[r_t + discount_t V(x_{t+1})] for every head.

    With `noise_t` the temporal difference is modelled as noise terms (noise_i x_j and centred
    noise_i noise_j) instead of being averaged out; for a linear-quadratic system the fit is then
    exact from finitely many samples. Samples that do not count must still be finite.
    Source: LSTD (Bradtke and Barto, 1996) and its form with compatible features in the natural
    actor-critic (Peters and Schaal, 2008).

    Args:
      x_t: [N, n] states.
      x_tp1: [N, n] next states (the true ones, not those after a reset).
      r_t: [N, H] rewards, one column per head.
      discount_t: [N] gamma * (1 - terminated).
      noise_t: [N, k] all players' noise, action minus mean; None for the plain estimator.
      mask_t: [N] 1 for the samples that count, 0 for the others; None counts all.
      ridge: relative regularisation; refined away where the data determine the weights.

    Returns:
      [F, H] weights of `quadratic_features`.
    """
    weight = jnp.ones_like(discount_t) if mask_t is None else mask_t.astype(x_t.dtype)
    whitener = _whitener(x_t, weight)
    y_t, y_tp1 = (jnp.matmul(x, whitener, precision=_EXACT) for x in (x_t, x_tp1))
    phi_t, phi_tp1 = quadratic_features(y_t), quadratic_features(y_tp1)
    instruments, difference = phi_t, phi_t - discount_t[:, None] * phi_tp1
    if noise_t is not None:
        noise = noise_t / _rms(noise_t, weight)
        pure = quadratic_features(noise)[:, :-1]
        mean = jnp.sum(weight[:, None] * pure, axis=0, keepdims=True) / _count(weight)
        nuisance = jnp.concatenate([_products(noise, y_t), pure - mean], axis=-1)
        instruments = jnp.concatenate([instruments, nuisance], axis=-1)
        difference = jnp.concatenate([difference, nuisance], axis=-1)
    solution = _solve(instruments, difference, r_t, weight, ridge)
    return jnp.matmul(_feature_map(whitener), solution[: phi_t.shape[-1]], precision=_EXACT)


def gaussian_gain_step(
    x: Array,
    noise: Array,
    advantage: Array,
    mask: Array,
    *,
    other_noise: Array | None = None,
    ridge: float = 1e-6,
) -> tuple[Array, Array]:
    """Regresses a player's advantage on its noise: A ~ noise'G x - noise'H noise + the rest.

    The rest is what the player cannot choose: functions of x alone, the other player's noise and
    its products with everything. The player's own best mean is then 1/2 H^-1 G x further on; the
    natural policy gradient of the gain is proportional to G (compatible features).

    Args:
      x: [N, n] states.
      noise: [N, m] the player's action minus its mean.
      advantage: [N] of the player that maximises it; any positive scale.
      mask: [N] 1 for the samples that count, 0 for the others.
      other_noise: [N, k] the other player's noise; None where there is no other player.
      ridge: relative regularisation, as in `lstd`.

    Returns:
      (direction G [m, n], curvature H [m, m], symmetric).
    """
    size, num_states = noise.shape[-1], x.shape[-1]
    weight = mask.astype(x.dtype)
    whitener, scale = _whitener(x, weight), _rms(noise, weight)
    y, e = jnp.matmul(x, whitener, precision=_EXACT), noise / scale
    blocks = [_products(e, y), quadratic_features(e)[:, :-1], quadratic_features(y)]
    if other_noise is not None:
        o = other_noise / _rms(other_noise, weight)
        blocks += [_products(o, y), _products(e, o), quadratic_features(o)[:, :-1]]
    features = jnp.concatenate(blocks, axis=-1)
    solution = _solve(features, features, advantage[:, None], weight, ridge)[:, 0]
    slope = solution[: size * num_states].reshape(size, num_states)
    direction = jnp.matmul(slope, whitener.T, precision=_EXACT) / scale.T
    rows, columns = jnp.triu_indices(size)
    bend = solution[size * num_states :][: rows.size] / (scale[0, rows] * scale[0, columns])
    upper = jnp.zeros((size, size), x.dtype).at[rows, columns].set(bend)
    return direction, -0.5 * (upper + upper.T)


def gain_update(
    gain: Array,
    direction: Array,
    curvature: Array,
    *,
    step: Numeric,
    min_curvature: Numeric = 0.0,
    max_relative_change: Numeric = 1.0,
) -> Array:
    """Moves a gain part of the way to the player's best answer, gain + 1/2 H^-1 G.

    An estimated H that is not positive definite would turn ascent into descent; its eigenvalues
    are replaced by their absolute values, and none is taken below `min_curvature` or a
    thousandth of the largest.

    Args:
      gain: [m, n] the mean action is gain x.
      direction: [m, n] G of `gaussian_gain_step`.
      curvature: [m, m] H of `gaussian_gain_step`.
      step: part of the way, in (0, 1].
      min_curvature: smallest eigenvalue of H that is believed, in the advantage's unit per
        squared action; a tenth of the price of a squared disturbance suits a disturber.
      max_relative_change: largest Frobenius norm of the change, relative to 1 + |gain|.

    Returns:
      [m, n] the new gain; the old one where the estimates are not finite.
    """
    is_finite = jnp.all(jnp.isfinite(direction)) & jnp.all(jnp.isfinite(curvature))
    eye = jnp.eye(curvature.shape[-1], dtype=curvature.dtype)
    values, vectors = jnp.linalg.eigh(jnp.where(is_finite, curvature, eye))
    direction = jnp.where(is_finite, direction, 0.0)
    values = jnp.abs(values)
    # The last floor keeps the division finite; the limit on the change has long taken over there.
    floor = jnp.maximum(1e-3 * jnp.max(values), 1e-6 * jnp.linalg.norm(direction))
    values = jnp.maximum(values, jnp.maximum(floor, min_curvature))
    values = jnp.where(values > 0, values, 1.0)
    rotated = jnp.matmul(vectors.T, direction, precision=_EXACT)
    change = jnp.matmul(vectors, rotated / values[:, None], precision=_EXACT) * (0.5 * step)
    limit = max_relative_change * (1.0 + jnp.linalg.norm(gain))
    length = jnp.linalg.norm(change)
    return gain + change * (limit / jnp.maximum(length, limit))


def _count(weight: Array) -> Array:
    """Number of samples that count, [], at least 1."""
    return jnp.maximum(jnp.sum(weight), 1.0)


def _rms(value: Array, weight: Array) -> Array:
    """Root mean square of each column of [N, k], [1, k]; 1 where a column is all zero."""
    rms = jnp.sqrt(jnp.sum(weight[:, None] * value**2, axis=0, keepdims=True) / _count(weight))
    return jnp.where(rms > 0, rms, 1.0)


def _whitener(x: Array, weight: Array) -> Array:
    """Returns W [n, n] such that x W has about unit second moments."""
    scale = _rms(x, weight)
    scaled = x / scale
    moment = jnp.matmul(scaled.T, weight[:, None] * scaled, precision=_EXACT) / _count(weight)
    values, vectors = jnp.linalg.eigh(moment)
    # A direction that the samples hardly visit is left small rather than blown up to noise.
    values = jnp.maximum(values, 1e-5 * jnp.max(values))
    safe_values = jnp.where(values > 0, values, 1.0)
    return vectors / jnp.sqrt(safe_values)[None, :] / scale.T


def _products(left: Array, right: Array) -> Array:
    """All products left_i right_j, [N, k * l], row by row."""
    return (left[:, :, None] * right[:, None, :]).reshape(left.shape[0], -1)


def _feature_map(whitener: Array) -> Array:
    """Returns T [F, F] such that phi(x W)'v = phi(x)'(T v)."""
    n = whitener.shape[0]
    rows, columns = jnp.triu_indices(n)
    # (xW)_a (xW)_b = sum_ij x_i x_j W_ia W_jb; off-diagonal monomials collect ij and ji.
    both = (
        whitener[rows[:, None], rows] * whitener[columns[:, None], columns]
        + whitener[columns[:, None], rows] * whitener[rows[:, None], columns]
    )
    quadratic = jnp.where((rows == columns)[:, None], 0.5 * both, both)
    return jnp.pad(quadratic, ((0, 1), (0, 1))).at[-1, -1].set(1.0)


def _solve(
    instruments: Array, features: Array, target: Array, weight: Array, ridge: float
) -> Array:
    """Solves instruments'(features v - target) = 0 with a ridge, then refines it.

    Args:
      instruments: [N, F] equal to `features` for least squares.
      features: [N, F].
      target: [N, H].
      weight: [N] 0 or 1.
      ridge: added to the moment matrix of the scaled columns.

    Returns:
      [F, H] coefficients.
    """
    scale_left, scale = _rms(instruments, weight), _rms(features, weight)
    left = (instruments / scale_left * weight[:, None]).T / _count(weight)
    right = features / scale
    moment = jnp.matmul(left, right, precision=_EXACT)
    factor = jax.scipy.linalg.lu_factor(moment + ridge * jnp.eye(len(moment), dtype=moment.dtype))

    def refine(solution: Array, _: None) -> tuple[Array, None]:
        # Against the data, not the moments: their rounding error is what is being removed.
        residual = target - jnp.matmul(right, solution, precision=_EXACT)
        correction = jnp.matmul(left, residual, precision=_EXACT)
        return solution + jax.scipy.linalg.lu_solve(factor, correction), None

    start = jnp.zeros((features.shape[-1], target.shape[-1]), features.dtype)
    solution, _ = jax.lax.scan(refine, start, length=1 + _REFINEMENTS)
    return solution / scale.T


__all__ = [
    "gain_update",
    "gaussian_gain_step",
    "lstd",
    "quadratic_features",
    "quadratic_value",
]
