"""One loop for all objectives: exactness, batching, resume, faults, and learning."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.agents.prdp import evaluate, hyperparameters, make
from hinf_rl.agents.prdp.collect import Collector
from hinf_rl.diffusion import PretrainConfig, ScheduleConfig, sample_chain
from hinf_rl.diffusion.images import ImagesConfig, make_images
from hinf_rl.errors import UserError
from hinf_rl.training import loop
from hinf_rl.training.run_directory import RunDirectory


@pytest.fixture(scope="module")
def steps(kit):
    """Three donated steps, traced once."""
    algorithm = make(kit.config(), kit.problem)
    step = jax.jit(chex.assert_max_traces(algorithm.step, n=1), donate_argnums=0)
    carry = algorithm.init(jax.random.key(0), None, kit.reference)
    metrics = []
    for _ in range(3):
        carry, found = step(carry)
        metrics.append(found)
    return algorithm, carry, metrics, step


def test_metrics_are_finite_scalars_with_constant_names(steps):
    _, carry, metrics, _ = steps
    assert int(carry.iteration) == 3
    assert all(set(found) == set(metrics[0]) for found in metrics)
    for found in metrics:
        for name, value in found.items():
            assert value.shape == () and value.dtype == jnp.float32, name
            assert np.isfinite(value), name


def test_the_reference_stays_and_the_policy_leaves_it(steps, kit):
    _, carry, metrics, _ = steps
    assert kit.same_bits(carry.reference, kit.reference)
    assert not kit.same_bits(carry.learner.params, kit.reference)
    # At the first collection both are one policy.
    assert abs(float(metrics[0]["policy/kl"])) < 1e-6
    assert float(metrics[2]["policy/kl"]) > 1e-4


def test_the_first_ratio_is_one(steps, kit):
    # The log-probabilities that the sampler saw are those that the loss computes.
    algorithm, carry, _, _ = steps
    collector = Collector(algorithm.config, kit.problem)
    context = kit.problem.draw_contexts(jax.random.key(1), 32)
    params = carry.learner.params

    def both(key):
        chain = sample_chain(key, kit.problem.model, params, context)
        found = kit.problem.rollout(key, params, context)
        return chain.log_prob, collector.table(params, found.decisions)

    sampled, table = jax.jit(both)(jax.random.key(2))
    np.testing.assert_allclose(np.exp(table - sampled), 1.0, atol=1e-5)


def test_the_policy_leaves_as_an_argument_of_compiled_code(steps):
    algorithm, carry, _, _ = steps
    policy = algorithm.policy(carry)
    seen = {"policy": jnp.ones((5, 4), jnp.float32)}
    run = jax.jit(chex.assert_max_traces(lambda policy, seen: policy(seen), n=1))
    first = run(policy, seen)
    moved = policy._replace(params=jax.tree.map(lambda x: 1.1 * x, policy.params))
    assert first.shape == (5, 2) and np.abs(run(moved, seen) - first).max() > 0.0
    np.testing.assert_allclose(first, policy(seen, jax.random.key(0)), atol=1e-5)


def test_with_one_update_the_clip_has_no_effect(kit):
    algorithm = make(kit.config(num_epochs=1), kit.problem)
    step = jax.jit(algorithm.step)
    found = []
    for clip in (1e-3, 10.0):
        numbers = hyperparameters(algorithm.config)._replace(clip_eps=jnp.float32(clip))
        found.append(step(algorithm.init(jax.random.key(0), numbers, kit.reference))[0])
    chex.assert_trees_all_close(found[0].learner.params, found[1].learner.params, atol=1e-6)
    assert not kit.same_bits(found[0].learner.params, kit.reference)


def test_two_passes_train_like_one(kit):
    found = []
    for microbatch in (None, 32):
        algorithm = make(kit.config(microbatch=microbatch), kit.problem)
        carry = algorithm.init(jax.random.key(0), None, kit.reference)
        found.append(jax.jit(algorithm.step)(carry)[0].learner.params)
    # Adam's first steps are signs: where a gradient is rounding noise they may differ by 2 lr.
    close = [
        np.isclose(a, b, atol=2e-5).mean()
        for a, b in zip(*map(jax.tree.leaves, found), strict=True)
    ]
    assert min(close) > 0.97


def test_seeds_and_hyperparameters_batch(steps, kit):
    algorithm, *_ = steps
    keys = jax.random.split(jax.random.key(5), 2)
    numbers = jax.tree.map(lambda x: jnp.stack([x, x]), hyperparameters(algorithm.config))
    numbers = numbers._replace(beta=jnp.array([0.05, 0.5], jnp.float32))

    def run(key, numbers):
        carry = algorithm.init(key, numbers, kit.reference)
        return algorithm.step(carry)

    _, batched = jax.jit(jax.vmap(run))(keys, numbers)
    one = jax.jit(run)
    for i in range(2):
        _, alone = one(keys[i], jax.tree.map(lambda x, i=i: x[i], numbers))
        for name, value in alone.items():
            np.testing.assert_allclose(batched[name][i], value, rtol=2e-3, atol=1e-3, err_msg=name)


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_bits(kit, tmp_path):
    algorithm = make(kit.config(advantage="batch", objective="ddpo"), kit.problem)
    arguments = {"keys": jax.random.key(3), "checkpoint_every": 2, "log_every": 2}
    whole = loop.train(algorithm, None, iterations=4, **arguments)
    run = RunDirectory(tmp_path, {"task": "ring"})
    loop.train(algorithm, run, iterations=2, **arguments)
    resumed = loop.train(algorithm, run, iterations=4, resume=True, **arguments)
    assert kit.same_bits(whole.carry, resumed.carry)


def test_rewards_that_are_not_finite_are_counted_and_reach_nothing(kit):
    def broken(outcome, context):
        value = kit.problem.reward(outcome, context)
        return jnp.where(outcome["sample"][:, 0] > 0.5, jnp.nan, value)

    problem = kit.problem._replace(reward=broken)
    for changes in ({}, {"objective": "ddpo"}, {"objective": "sdpo"}):
        algorithm = make(kit.config(**changes), problem)
        carry = algorithm.init(jax.random.key(0), None, kit.reference)
        carry, metrics = jax.jit(algorithm.step)(carry)
        assert 0 < float(metrics["train/nonfinite_rewards"]) < 32
        assert float(metrics["train/nonfinite_updates"]) == 0.0
        assert all(np.isfinite(value) for value in metrics.values())
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(carry.learner.params))


def test_an_update_that_is_not_finite_is_skipped_and_counted(kit):
    algorithm = make(kit.config(), kit.problem)
    numbers = hyperparameters(algorithm.config)._replace(beta=jnp.float32(0.0))
    carry = algorithm.init(jax.random.key(0), numbers, kit.reference)
    carry, metrics = jax.jit(algorithm.step)(carry)
    assert float(metrics["train/nonfinite_updates"]) == 2.0
    assert kit.same_bits(carry.learner.params, kit.reference)


def test_a_fixed_data_set_comes_round_again(kit):
    algorithm = make(kit.config(source="offline", offline_batches=2), kit.problem)
    carry = algorithm.init(jax.random.key(0), None, kit.reference)
    step, seen = jax.jit(algorithm.step), []
    for _ in range(4):
        carry, metrics = step(carry)
        seen.append(float(metrics["reward/mean"]))
        assert "policy/kl" not in metrics
    assert seen[0] == seen[2] and seen[1] == seen[3] and seen[0] != seen[1]


def test_rewards_are_summed_with_their_weights(kit):
    def two(outcome, context):
        value = kit.problem.reward(outcome, context)
        return jnp.stack([value, 3.0 * value], axis=-1)

    problem = kit.problem._replace(reward=two)
    config = kit.config(reward_weights=(1.0, 2.0))
    found = evaluate(config, problem, kit.reference, kit.reference, num_samples=8)
    plain = evaluate(kit.config(), kit.problem, kit.reference, kit.reference, num_samples=8)
    np.testing.assert_allclose(found.reward, 7.0 * plain.reward, rtol=1e-5)
    with pytest.raises(UserError, match="set reward_weights"):
        make(kit.config(), problem)


@pytest.mark.parametrize(
    ("changes", "problem_changes", "message"),
    [
        ({"advantage": "context", "objective": "ddpo"}, {}, "contexts of 'ring' never return"),
        ({"microbatch": 100}, {}, "microbatch must divide the 128 denoising steps"),
        ({}, {"num_decisions": 5}, "promises 5 decisions for 1 chains of 4 steps"),
        ({}, {"num_decisions": 8, "num_chunks": 2}, "rollout of problem 'ring' returns shape"),
        (
            {},
            {"reward": lambda o, c: jnp.float32(0.0)},
            "reward of problem 'ring' returns shape ()",
        ),
        ({}, {"context_size": 3}, "draw_contexts of problem 'ring' returns shape (32, 4)"),
    ],
)
def test_what_does_not_fit_the_problem_is_named(kit, changes, problem_changes, message):
    with pytest.raises(UserError, match=re.escape(message)):
        make(kit.config(**changes), kit.problem._replace(**problem_changes))


def test_statistics_of_returning_contexts_are_carried(kit):
    problem = make_images(
        ImagesConfig(
            hidden=(16,),
            schedule=ScheduleConfig(steps=3),
            pretrain=PretrainConfig(steps=5, batch=16),
        )
    )
    changes = {"advantage": "context", "objective": "ddpo", "context_buffer": 8}
    algorithm = make(kit.config(**changes, context_min_count=4, num_minibatches=2), problem)
    carry = algorithm.init(jax.random.key(0))
    step = jax.jit(algorithm.step)
    for _ in range(2):
        carry, metrics = step(carry)
    assert int(carry.statistics.count.sum()) == 2 * 32
    assert all(np.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize(
    ("changes", "gain"),
    [
        ({"beta": 0.05, "clip_eps": 0.1}, 0.25),
        ({"objective": "sdpo", "clip_eps": 0.1}, 0.25),
        ({"objective": "ddpo", "clip_eps": 0.1}, 0.25),
        ({"objective": "reinforce", "num_epochs": 1, "learning_rate": 3e-3}, 0.2),
    ],
)
def test_every_objective_raises_the_reward(kit, changes, gain):
    # Alignment with a random direction starts at 0 and could reach 1 on the ring.
    config = kit.config(
        **{"num_contexts": 32, "group_size": 8, "num_epochs": 4, "learning_rate": 2e-3, **changes}
    )
    algorithm = make(config, kit.problem)
    carry = algorithm.init(jax.random.key(0), None, kit.reference)
    train = jax.jit(lambda carry: jax.lax.scan(lambda c, _: algorithm.step(c), carry, length=30)[0])
    carry = train(carry)
    found = evaluate(config, kit.problem, carry.learner.params, kit.reference, num_samples=1000)
    assert float(found.measures["alignment"].mean()) > gain
    assert float(found.log_ratio.mean()) > 0.0
