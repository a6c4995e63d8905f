"""Initialisation of the players' networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.networks.mlp import MLP, elu, orthogonal


@pytest.mark.parametrize("shape", [(5, 32), (32, 5), (64, 64), (128, 1), (1, 3)])
def test_initial_weights_are_orthogonal_on_the_short_side(shape):
    weights = np.asarray(orthogonal(1.5)(jax.random.key(0), shape))
    assert weights.shape == shape
    gram = weights.T @ weights if shape[0] >= shape[1] else weights @ weights.T
    np.testing.assert_allclose(gram, 1.5**2 * np.eye(min(shape)), atol=2e-5)


@pytest.mark.smoke
def test_elu_and_its_slope_are_those_of_the_exact_function():
    x = np.concatenate([-np.logspace(-8, 3, 200), [0.0], np.logspace(-8, 3, 200)])
    value, slope = jax.vmap(jax.value_and_grad(elu))(jnp.asarray(x, jnp.float32))
    below = x <= 0
    np.testing.assert_allclose(value[below], np.expm1(x[below]), atol=1.2e-7)
    np.testing.assert_array_equal(value[~below], x[~below].astype(np.float32))
    np.testing.assert_allclose(slope, np.where(below, np.exp(np.minimum(x, 0.0)), 1.0), atol=1e-7)


def test_initial_weights_have_no_preferred_direction():
    # A uniform orthonormal column of length 4 has mean 0 and second moment 1/4 per entry;
    # over 4000 draws the standard errors are 0.008 and 0.003 (its fourth moment is 3/24).
    keys = jax.random.split(jax.random.key(1), 4000)
    drawn = np.asarray(jax.vmap(lambda key: orthogonal(1.0)(key, (4, 2)))(keys))
    np.testing.assert_allclose(drawn.mean(axis=0), 0.0, atol=0.04)
    np.testing.assert_allclose((drawn**2).mean(axis=0), 0.25, atol=0.02)


def test_networks_side_by_side_call_no_lapack():
    # Batched LAPACK calls block XLA's few CPU workers, and two at once wait for each other.
    network = MLP(hidden=(8, 8), size=2)
    keys = jax.random.split(jax.random.key(0), 3)
    init = jax.jit(jax.vmap(lambda key: network.init(key, jnp.zeros((1, 4), jnp.float32))))
    assert "lapack" not in init.lower(keys).as_text()
