"""Densities against scipy, divergences against Monte Carlo, and integrals that must be 1."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from hinf_rl.ops.distributions import (
    held_force_sample,
    normal_entropy,
    normal_kl,
    normal_log_prob,
    normal_sample,
    tanh_normal_entropy,
    tanh_normal_log_prob,
    tanh_normal_sample,
)


def draw_parameters(seed, shape=(5, 3)):
    """Two means and two log-deviations as float32 NumPy arrays."""
    draw = np.random.default_rng(seed)
    mean_p, mean_q = draw.normal(size=(2, *shape)).astype(np.float32)
    log_p, log_q = draw.uniform(-1.5, 0.5, size=(2, *shape)).astype(np.float32)
    return mean_p, log_p, mean_q, log_q


@given(seed=st.integers(0, 10_000))
def test_log_prob_equals_scipy(seed):
    mean, log_std, x, _ = draw_parameters(seed)
    expected = scipy.stats.norm.logpdf(x, mean, np.exp(log_std)).sum(-1)
    np.testing.assert_allclose(normal_log_prob(x, mean, log_std), expected, rtol=1e-4, atol=1e-4)


def test_one_log_std_serves_every_state():
    mean, log_std, x, _ = draw_parameters(0)
    shared = jnp.asarray(log_std[0])
    repeated = np.repeat(log_std[:1], 5, axis=0)
    np.testing.assert_allclose(
        normal_log_prob(x, mean, shared), normal_log_prob(x, mean, repeated), rtol=1e-6
    )
    np.testing.assert_allclose(
        normal_kl(mean, shared, x, shared), normal_kl(mean, repeated, x, repeated), rtol=1e-6
    )
    assert normal_sample(jax.random.key(0), jnp.asarray(mean), shared).shape == (5, 3)


def test_sample_has_the_stated_moments(key):
    # 200 000 samples: standard error of the mean 0.5 / sqrt(2e5) = 1.1e-3; 5 sigma is 6e-3.
    mean = jnp.full((200_000, 1), 1.5, jnp.float32)
    x = normal_sample(key, mean, jnp.float32([np.log(0.5)]))
    np.testing.assert_allclose(np.mean(x), 1.5, atol=6e-3)
    np.testing.assert_allclose(np.std(x), 0.5, atol=6e-3)


def test_entropy_equals_scipy():
    _, log_std, _, _ = draw_parameters(1)
    expected = scipy.stats.norm.entropy(0.0, np.exp(log_std)).sum(-1)
    np.testing.assert_allclose(normal_entropy(jnp.asarray(log_std)), expected, rtol=1e-5)


def test_kl_by_hand():
    # std 1 to std 2, means 1 apart: log 2 + (1 + 1) / 8 - 1/2 = 0.693147 - 0.25 = 0.443147.
    one = jnp.ones(1, jnp.float32)
    actual = normal_kl(one, 0.0 * one, 0.0 * one, jnp.float32([np.log(2.0)]))
    np.testing.assert_allclose(actual, 0.443147, rtol=1e-5)


def test_kl_equals_monte_carlo():
    mean_p, log_p, mean_q, log_q = (x[0] for x in draw_parameters(3))
    x = mean_p + np.exp(log_p) * np.random.default_rng(0).normal(size=(400_000, 3))
    gap = scipy.stats.norm.logpdf(x, mean_p, np.exp(log_p)).sum(-1)
    gap -= scipy.stats.norm.logpdf(x, mean_q, np.exp(log_q)).sum(-1)
    margin = 5.0 * gap.std() / np.sqrt(len(gap))
    np.testing.assert_allclose(normal_kl(mean_p, log_p, mean_q, log_q), gap.mean(), atol=margin)


@given(seed=st.integers(0, 10_000))
def test_kl_equals_the_float64_formula_and_vanishes_at_itself(seed):
    mean_p, log_p, mean_q, log_q = draw_parameters(seed)
    m, a, n, b = (x.astype(np.float64) for x in (mean_p, log_p, mean_q, log_q))
    expected = b - a + (np.exp(2 * a) + (m - n) ** 2) / (2 * np.exp(2 * b)) - 0.5
    actual = normal_kl(mean_p, log_p, mean_q, log_q)
    np.testing.assert_allclose(actual, expected.sum(-1), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(normal_kl(mean_p, log_p, mean_p, log_p), 0.0)


def test_kl_of_a_small_step_is_not_rounded_away():
    # log-deviation moved by e = 1e-3: KL = e^2 (1 + O(e)) = 1e-6, far above float32 noise here.
    zero = jnp.zeros(1, jnp.float32)
    actual = normal_kl(zero, zero, zero, jnp.float32([1e-3]))
    np.testing.assert_allclose(actual, 1e-6, rtol=5e-2)


def test_tanh_density_integrates_to_one():
    # Over the action in (-1, 1), with a grid in u and da = (1 - tanh(u)^2) du in float64.
    u = np.linspace(-9.0, 9.0, 20_001)
    mean = jnp.full((len(u), 1), 0.7, jnp.float32)
    log_prob = tanh_normal_log_prob(jnp.float32(u)[:, None], mean, jnp.float32([0.2]))
    slope = 1.0 / np.cosh(u) ** 2
    total = np.trapezoid(np.exp(np.asarray(log_prob, np.float64)) * slope, u)
    np.testing.assert_allclose(total, 1.0, rtol=1e-4)


def test_tanh_density_equals_the_change_of_variables():
    u = np.array([[-2.0, 0.3], [1.0, 0.0]])
    mean, log_std = np.array([[0.1, -0.2], [0.0, 0.5]]), np.array([-0.5, 0.3])
    expected = scipy.stats.norm.logpdf(u, mean, np.exp(log_std)) - np.log(1.0 - np.tanh(u) ** 2)
    actual = tanh_normal_log_prob(jnp.float32(u), jnp.float32(mean), jnp.float32(log_std))
    np.testing.assert_allclose(actual, expected.sum(-1), rtol=1e-5)


def test_tanh_density_stays_finite_where_the_action_saturates():
    # log(1 - tanh(50)^2) = 2 (log 2 - 50) = -98.614; N(0, 1) at 50: -1250 - 0.918939.
    def log_prob(u):
        return tanh_normal_log_prob(u, jnp.zeros(1, jnp.float32), jnp.zeros(1, jnp.float32))

    value, gradient = jax.value_and_grad(log_prob)(jnp.float32([50.0]))
    np.testing.assert_allclose(value, -1250.918939 + 98.613706, rtol=1e-5)
    np.testing.assert_allclose(gradient, [-48.0], rtol=1e-5)  # -u + 2 tanh(u)


def test_tanh_entropy_estimate_is_unbiased(key):
    # Reference: entropy of u plus E log(1 - tanh(u)^2), by quadrature in float64.
    mean, std = 0.4, 0.8
    u = np.linspace(mean - 9 * std, mean + 9 * std, 20_001)
    density = scipy.stats.norm.pdf(u, mean, std)
    slope = np.trapezoid(density * np.log(1.0 / np.cosh(u) ** 2), u)
    expected = scipy.stats.norm.entropy(mean, std) + slope
    estimate = tanh_normal_entropy(
        key, jnp.full((200_000, 1), mean, jnp.float32), jnp.float32([np.log(std)])
    )
    margin = 5.0 * np.std(estimate) / np.sqrt(200_000)
    np.testing.assert_allclose(np.mean(estimate), expected, atol=margin)


def test_tanh_sample_returns_the_action_of_its_own_u(key):
    action, pre_tanh = tanh_normal_sample(
        key, jnp.zeros((64, 2), jnp.float32), jnp.ones(2, jnp.float32)
    )
    np.testing.assert_allclose(action, np.tanh(pre_tanh), rtol=1e-5)
    assert np.max(np.abs(action)) <= 1.0


def test_held_forces_are_uniform_in_size_direction_and_time():
    count = 20_000
    force, steps = held_force_sample(jax.random.key(0), (count,), 3, hold_steps=(2, 5))
    size = np.linalg.norm(force, axis=-1)
    assert scipy.stats.kstest(size, "uniform").pvalue > 1e-3
    # A component of a direction that is uniform on the sphere is uniform in [-1, 1].
    for component in (np.asarray(force) / size[:, None]).T:
        assert scipy.stats.kstest(component, "uniform", args=(-1.0, 2.0)).pvalue > 1e-3
    assert steps.dtype == jnp.int32
    values, counts = np.unique(steps, return_counts=True)
    np.testing.assert_array_equal(values, [2, 3, 4, 5])
    # Standard error of a share of one quarter: sqrt(0.25 * 0.75 / 20000) = 0.003.
    np.testing.assert_allclose(counts / count, 0.25, atol=0.015)


def test_one_held_force_needs_no_leading_axis():
    force, steps = held_force_sample(jax.random.key(1), (), 2, hold_steps=(3, 3))
    assert force.shape == (2,) and steps == 3
