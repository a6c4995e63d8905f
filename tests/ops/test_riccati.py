"""The oracle itself is held against closed forms, a slow recursion and finite differences."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hinf_rl.errors import UserError
from hinf_rl.ops.riccati import (
    SYSTEMS,
    LinearSystem,
    closed_loop,
    discounted,
    gare_solve,
    hinf_norm,
    lq_policy_gradient,
    lqr_gain,
    optimal_attenuation,
    random_system,
    saddle_gains,
    spectral_radius,
)

# The reference tables were made at levels rounded to six digits; near g* a gain moves by about
# ten times the relative change of the level.
TABLE_RTOL = 4e-6

# g*, LQR gain, LQR norm; at 1.2 g*: K, L, ||T_K||.
TABLE = {
    "S1": (1.414214, [0.618034], 1.902113, [0.834884], [0.289890], 1.560339),
    "S2": (
        0.342722,
        [2.761715, 2.649102],
        0.523049,
        [4.450498, 5.101575],
        [2.631255, 3.016189],
        0.393738,
    ),
    "S3": (
        0.116581,
        [21.54887, 6.857188],
        0.202372,
        [41.027414, 12.986617],
        [20.963121, 6.635563],
        0.135272,
    ),
    "S4": (
        1.371657,
        [0.300341, 0.681245, 0.240479, 0.186645, 0.061471, 1.066982],
        1.885951,
        [0.617100, 0.800172, 0.286331, 0.363079, 0.128417, 1.098716],
        [0.657532, 0.218428, 0.095378, 0.058956, 0.063809, 0.061691],
        1.559575,
    ),
}

shapes = st.tuples(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 2), st.integers(1, 2))


def gains_at(system, g):
    """(K, L) of the saddle point at level g."""
    solution = gare_solve(*system.matrices, g)
    assert solution.feasible
    return saddle_gains(system.A, system.B, system.D, system.R, solution.P, g)


def norm_of(system, K, method="pencil"):
    return hinf_norm(*closed_loop(*system.matrices, K), method=method)


def value_iterates(A, B, D, Q, R, g, n_steps):
    """P_1, P_2, ... by the block form of the recursion: another formula than the library's."""
    P = np.zeros_like(A)
    for _ in range(n_steps):
        top, bottom = B.T @ P, D.T @ P
        block = np.block(
            [[R + top @ B, top @ D], [bottom @ B, bottom @ D - g**2 * np.eye(D.shape[1])]]
        )
        cross = np.vstack([top @ A, bottom @ A])
        P = Q + A.T @ P @ A - cross.T @ np.linalg.solve(block, cross)
        P = 0.5 * (P + P.T)  # An antisymmetric rounding error would grow with unstable A.
        yield P


# --- closed forms -------------------------------------------------------------------------------


@pytest.mark.parametrize("g", [1.5, 2.0, 3.0, math.inf])
@pytest.mark.smoke
def test_scalar_game_has_its_closed_form(g):
    # A=B=D=Q=R=1: P = 1 + P/(1 + aP) with a = 1 - 1/g^2, so aP^2 - aP - 1 = 0 and
    # P = 1/2 + sqrt(1/4 + 1/a); K = P/(1 + aP), L = K/g^2.
    a = 1.0 - g**-2
    P = 0.5 + math.sqrt(0.25 + 1.0 / a)
    K, L = gains_at(SYSTEMS["S1"], g)
    np.testing.assert_allclose(gare_solve(*SYSTEMS["S1"].matrices, g).P, [[P]], rtol=1e-12)
    np.testing.assert_allclose(K, [[P / (1.0 + a * P)]], rtol=1e-12)
    np.testing.assert_allclose(L, [[P / (1.0 + a * P) / g**2]], rtol=1e-12)


def test_scalar_game_at_level_two_matches_the_printed_digits():
    K, L = gains_at(SYSTEMS["S1"], 2.0)
    P = gare_solve(*SYSTEMS["S1"].matrices, 2.0).P
    np.testing.assert_allclose([P[0, 0], K[0, 0], L[0, 0]], [1.758306, 0.758306, 0.189576], 3e-6)


def test_scalar_optimum_is_the_square_root_of_two():
    # Feasible iff g^2 > P; at g^2 = 2: a = 1/2, P = 1/2 + sqrt(1/4 + 2) = 2, K = 2/(1 + 1) = 1.
    system = SYSTEMS["S1"]
    np.testing.assert_allclose(
        optimal_attenuation(*system.matrices, 1e-12), math.sqrt(2.0), rtol=1e-11
    )
    K, _ = gains_at(system, math.sqrt(2.0) * (1.0 + 1e-10))
    np.testing.assert_allclose(K, [[1.0]], rtol=1e-8)


def test_stateless_system_needs_no_control():
    # A = 0: x_{t+1} = u + w is only made worse by u, so K = 0, z_{t+1} = w_t and g* = 1.
    system = LinearSystem(np.zeros((1, 1)), *(np.eye(1),) * 4)
    np.testing.assert_allclose(optimal_attenuation(*system.matrices), 1.0, rtol=1e-8)
    np.testing.assert_allclose(gains_at(system, 2.0)[0], [[0.0]], atol=1e-12)


# --- reference tables ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.smoke
def test_reference_table(name):
    system, (level, lqr, lqr_norm, K, L, norm) = SYSTEMS[name], TABLE[name]
    ours = optimal_attenuation(*system.matrices)
    np.testing.assert_allclose(ours, level, atol=6e-7)
    ours_lqr = lqr_gain(system.A, system.B, system.Q, system.R)
    np.testing.assert_allclose(ours_lqr.ravel(), lqr, rtol=TABLE_RTOL, atol=6e-7)
    np.testing.assert_allclose(norm_of(system, ours_lqr), lqr_norm, atol=6e-7)
    ours_k, ours_l = gains_at(system, 1.2 * ours)
    np.testing.assert_allclose(ours_k.ravel(), K, rtol=TABLE_RTOL, atol=6e-7)
    np.testing.assert_allclose(ours_l.ravel(), L, rtol=TABLE_RTOL, atol=6e-7)
    np.testing.assert_allclose(norm_of(system, ours_k), norm, rtol=TABLE_RTOL, atol=6e-7)


@pytest.mark.parametrize(
    ("factor", "gain", "norm"),
    [
        (1.05, [6.054692, 7.847205], 0.357734),
        (1.5, [3.562674, 3.750757], 0.438509),
        (10.0, [2.774459, 2.665692], 0.521090),
    ],
)
def test_double_integrator_at_other_levels(factor, gain, norm):
    system = SYSTEMS["S2"]
    K, _ = gains_at(system, factor * optimal_attenuation(*system.matrices))
    np.testing.assert_allclose(K[0], gain, rtol=TABLE_RTOL)
    np.testing.assert_allclose(norm_of(system, K), norm, rtol=TABLE_RTOL)


def test_double_integrator_value_matrix():
    system = SYSTEMS["S2"]
    P = gare_solve(*system.matrices, 1.2 * optimal_attenuation(*system.matrices)).P
    np.testing.assert_allclose([*P[0], P[1, 1]], [11.462929, 5.496791, 5.751254], rtol=TABLE_RTOL)


def test_discounted_double_integrator():
    system = SYSTEMS["S2"]
    A, B, D = discounted(system.A, system.B, system.D, 0.99)
    np.testing.assert_allclose(
        optimal_attenuation(A, B, D, system.Q, system.R), 0.340373, atol=6e-7
    )
    solution = gare_solve(A, B, D, system.Q, system.R, 0.51056)
    K, L = saddle_gains(A, B, D, system.R, solution.P, 0.51056)
    np.testing.assert_allclose(K[0], [3.411541, 3.621864], rtol=TABLE_RTOL)
    np.testing.assert_allclose(L[0], [1.308753, 1.389438], rtol=TABLE_RTOL)
    np.testing.assert_allclose(
        lqr_gain(A, B, system.Q, system.R)[0], [2.645471, 2.556021], rtol=TABLE_RTOL
    )
    # The norms are those of the undiscounted loop.
    np.testing.assert_allclose(norm_of(system, K), 0.4458, atol=6e-5)
    np.testing.assert_allclose(
        norm_of(system, lqr_gain(A, B, system.Q, system.R)), 0.5358, atol=6e-5
    )


# --- properties on random systems ---------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(shape=shapes, factor=st.floats(1.02, 4.0))
def test_doubling_is_the_limit_of_monotone_value_iteration(shape, factor):
    system = random_system(*shape)
    g = factor * optimal_attenuation(*system.matrices)
    solution = gare_solve(*system.matrices, g)
    assert solution.feasible
    scale, previous = np.trace(solution.P), np.zeros_like(system.A)
    for P in value_iterates(*system.matrices, g, 400):
        assert np.linalg.eigvalsh(P - previous)[0] >= -1e-9 * scale
        assert np.linalg.eigvalsh(solution.P - P)[0] >= -1e-9 * scale
        previous = P
    # Closed loop with both players: the error of value iteration falls as its radius squared.
    K, L = saddle_gains(system.A, system.B, system.D, system.R, solution.P, g)
    radius = spectral_radius(system.A - system.B @ K + system.D @ L)
    np.testing.assert_allclose(
        previous, solution.P, atol=scale * (1e-8 + 1e3 * radius**800), rtol=0.0
    )


@settings(deadline=None, max_examples=25)
@given(shape=shapes, factor=st.floats(1.01, 4.0))
def test_saddle_gain_attains_its_level(shape, factor):
    system = random_system(*shape)
    best = optimal_attenuation(*system.matrices)
    K, _ = gains_at(system, factor * best)
    norm = norm_of(system, K)
    assert best * (1.0 - 1e-6) <= norm < factor * best


@settings(deadline=None, max_examples=25)
@given(shape=shapes)
def test_levels_below_the_optimum_are_infeasible(shape):
    system = random_system(*shape)
    best = optimal_attenuation(*system.matrices)
    for factor in (0.1, 0.7, 0.99):
        solution = gare_solve(*system.matrices, factor * best)
        assert not solution.feasible
        assert np.isfinite(solution.P).all()


@settings(deadline=None, max_examples=15)
@given(shape=shapes, noise_seed=st.integers(0, 1000))
def test_bounded_real_property(shape, noise_seed):
    # sum |z|^2 <= g^2 sum |w|^2 + x_0'P x_0 for every disturbance.
    system = random_system(*shape)
    g = 1.2 * optimal_attenuation(*system.matrices)
    P = gare_solve(*system.matrices, g).P
    K, L = saddle_gains(system.A, system.B, system.D, system.R, P, g)
    rng = np.random.default_rng(noise_seed)
    x = rng.standard_normal(len(system.A))
    budget, cost = x @ P @ x, 0.0
    for _ in range(200):
        w = L @ x * rng.uniform(0.0, 2.0) + rng.standard_normal(system.D.shape[1])
        u = -K @ x
        cost += x @ system.Q @ x + u @ system.R @ u
        budget += g**2 * w @ w
        x = system.A @ x + system.B @ u + system.D @ w
    assert cost <= budget * (1.0 + 1e-9)


@settings(deadline=None, max_examples=15)
@given(shape=shapes, factor=st.floats(1.1, 3.0))
def test_policy_gradients_match_finite_differences(shape, factor):
    system = random_system(*shape)
    g = factor * optimal_attenuation(*system.matrices)
    K, L = gains_at(system, g)
    L = 0.5 * L  # Away from the saddle point both gradients are alive.
    if spectral_radius(system.A - system.B @ K + system.D @ L) > 0.97:
        return
    sigma = np.eye(len(system.A))

    def value(k, w):
        return np.trace(lq_policy_gradient(*system.matrices, k, w, g, sigma)[2] @ sigma)

    grad_k, grad_l, P = lq_policy_gradient(*system.matrices, K, L, g, sigma)
    for which, (gain, grad) in enumerate(((K, grad_k), (L, grad_l))):
        h = 1e-5 * max(1.0, np.abs(gain).max())
        for index in np.ndindex(gain.shape):
            step = np.zeros_like(gain)
            step[index] = h
            pair = [(K + s * step, L) if which == 0 else (K, L + s * step) for s in (1, -1)]
            slope = (value(*pair[0]) - value(*pair[1])) / (2 * h)
            tolerance = 1e-5 * (np.abs(grad).max() + np.trace(P))
            np.testing.assert_allclose(slope, grad[index], atol=tolerance, rtol=0.0)


@pytest.mark.smoke
def test_policy_gradients_vanish_at_the_saddle_point():
    for system in SYSTEMS.values():
        g = 1.3 * optimal_attenuation(*system.matrices)
        K, L = gains_at(system, g)
        grad_k, grad_l, P = lq_policy_gradient(*system.matrices, K, L, g, np.eye(len(system.A)))
        np.testing.assert_allclose(P, gare_solve(*system.matrices, g).P, rtol=1e-8)
        assert max(np.abs(grad_k).max(), np.abs(grad_l).max()) < 1e-8 * np.trace(P) ** 2


# --- bad input ----------------------------------------------------------------------------------


def test_value_of_an_unstable_loop_is_an_error():
    system = SYSTEMS["S3"]
    with pytest.raises(UserError, match="spectral radius"):
        lq_policy_gradient(*system.matrices, np.zeros((1, 2)), np.zeros((1, 2)), 1.0, np.eye(2))


def test_unstabilisable_system_is_an_error():
    with pytest.raises(UserError, match="stabilisable"):
        lqr_gain(2.0 * np.eye(1), np.zeros((1, 1)), np.eye(1), np.eye(1))


def test_saddle_of_an_infeasible_level_is_an_error():
    system = SYSTEMS["S1"]
    with pytest.raises(UserError, match="no saddle point"):
        saddle_gains(system.A, system.B, system.D, system.R, 3.0 * np.eye(1), 1.0)


def test_disturbance_that_reaches_nothing_needs_no_level():
    A, B, _, Q, R = SYSTEMS["S2"].matrices
    assert optimal_attenuation(A, B, np.zeros((2, 1)), Q, R) == 0.0


@pytest.mark.parametrize("level", [0.0, -1.0, math.nan])
def test_level_must_be_positive(level):
    with pytest.raises(UserError, match="must be positive"):
        gare_solve(*SYSTEMS["S1"].matrices, level)


def test_random_systems_are_reproducible_and_stabilisable():
    first, again = random_system(7, 3, 2, 1), random_system(7, 3, 2, 1)
    np.testing.assert_array_equal(first.A, again.A)
    K = lqr_gain(first.A, first.B, first.Q, first.R)
    assert spectral_radius(first.A - first.B @ K) < 1.0
