"""Scalar heads: zero at the start, and a copy that training does not move."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.networks.transformer_heads import ResidualValueHead, ValueHead

HIDDEN = jax.random.normal(jax.random.key(0), (2, 3, 5))


def test_a_value_head_starts_at_zero_and_learns():
    head = ValueHead()
    variables = head.init(jax.random.key(1), HIDDEN)
    value = head.apply(variables, HIDDEN)
    assert value.shape == (2, 3)
    np.testing.assert_array_equal(value, 0.0)
    slope = jax.grad(lambda v: jnp.sum(head.apply(v, HIDDEN)))(variables)["params"]["Dense_0"]
    # The value is linear: its slope is the sum of the hidden states.
    np.testing.assert_allclose(slope["kernel"][:, 0], HIDDEN.sum((0, 1)), rtol=1e-5)


def test_a_value_head_computes_in_float32():
    head = ValueHead((4,), 1.0)
    variables = head.init(jax.random.key(1), HIDDEN)
    value = head.apply(variables, HIDDEN.astype(jnp.bfloat16))
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, head.apply(variables, HIDDEN), atol=0.05)


@pytest.mark.parametrize("widths", [(), (4,)])
def test_a_residual_head_is_exactly_zero_until_its_parameters_move(widths):
    head = ResidualValueHead(widths)
    variables = head.init(jax.random.key(1), HIDDEN)
    np.testing.assert_array_equal(head.apply(variables, HIDDEN), 0.0)
    inner = ValueHead(widths, 1.0)
    moved = jax.tree.map(lambda x: x + 0.1, variables["params"])
    found = head.apply({**variables, "params": moved}, HIDDEN)
    expected = inner.apply({"params": moved["head"]}, HIDDEN) - inner.apply(
        {"params": variables["reference"]["copy"]}, HIDDEN
    )
    assert float(jnp.abs(expected).min()) > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_no_gradient_reaches_the_copy_and_the_head_gets_its_own():
    head = ResidualValueHead()
    variables = head.init(jax.random.key(1), HIDDEN)
    slope = jax.grad(lambda v: jnp.sum(head.apply(v, HIDDEN)))(variables)
    for leaf in jax.tree.leaves(slope["reference"]):
        np.testing.assert_array_equal(leaf, 0.0)
    np.testing.assert_allclose(
        slope["params"]["head"]["Dense_0"]["kernel"][:, 0], HIDDEN.sum((0, 1)), rtol=1e-5
    )
