"""The value heads: what each sums, and how they are fitted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.agents.hinf import make
from hinf_rl.agents.hinf.critic import Heads, NetworkCritic


def critic(kit, **settings):
    config = kit.tiny(critic=settings)
    return NetworkCritic(config, input_size=7, num_heads=2)


@pytest.mark.parametrize("clip_value", [None, 0.2])
def test_loss_is_half_the_squared_error_summed_over_heads(kit, clip_value):
    network = critic(kit, clip_value=clip_value)
    params = network.init(jax.random.key(0)).params
    rng = np.random.default_rng(1)
    x, old, target = (rng.normal(size=(10, n)).astype(np.float32) for n in (7, 2, 2))
    valid = np.arange(10) % 3 != 0
    value = kit.forward(params, x)
    error = (value - target) ** 2
    if clip_value is not None:
        near = old + np.clip(value - old, -clip_value, clip_value)
        error = np.maximum(error, (near - target) ** 2)
    expected = 0.5 * error.sum(axis=1)[valid].mean()
    found = network.loss(params, *(jnp.asarray(a) for a in (x, old, target, valid)))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_heads_share_a_trunk(kit):
    params = critic(kit).init(jax.random.key(0)).params["params"]
    shapes = {name: layer["kernel"].shape for name, layer in params.items()}
    assert shapes == {"Dense_0": (7, 8), "Dense_1": (8, 2)}


def test_the_gradient_is_clipped_on_its_own(kit):
    # One Adam step moves each weight by at most the rate, however steep the loss.
    network = critic(kit, max_grad_norm=1e-3)
    state = network.init(jax.random.key(0))
    steep = jax.tree.map(lambda p: jnp.full_like(p, 1e6), state.params)
    moved = network.apply_gradient(state, steep, jnp.float32(0.1))
    change = jax.tree.map(lambda a, b: jnp.max(jnp.abs(a - b)), state.params, moved.params)
    assert max(float(c) for c in jax.tree.leaves(change)) <= 0.1 + 1e-6


def test_each_head_sums_its_own_stream(kit):
    config = kit.tiny(
        disturbance={"objective": "fall"}, constraint={"intensity_horizon": "discounted"}
    )
    data = kit.made_up_transition(jax.random.key(0))
    found = np.asarray(Heads(config).rewards(data))
    valid = np.asarray(data.valid)
    np.testing.assert_array_equal(found[..., 0], data.reward)
    np.testing.assert_array_equal(found[..., 1], data.task_reward)
    np.testing.assert_array_equal(found[..., 2], np.where(valid, data.asked_intensity, 0.0))
    np.testing.assert_array_equal(found[..., 3], -1.0 * np.asarray(data.terminated))


def test_values_are_taken_at_the_true_final_observation(kit):
    algorithm = make(kit.tiny(unroll_length=14), kit.Plane())
    builder = kit.parts(algorithm)
    carry = kit.shaken(algorithm.init(jax.random.key(0)), jax.random.key(1))
    _, data, _ = jax.jit(builder._rollout.collect)(carry)
    values, final = builder._values(carry, data)
    assert np.asarray(data.truncated)[6].all()
    params = carry.critic.params
    expected = kit.forward(params, np.asarray(data.final_observation))
    np.testing.assert_allclose(final, expected, atol=1e-5)
    # At a time-out the next observation is a new episode's, and its value another one.
    assert np.all(np.abs(np.asarray(final[6] - values[7])).max(axis=-1) > 1e-3)
    np.testing.assert_allclose(final[5], values[6], atol=1e-6)
