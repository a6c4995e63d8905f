"""Three norm methods against a closed form and one another; power iteration against an SVD."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hinf_rl.errors import UserError
from hinf_rl.ops.hinf_norm import hinf_norm, power_gain
from hinf_rl.ops.linear_system import SYSTEMS, closed_loop, spectral_radius
from hinf_rl.ops.riccati import lqr_gain, random_system

shapes = st.tuples(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 2), st.integers(1, 2))


def norm_of(system, K, method="pencil"):
    return hinf_norm(*closed_loop(*system.matrices, K), method=method)


@pytest.mark.parametrize("method", ["sweep", "pencil", "bisection"])
@pytest.mark.parametrize("gain", [0.2, 0.618034, 1.0, 1.7])
def test_scalar_norm_has_its_closed_form(gain, method):
    # T(s) = [1; -K]/(s - (1 - K)); |e^(jw) - a| is smallest at w = 0 or pi, where it is 1 - |a|.
    expected = math.sqrt(1.0 + gain**2) / (1.0 - abs(1.0 - gain))
    norm = norm_of(SYSTEMS["S1"], np.array([[gain]]), method)
    np.testing.assert_allclose(norm, expected, rtol=1e-7)


@settings(deadline=None, max_examples=25)
@given(shape=shapes)
def test_the_norm_methods_agree(shape):
    system = random_system(*shape)
    K = lqr_gain(system.A, system.B, system.Q, system.R)
    pencil = norm_of(system, K)
    sweep = norm_of(system, K, "sweep")
    assert sweep <= pencil * (1.0 + 1e-12)
    np.testing.assert_allclose(norm_of(system, K, "bisection"), pencil, rtol=1e-6)
    # Only a resonance narrower than the grid's 1.6e-3 rad hides from the sweep.
    if spectral_radius(system.A - system.B @ K) < 0.99:
        np.testing.assert_allclose(sweep, pencil, rtol=1e-3)


def test_power_gain_grows_towards_the_norm():
    system = SYSTEMS["S2"]
    K = lqr_gain(system.A, system.B, system.Q, system.R)
    loop, D, C = (jnp.asarray(value, jnp.float32) for value in closed_loop(*system.matrices, K))

    def rollout(w):
        def step(x, w_t):
            return loop @ x + D @ w_t, C @ x

        x_end, z = jax.lax.scan(step, jnp.zeros(2, jnp.float32), w)
        return jnp.concatenate([z, (C @ x_end)[None]])

    for horizon in (30, 400):
        # Row t, column k: z_t answers w_k by C Ac^(t-1-k) D.
        toeplitz, answer = np.zeros((horizon + 1, 3, horizon)), np.asarray(D)[:, 0]
        for delay in range(1, horizon + 1):
            rows = np.arange(delay, horizon + 1)
            toeplitz[rows, :, rows - delay] = np.asarray(C) @ answer
            answer = np.asarray(loop) @ answer
        expected = np.linalg.norm(toeplitz.reshape(-1, horizon), 2)
        w0 = jax.random.normal(jax.random.key(1), (horizon, 1), jnp.float32)
        gain, w_worst = power_gain(rollout, w0, 300)
        np.testing.assert_allclose(jnp.linalg.norm(w_worst), jnp.linalg.norm(w0), rtol=1e-4)
        np.testing.assert_allclose(gain, expected, rtol=1e-3)
    # 400 steps come within 0.2 % of the infinite horizon, from below.
    assert 0.998 < float(gain) / norm_of(system, K) < 1.0 + 1e-5


def test_power_gain_of_nothing_is_zero():
    gain, w_worst = power_gain(lambda w: 0.0 * w, jnp.ones((3, 1), jnp.float32), 4)
    assert float(gain) == 0.0
    assert np.isfinite(w_worst).all()


def test_unstable_loop_has_an_infinite_norm():
    assert norm_of(SYSTEMS["S3"], np.zeros((1, 2))) == math.inf


def test_unknown_norm_method_is_named():
    with pytest.raises(UserError, match="did you mean 'sweep'"):
        hinf_norm(np.zeros((1, 1)), np.eye(1), np.eye(1), method="sweeps")
