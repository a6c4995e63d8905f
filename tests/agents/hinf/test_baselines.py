"""Every baseline is a configuration of the one algorithm; and the pitfalls of the constraint."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.agents.hinf import advantages, make
from hinf_rl.agents.hinf.critic import Heads
from hinf_rl.control_tasks import ALGORITHMS, apply_algorithm
from hinf_rl.ops.surrogate import masked_mean


def configured(kit, algorithm):
    return apply_algorithm(kit.tiny(), algorithm)


def estimate(config, carry, data, spec, *, values=None):
    heads = Heads(config)
    if values is None:
        values = jnp.zeros((*data.valid.shape, len(heads.names)), jnp.float32)
    disturbed = jnp.arange(8) >= config.num_undisturbed
    return advantages.estimate(config, spec, heads, carry, data, values, values, disturbed)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_who_pushes_whom(kit, algorithm):
    built = make(configured(kit, algorithm), kit.Plane())
    carry = built.init(jax.random.key(0))
    _, data, _ = jax.jit(kit.parts(built)._rollout.collect)(carry)
    pushed = np.linalg.norm(np.asarray(data.final_observation[..., kit.PUSH]), axis=-1)
    if algorithm == "nominal":
        assert not pushed.any() and not np.asarray(data.intensity).any()
        return
    assert pushed[:, 2:].all() and not pushed[:, :2].any()
    # A random force answers to nothing; a learned one was drawn from a density.
    assert np.asarray(data.disturber.log_prob).any() == (algorithm != "domain_randomisation")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_critic_sees_the_same_whoever_pushes(kit, algorithm):
    # It never sees the force itself, unless the environment shows it to every algorithm.
    built = make(configured(kit, algorithm), kit.Plane())
    carry = jax.eval_shape(built.init, jax.random.key(0))
    assert carry.critic.params["params"]["Dense_0"]["kernel"].shape == (7, 8)
    assert carry.actor.params["mean"]["params"]["Dense_0"]["kernel"].shape == (2, 8)


def test_the_zero_sum_adversary_climbs_minus_the_reward(kit):
    config, spec = configured(kit, "rarl"), kit.Plane().spec
    carry = make(config, kit.Plane()).init(jax.random.key(0))
    data = kit.made_up_transition(jax.random.key(1))
    # With every environment disturbed both climb over the same samples: exact opposites.
    everyone = dataclasses.replace(
        config, disturbance=dataclasses.replace(config.disturbance, undisturbed_fraction=0.0)
    )
    found = estimate(everyone, carry, data, spec)
    np.testing.assert_allclose(found.disturber, -found.actor, atol=1e-4)
    assert np.any(np.asarray(found.actor))
    # The task reward does not enter, nor does the force.
    other = data._replace(task_reward=0.5 - data.task_reward, asked_intensity=0.0 * data.intensity)
    np.testing.assert_array_equal(found.disturber, estimate(everyone, carry, other, spec).disturber)


@pytest.mark.parametrize("algorithm", ["unconstrained", "hinf"])
def test_lambda_and_eta_matter_only_to_hinf(kit, algorithm):
    built = make(configured(kit, algorithm), kit.Plane())
    step = jax.jit(built.step)
    ends = []
    for multiplier, eta in ((0.0, 0.1), (8.0, 5.0)):
        carry = built.init(jax.random.key(0))
        numbers = carry.hyperparameters._replace(attenuation=jnp.float32(eta))
        carry = carry._replace(multiplier=jnp.float32(multiplier), hyperparameters=numbers)
        for _ in range(2):
            carry, metrics = step(carry)
        ends.append(carry)
        if algorithm == "unconstrained":
            assert float(metrics["constraint/multiplier"]) == multiplier
    is_free = algorithm == "unconstrained"
    assert kit.same_bits(ends[0].actor, ends[1].actor) == is_free
    assert kit.same_bits(ends[0].disturber, ends[1].disturber) == is_free


def dual(kit, config, spec, data, *, nominal):
    carry = make(config, kit.Plane()).init(jax.random.key(0))
    carry = carry._replace(
        multiplier=jnp.float32(1), nominal_cost=jnp.float32(nominal), iteration=jnp.int32(3)
    )
    disturbed = jnp.arange(8) >= config.num_undisturbed
    return advantages.dual_step(config, spec, carry, data, disturbed, ~disturbed)


def test_the_dual_step_is_measured_where_a_surrogate_would_be_zero(kit):
    # At ratio 1 the surrogate is the mean of normalised advantages: 0 whatever the cost.
    config, spec = kit.tiny(), kit.Plane().spec
    data = kit.made_up_transition(jax.random.key(1))
    carry = make(config, kit.Plane()).init(jax.random.key(0))
    surrogate = masked_mean(estimate(config, carry, data, spec).actor, data.valid)
    np.testing.assert_allclose(surrogate, 0.0, atol=1e-6)
    after, metrics = dual(kit, config, spec, data, nominal=0.0)
    slack = float(metrics["constraint/slack"])
    assert abs(slack) > 0.1
    np.testing.assert_allclose(after.multiplier, 1.0 - 0.2 * slack, rtol=1e-5)


def test_full_force_that_costs_nothing_extra_lowers_lambda(kit):
    # I = 1, C = Cbar = 0.4: G = eta = 2, and lambda falls by 0.2 * 2.
    like = jnp.ones((6, 8), jnp.float32)
    data = kit.made_up_transition(jax.random.key(1), invalid_share=0.0)
    data = data._replace(intensity=like, task_reward=0.3 * like)
    after, metrics = dual(kit, kit.tiny(), kit.Plane().spec, data, nominal=0.4)
    np.testing.assert_allclose(metrics["constraint/slack"], 2.0, rtol=1e-5)
    np.testing.assert_allclose(after.multiplier, 0.6, rtol=1e-5)


def test_the_unit_of_the_reward_does_not_matter(kit):
    # The same data in a reward a thousand times larger: same price, same slack.
    config, small = kit.tiny(), kit.Plane().spec
    large = dataclasses.replace(small, task_reward_max=500.0, task_reward_scale=500.0)
    data = kit.made_up_transition(jax.random.key(1))
    scaled = data._replace(task_reward=1e3 * data.task_reward, reward=1e3 * data.reward)
    carry = make(config, kit.Plane()).init(jax.random.key(0))
    values = jax.random.normal(jax.random.key(2), (6, 8, 2))
    first = estimate(config, carry, data, small, values=values)
    second = estimate(config, carry, scaled, large, values=1e3 * values)
    np.testing.assert_allclose(first.disturber, second.disturber, atol=1e-4)
    np.testing.assert_allclose(first.actor, second.actor, atol=1e-4)
    slacks = [
        dual(kit, config, spec, rollout, nominal=0.3)[1]["constraint/slack"]
        for spec, rollout in ((small, data), (large, scaled))
    ]
    np.testing.assert_allclose(*slacks, rtol=1e-4)


def test_saturation_is_reported(kit):
    algorithm = make(kit.tiny(), kit.Plane())
    builder = kit.parts(algorithm)
    carry = algorithm.init(jax.random.key(0))
    _, data, statistics = jax.jit(builder._rollout.collect)(carry)
    _, metrics = builder._report(carry, data, statistics)
    norm = np.linalg.norm(np.asarray(data.disturber.raw), axis=-1)
    np.testing.assert_allclose(metrics["disturber/saturation"], np.mean(norm >= 1.0), rtol=1e-6)
    assert 0.0 < np.mean(norm >= 1.0) < 1.0
