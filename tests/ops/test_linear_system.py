"""What a linear system accepts, and the algebra of its closed loop."""

import numpy as np
import pytest

from hinf_rl.errors import UserError
from hinf_rl.ops.linear_system import SYSTEMS, LinearSystem, closed_loop, discounted, psd_root


def test_closed_loop_by_hand():
    # S1 with K = 0.25: Ac = 1 - 0.25, C = [1; -0.25].
    Ac, D, C = closed_loop(*SYSTEMS["S1"].matrices, np.array([[0.25]]))
    np.testing.assert_allclose(Ac, [[0.75]])
    np.testing.assert_allclose(D, [[1.0]])
    np.testing.assert_allclose(C, [[1.0], [-0.25]])


def test_root_of_a_singular_weight_squares_to_it():
    weight = np.array([[4.0, 2.0], [2.0, 1.0]])
    np.testing.assert_allclose(psd_root(weight) @ psd_root(weight), weight, atol=1e-12)


@pytest.mark.parametrize("beta", [0.0, 1.5, float("nan")])
def test_discount_outside_its_range_is_an_error(beta):
    system = SYSTEMS["S2"]
    with pytest.raises(UserError, match="beta"):
        discounted(system.A, system.B, system.D, beta)


def test_systems_cannot_be_changed_in_place():
    with pytest.raises(ValueError, match="read-only"):
        SYSTEMS["S2"].A[0, 0] = 2.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"B": np.ones((3, 1))}, r"B must be \(2, 1\)"),
        ({"A": np.ones((2, 3))}, r"A must be \(2, 2\)"),
        ({"R": np.zeros((1, 1))}, "R must be positive definite"),
        ({"Q": np.diag([1.0, -1.0])}, "Q must be positive semi-definite"),
        ({"Q": np.array([[1.0, 0.5], [0.0, 1.0]])}, "Q must be symmetric"),
        ({"D": np.full((2, 1), np.nan)}, "D holds NaN"),
        ({"D": np.ones(2)}, "D must be a matrix"),
    ],
)
def test_bad_matrices_are_named(change, message):
    base = dict(zip("ABDQR", SYSTEMS["S2"].matrices, strict=True))
    with pytest.raises(UserError, match=message):
        LinearSystem(**{**base, **change})
