"""DPPO on the point robot: what is trained and what is frozen, advantages, faults, learning."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.agents.prdp import DPPOConfig, make_dppo
from hinf_rl.diffusion import PretrainConfig, ScheduleConfig
from hinf_rl.diffusion.reach import ReachConfig, make_reach
from hinf_rl.errors import UserError

SMALL = {"num_episodes": 64, "num_epochs": 2, "num_minibatches": 2, "tuned_steps": 2}


@pytest.fixture(scope="module")
def trained():
    """Two donated steps, traced once."""
    problem = make_reach(
        ReachConfig(
            waypoint=0.5,
            hidden=(32, 32),
            schedule=ScheduleConfig(steps=4),
            pretrain=PretrainConfig(steps=600, batch=128, learning_rate=3e-3),
        )
    )
    config = DPPOConfig(**SMALL, clip_eps=0.1, clip_base=0.1, learning_rate=1e-3)
    algorithm = make_dppo(config, problem)
    step = jax.jit(chex.assert_max_traces(algorithm.step, n=1), donate_argnums=0)
    carry = jax.jit(algorithm.init)(jax.random.key(0))
    metrics = []
    for _ in range(40):
        carry, found = step(carry)
        metrics.append({name: float(value) for name, value in found.items()})
    return problem, carry, metrics


def test_metrics_are_finite_and_the_reward_rises(trained):
    _, carry, metrics = trained
    assert all(np.isfinite(value) for found in metrics for value in found.values())
    assert metrics[0]["policy/kl"] == pytest.approx(0.0, abs=1e-4)
    rewards = [found["reward/mean"] for found in metrics]
    assert np.mean(rewards[-3:]) > np.mean(rewards[:3]) + 0.1
    assert int(carry.iteration) == 40


def test_the_critic_learns_what_chunks_are_worth(trained):
    _, _, metrics = trained
    losses = [found["critic/loss"] for found in metrics]
    assert np.mean(losses[-3:]) < 0.7 * losses[0]


def test_beyond_the_target_the_policy_rests(trained):
    problem, *_ = trained
    config = DPPOConfig(**SMALL, target_kl=1e-12, learning_rate=1e-2)
    algorithm = make_dppo(config, problem)
    carry = jax.jit(algorithm.init)(jax.random.key(1))
    after, metrics = jax.jit(algorithm.step)(carry)
    assert float(metrics["policy/stopped"]) == 1.0
    # The first minibatch is at ratio 1 and is taken; all others are beyond.
    moved = [
        np.abs(a - b).max()
        for a, b in zip(*map(jax.tree.leaves, (after.learner.params, carry.learner.params)),
                        strict=True)
    ]  # fmt: skip
    assert max(moved) < 1.1e-2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tuned_steps": 0}, "tuned_steps must be at least 1"),
        ({"gamma": 1.5}, "gamma must lie in [0, 1]"),
        ({"target_kl": 0.0}, "target_kl must be positive"),
        ({"tuned_steps": 9}, "tuned_steps must not exceed the 4 steps"),
        ({"num_minibatches": 7}, "num_minibatches must divide the 512 trained denoising steps"),
    ],
)
def test_wrong_settings_are_named(trained, changes, message):
    problem, *_ = trained
    with pytest.raises(UserError, match=re.escape(message)):
        make_dppo(DPPOConfig(**{**SMALL, **changes}), problem)


def test_a_problem_that_pays_once_is_refused(kit):
    with pytest.raises(UserError, match="pays once per trajectory"):
        make_dppo(DPPOConfig(**SMALL), kit.problem)


def test_rollouts_use_the_frozen_copy_for_the_first_steps(trained):
    from hinf_rl.diffusion import Frozen

    problem, carry, _ = trained
    context = problem.draw_contexts(jax.random.key(3), 5)
    zeros = jax.tree.map(jnp.zeros_like, carry.reference)
    run = jax.jit(lambda own, frozen: problem.rollout(jax.random.key(4), own, context, frozen))
    mixed = run(zeros, Frozen(carry.reference, 2)).decisions
    plain = jax.jit(lambda p: problem.rollout(jax.random.key(4), p, context))(carry.reference)
    np.testing.assert_allclose(mixed.x[:, :3], plain.decisions.x[:, :3], atol=1e-5)
    assert np.abs(mixed.x_next[:, 3] - plain.decisions.x_next[:, 3]).max() > 1e-3
