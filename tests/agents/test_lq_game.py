"""Linear players against the exact saddle point of linear-quadratic games."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.agents.hinf import gains, lq_config, make, solve_lq_game, with_gains
from hinf_rl.agents.hinf.config import PlayerConfig
from hinf_rl.envs.lq import LQEnv
from hinf_rl.errors import UserError
from hinf_rl.ops.riccati import (
    SYSTEMS,
    LinearSystem,
    closed_loop,
    discounted,
    gare_solve,
    hinf_norm,
    lqr_gain,
    optimal_attenuation,
    random_system,
    saddle_gains,
)

GAMMA = 0.99
SMALL = {"seeds": 1, "num_envs": 64, "episode_length": 25}


def saddle(system, factor):
    """(level, K, L) of the discounted game at `factor` times its least level."""
    A, B, D = discounted(system.A, system.B, system.D, GAMMA)
    g = factor * optimal_attenuation(A, B, D, system.Q, system.R)
    P = gare_solve(A, B, D, system.Q, system.R, g).P
    return g, *saddle_gains(A, B, D, system.R, P, g)


def relative_error(value, exact):
    return np.linalg.norm(value - exact) / np.linalg.norm(exact)


def in_other_units(system, scale):
    """The same system with the state measured in other units, x -> diag(scale) x."""
    T, inverse = np.diag(scale), np.diag(1.0 / np.asarray(scale))
    return LinearSystem(
        T @ system.A @ inverse, T @ system.B, T @ system.D, inverse @ system.Q @ inverse, system.R
    )


def carry_of(hidden=()):
    config = lq_config(0.5, num_envs=4, episode_length=3)
    if hidden:
        config = dataclasses.replace(
            config, actor=PlayerConfig(hidden=hidden), update="surrogate",
            critic=dataclasses.replace(config.critic, kind="network"),
        )  # fmt: skip
    algorithm = make(config, LQEnv(SYSTEMS["S4"], episode_length=3))
    return algorithm, algorithm.init(jax.random.key(0))


def test_scalar_game_matches_its_closed_form():
    # A = B = D = Q = R = 1 discounted by b: with a = 1 - 1/g^2 the fixed point of
    # P = 1 + b P / (1 + b a P) is the positive root of b a P^2 + (1 - b a - b) P - 1 = 0,
    # K = b P / (1 + b a P) and L = K / g^2.
    g, b = 2.0, GAMMA
    a = 1.0 - g**-2
    P = max(np.roots([b * a, 1.0 - b * a - b, -1.0]))
    K = b * P / (1.0 + b * a * P)
    result = solve_lq_game(SYSTEMS["S1"], g, iterations=300, **SMALL)
    np.testing.assert_allclose(result.K, [[[K]]], rtol=1e-4)
    np.testing.assert_allclose(result.L, [[[K / g**2]]], rtol=1e-4)
    # ||T|| of the scalar loop is sqrt(1 + K^2) / (1 - |1 - K|).
    np.testing.assert_allclose(result.norm, np.sqrt(1 + K**2) / (1 - abs(1 - K)), rtol=1e-4)
    assert result.change[0] < 1e-4


@pytest.mark.parametrize(
    ("system", "factor"),
    [
        # LQR's gain is infeasible for the game at 1.2 g*: the start must not matter.
        (SYSTEMS["S2"], 1.2),
        # Three states, two inputs, two disturbances; a state in units a thousand times as small.
        (in_other_units(SYSTEMS["S4"], (1.0, 1000.0, 1.0)), 1.2),
    ],
    ids=["integrator near the limit", "mixed units"],
)
def test_saddle_point_is_learned_from_samples(system, factor):
    g, K, L = saddle(system, factor)
    result = solve_lq_game(system, g, iterations=300, **SMALL)
    assert relative_error(result.K[0], K) < 5e-3
    assert relative_error(result.L[0], L) < 5e-3
    oracle = hinf_norm(*closed_loop(*system.matrices, K))
    assert result.norm[0] < 1.005 * oracle
    assert result.least_attenuation == pytest.approx(g / factor)


# 1 to 5 states, 1 to 3 inputs of each kind. Every size compiles anew: the two largest always; the
# scalar, three states and one input have tests of their own above.
@pytest.mark.slow
@pytest.mark.parametrize(
    "seed", [4, *(pytest.param(s, marks=pytest.mark.long) for s in (0, 7, 9, 11))]
)
def test_random_systems_are_solved_at_any_size(seed):
    system = random_system(200 + seed, 1 + seed % 5, 1 + seed % 3, 1 + (seed // 2) % 3)
    g, K, L = saddle(system, 1.2)
    result = solve_lq_game(system, g, iterations=300, **SMALL)
    assert relative_error(result.K[0], K) < 0.02
    assert relative_error(result.L[0], L) < 0.02


def test_seeds_are_independent_and_repeatable():
    g, *_ = saddle(SYSTEMS["S1"], 1.5)
    two = solve_lq_game(SYSTEMS["S1"], g, iterations=3, **{**SMALL, "seeds": 2})
    one = solve_lq_game(SYSTEMS["S1"], g, iterations=3, **SMALL)
    np.testing.assert_array_equal(two.K[0], one.K[0])
    assert two.L[0] != two.L[1]
    assert two.K.shape == (2, 1, 1) and two.norm.shape == (2,)


def test_gains_are_read_as_they_were_set():
    algorithm, carry = carry_of()
    K, L = np.arange(6.0).reshape(2, 3) / 8.0, -np.arange(6.0).reshape(2, 3) / 4.0
    carry = with_gains(carry, actor=K, disturber=L)
    np.testing.assert_array_equal(gains(carry)[0], K)
    np.testing.assert_array_equal(gains(carry)[1], L)
    # u = -K x: x = (1, 2, 4) gives -(0 + 2 + 8) / 8 = -1.25 and -(3 + 8 + 20) / 8 = -3.875.
    u = algorithm.policy(carry)({"policy": jnp.array([[1.0, 2.0, 4.0]])})
    np.testing.assert_allclose(u, [[-1.25, -3.875]], rtol=1e-6)
    kept = with_gains(carry, actor=2.0 * K)
    np.testing.assert_array_equal(gains(kept)[1], L)


def test_a_gain_fills_the_seed_axis():
    algorithm, _ = carry_of()
    carry = jax.vmap(algorithm.init)(jax.random.split(jax.random.key(0), 2))
    K = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(gains(with_gains(carry, actor=K))[0], np.stack([K, K]))


def test_wrong_gains_are_named():
    _, carry = carry_of()
    with pytest.raises(UserError, match=r"actor's gain must be \(2, 3\), got \(3, 2\)"):
        with_gains(carry, actor=np.zeros((3, 2)))
    with pytest.raises(UserError, match="disturber's gain holds NaN"):
        with_gains(carry, disturber=np.full((2, 3), np.nan))
    _, networks = carry_of(hidden=(4,))
    with pytest.raises(UserError, match="actor has hidden layers"):
        gains(networks)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attenuation": 0.3}, r"cannot be attained.*least level.*0\.34037.*use 0\.4084"),
        ({"attenuation": -1.0}, "attenuation must be positive"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"gamma": 1.0}, "gamma must lie in"),
        ({"start_gain": np.zeros((2, 2))}, r"start_gain must be a finite \(1, 2\)"),
        ({"start_gain": [[-50.0, 0.0]]}, "start_gain does not stabilise.*spectral radius"),
    ],
)
def test_bad_arguments_say_what_to_do(arguments, message):
    with pytest.raises(UserError, match=message):
        solve_lq_game(SYSTEMS["S2"], **({"attenuation": 0.5} | arguments))


def test_a_system_that_cannot_be_stabilised_is_refused():
    system = LinearSystem([[2.0]], [[0.0]], [[1.0]], [[1.0]], [[1.0]])
    with pytest.raises(UserError, match="stabilis"):
        solve_lq_game(system, 10.0)


def test_a_start_of_ones_own_is_used():
    system = SYSTEMS["S2"]
    K = 1.5 * lqr_gain(system.A, system.B, system.Q, system.R)
    result = solve_lq_game(system, 0.6, iterations=1, start_gain=K, **SMALL)
    np.testing.assert_array_equal(result.start_gain, K)
