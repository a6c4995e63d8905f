"""`init` and `step` as pure functions: one trace, donation, batching, order of events."""

import dataclasses
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.agents.hinf import DisturbanceConfig, hyperparameters, make
from hinf_rl.envs.probe import PROBES
from hinf_rl.errors import UserError


def avals_of(tree):
    leaves = jax.tree.leaves(tree)
    return [(x.shape, x.dtype, getattr(x, "weak_type", False)) for x in leaves]  # keys have none


@pytest.fixture(scope="module")
def three_steps(kit):
    """Three donated steps of one epoch and one minibatch each, and what went in and out."""
    algorithm = make(kit.tiny(num_epochs=1, num_minibatches=1), kit.Plane(episode_length=4))
    step = jax.jit(chex.assert_max_traces(algorithm.step, n=1), donate_argnums=0)
    carry = algorithm.init(jax.random.key(0))
    start = jax.tree.map(jnp.copy, carry)
    avals, metrics = [avals_of(carry)], []
    for _ in range(3):
        carry, found = step(carry)
        avals.append(avals_of(carry))
        metrics.append(found)
    return algorithm, start, carry, avals, metrics, step


@pytest.mark.smoke
def test_the_carry_keeps_its_types_and_may_be_donated(three_steps):
    *_, avals, _, _ = three_steps
    assert all(later == avals[0] for later in avals[1:])
    assert not any(is_weak for *_, is_weak in avals[0])


@pytest.mark.smoke
def test_metrics_are_finite_float32_scalars_with_constant_names(three_steps):
    *_, metrics, _ = three_steps
    assert all(set(found) == set(metrics[0]) for found in metrics)
    for found in metrics:
        for name, value in found.items():
            assert value.shape == () and value.dtype == jnp.float32, name
            assert np.isfinite(value), name


def test_iterations_are_counted_and_episodes_reported(three_steps):
    algorithm, _, carry, _, metrics, _ = three_steps
    assert int(carry.iteration) == 3
    assert algorithm.env_steps_per_iteration == 8 * 6
    assert float(metrics[-1]["episode/length"]) == 4.0
    # 0.5 is the most that a step can pay.
    assert 0.0 < float(metrics[-1]["episode/task_share"]) < 1.0


def test_the_update_sees_what_the_players_acted_on(three_steps):
    # One minibatch: at its start the players are those that acted, so that KL is 0, but only if
    # observations are normalised as they were in the rollout. Statistics change every iteration.
    *_, metrics, _ = three_steps
    for found in metrics:
        assert abs(float(found["actor/kl"])) < 1e-6
        assert abs(float(found["disturber/kl"])) < 1e-6


@pytest.mark.smoke
def test_at_ratio_one_the_clip_has_no_effect(three_steps, kit):
    _, start, *_, step = three_steps
    carry = kit.shaken(start, jax.random.key(1))
    found = []
    for clip in (1e-3, 10.0):
        numbers = carry.hyperparameters._replace(clip_ratio=jnp.float32(clip))
        again = jax.tree.map(jnp.copy, carry._replace(hyperparameters=numbers))
        found.append(step(again)[0])
    assert kit.same_bits(found[0].actor, found[1].actor)
    assert kit.same_bits(found[0].disturber, found[1].disturber)
    assert not kit.same_bits(found[0].actor.params, carry.actor.params)


def test_statistics_are_those_of_all_observations_seen(three_steps, kit):
    algorithm, start, *_, step = three_steps
    _, data, _ = jax.jit(kit.parts(algorithm)._rollout.collect)(start)
    after, _ = step(jax.tree.map(jnp.copy, start))
    for name, state in (
        ("policy", after.policy_normalizer),
        ("privileged", after.privileged_normalizer),
    ):
        seen = np.asarray(data.observation[name], np.float64).reshape(48, -1)
        assert float(state.count) == 48.0
        np.testing.assert_allclose(state.mean, seen.mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(state.m2 / 48.0, seen.var(axis=0), atol=1e-5)


@pytest.fixture(scope="module")
def runs(kit):
    """Two iterations for three seeds with three settings: one by one, and batched."""
    algorithm = make(kit.tiny(), kit.Plane())

    def run(key, numbers):
        carry, _ = jax.lax.scan(
            lambda carry, _: algorithm.step(carry), algorithm.init(key, numbers), length=2
        )
        return carry

    keys = jax.random.split(jax.random.key(0), 3)
    base = hyperparameters(algorithm.config, default_limit=3.0)
    numbers = jax.tree.map(lambda x: jnp.broadcast_to(x, (3,)), base)._replace(
        gamma=jnp.array([0.9, 0.95, 0.99], jnp.float32),
        attenuation=jnp.array([0.1, 1.0, 5.0], jnp.float32),
        disturbance_limit=jnp.array([3.0, 1.0, 0.5], jnp.float32),
        actor_learning_rate=jnp.array([1e-3, 3e-3, 1e-2], jnp.float32),
        multiplier_init=jnp.array([0.0, 1.0, 4.0], jnp.float32),
    )
    one = jax.jit(run)
    separate = [one(keys[i], jax.tree.map(lambda x, i=i: x[i], numbers)) for i in range(3)]
    return separate, jax.jit(jax.vmap(run))(keys, numbers)


@pytest.mark.slow
def test_batched_seeds_and_hyperparameters_equal_separate_runs(runs):
    separate, batched = runs
    for i, expected in enumerate(separate):
        found = jax.tree.map(lambda x, i=i: x[i], batched)
        np.testing.assert_array_equal(
            jax.random.key_data(found.key), jax.random.key_data(expected.key)
        )
        for name in ("actor", "disturber", "critic", "multiplier", "nominal_cost"):
            pair = (jax.tree.leaves(getattr(tree, name)) for tree in (found, expected))
            for leaf, other in zip(*pair, strict=True):
                # Batched products sum in another order.
                np.testing.assert_allclose(leaf, other, rtol=1e-3, atol=1e-4)


def test_seeds_and_hyperparameters_differ_from_each_other(runs):
    multiplier = np.asarray(runs[1].multiplier)
    assert len(set(multiplier.tolist())) == 3
    spread = np.ptp(np.asarray(runs[1].actor.params["mean"]["params"]["Dense_0"]["kernel"]), axis=0)
    assert spread.min() > 1e-4


def test_the_disturber_leaves_with_its_bound_and_the_actor_without(three_steps, kit):
    algorithm, _, carry, *_ = three_steps
    observation = {"policy": 0.5 * jnp.ones((4, 2), jnp.float32)}
    seen = jax.tree.map(np.asarray, carry.policy_normalizer)
    x = (np.full((4, 2), 0.5) - seen.mean) / np.sqrt(seen.m2 / seen.count)
    action = kit.forward(carry.actor.params["mean"], x)
    np.testing.assert_allclose(algorithm.policy(carry)(observation), action, atol=1e-4)
    raw = kit.forward(carry.disturber.params["mean"], x)
    push = 3.0 * raw / np.maximum(np.linalg.norm(raw, axis=-1, keepdims=True), 1.0)
    np.testing.assert_allclose(algorithm.disturber(carry)(observation), push, atol=1e-4)


def test_a_privileged_disturber_leaves_with_the_critics_statistics(kit):
    algorithm = make(kit.tiny(disturbance={"privileged": True}), kit.Plane())
    carry = algorithm.init(jax.random.key(0))
    policy = algorithm.disturber(carry)
    assert policy.observation_key == "privileged"
    assert kit.same_bits(policy.normalizer, carry.privileged_normalizer)


@pytest.mark.parametrize(
    ("changes", "env", "message"),
    [
        ({}, PROBES["action_reward"], "'action_reward' takes no disturbance"),
        ({"symmetry": "augment"}, "asymmetric", "defines no mirror symmetry"),
        ({"disturbance": DisturbanceConfig(source="random")}, "unbounded", "bounds no disturbance"),
    ],
)
def test_what_the_environment_lacks_is_named(kit, changes, env, message):
    env = {
        "asymmetric": dataclasses.replace(PROBES["saddle"], is_symmetric=False),
        "unbounded": kit.Plane(limit=float("inf")),
    }.get(env, env) if isinstance(env, str) else env  # fmt: skip
    config = dataclasses.replace(kit.tiny(), **changes)
    with pytest.raises(UserError, match=re.escape(message)):
        make(config, env)


def test_broken_steps_are_counted_and_reach_nothing(kit):
    algorithm = make(kit.tiny(), kit.Plane(nan_share=0.3))
    step = jax.jit(algorithm.step)
    carry, broken = algorithm.init(jax.random.key(0)), 0.0
    for _ in range(3):
        carry, metrics = step(carry)
        broken += float(metrics["env/nonfinite_steps"])
        assert float(metrics["train/nonfinite_updates"]) == 0.0
        assert all(np.isfinite(float(value)) for value in metrics.values())
    # 144 steps at 30 %: 43, five deviations of 5.5 are 27.
    assert abs(broken - 43) < 27
    floats = [x for x in jax.tree.leaves(carry) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert all(np.isfinite(np.asarray(x)).all() for x in floats)
    assert float(carry.policy_normalizer.count) == 144.0 - broken


@pytest.mark.parametrize("where", ["reward", "observation"])
def test_a_broken_step_ends_the_episode_without_reward(kit, where):
    algorithm = make(kit.tiny(), kit.Plane(nan_share=0.3, nan_in=where))
    carry = algorithm.init(jax.random.key(0))
    _, data, _ = jax.jit(kit.parts(algorithm)._rollout.collect)(carry)
    broken = ~np.asarray(data.valid)
    assert broken.any() and not broken.all()
    assert np.asarray(data.truncated)[broken].all() and not np.asarray(data.reward)[broken].any()
    leaves = [np.asarray(x) for x in jax.tree.leaves(data)]
    assert all(np.isfinite(x).all() for x in leaves)
