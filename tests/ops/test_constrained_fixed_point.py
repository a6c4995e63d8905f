"""The multiplier form of the game against its reference numbers."""

import math

import numpy as np
import pytest

from hinf_rl.errors import UserError
from hinf_rl.ops.riccati import (
    SYSTEMS,
    closed_loop,
    constrained_fixed_point,
    gare_solve,
    hinf_norm,
    optimal_attenuation,
    saddle_gains,
)

# Printed at a level rounded to six digits.
TABLE_RTOL = 4e-6


@pytest.mark.parametrize(
    ("lam", "gain", "norm"),
    [
        (0.0, [5.208514, 6.350112], 0.372542),
        (1.0, [4.926500, 5.890460], 0.379072),
        (9.0, [4.578252, 5.324046], 0.389085),
        (math.inf, [4.450498, 5.101575], 0.393738),
    ],
)
def test_multiplier_without_a_split_invites_disturbances(lam, gain, norm):
    system = SYSTEMS["S2"]
    level = 1.2 * optimal_attenuation(*system.matrices)
    K, _ = constrained_fixed_point(*system.matrices, level**2, lam, split=False)
    np.testing.assert_allclose(K[0], gain, rtol=TABLE_RTOL)
    np.testing.assert_allclose(hinf_norm(*closed_loop(*system.matrices, K)), norm, rtol=TABLE_RTOL)


def test_infinite_multiplier_is_the_zero_sum_game():
    system = SYSTEMS["S4"]
    level = 1.3 * optimal_attenuation(*system.matrices)
    K, L = constrained_fixed_point(*system.matrices, level**2, math.inf, split=False)
    P = gare_solve(*system.matrices, level).P
    K_game, L_game = saddle_gains(system.A, system.B, system.D, system.R, P, level)
    np.testing.assert_allclose(K, K_game, rtol=1e-8)
    np.testing.assert_allclose(L, L_game, rtol=1e-8)


def task_gain(system, K):
    """Gain from w to Q^(1/2) x."""
    return hinf_norm(*closed_loop(system.A, system.B, system.D, system.Q, 0.0 * system.R, K))


def test_split_multiplier_buys_attenuation_without_a_disturber():
    system = SYSTEMS["S2"]
    table = {
        0.0: 0.36209,
        0.5: 0.30064,
        1.0: 0.26387,
        2.0: 0.22011,
        5.0: 0.16280,
        10.0: 0.12649,
        20.0: 0.09817,
    }
    for lam, gain in table.items():
        K, L = constrained_fixed_point(*system.matrices, 0.16, lam, split=True, use_disturber=False)
        assert not L.any()
        np.testing.assert_allclose(task_gain(system, K), gain, atol=6e-6)


def test_split_multiplier_buys_attenuation_against_the_disturber():
    system = SYSTEMS["S2"]
    table = {
        0.0: ([3.6862, 3.3542], 0.27128),
        1.0: ([4.3929, 3.6387], 0.22764),
        5.0: ([6.4536, 4.5245], 0.15495),
        20.0: (None, 0.09666),
    }
    for lam, (gain, norm) in table.items():
        K, _ = constrained_fixed_point(*system.matrices, 0.16, lam, split=True)
        np.testing.assert_allclose(task_gain(system, K), norm, atol=6e-6)
        if gain is not None:
            np.testing.assert_allclose(K[0], gain, atol=6e-5)


def test_fixed_point_below_the_optimum_is_an_error():
    with pytest.raises(UserError, match=r"larger eta|spectral radius"):
        constrained_fixed_point(*SYSTEMS["S2"].matrices, 0.01, math.inf, split=False)
