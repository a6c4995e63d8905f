"""Rankers: equal to their definitions, and to each other where theory says so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.agents.bcoder import RANKERS, apply_algorithm, make, make_scores
from hinf_rl.agents.bcoder.data import forced_output
from hinf_rl.agents.bcoder.networks import Networks


@pytest.fixture(scope="module")
def trained(source, config):
    """The carry before and after eight steps."""
    algorithm = make(config, source)
    carry = jax.jit(algorithm.init)(jax.random.key(0))
    steps = jax.jit(lambda c: jax.lax.scan(lambda c, _: algorithm.step(c), c, length=8)[0])
    return carry, steps(carry)


@pytest.fixture(scope="module")
def scores_of(source, config):
    return jax.jit(make_scores(config, source.transformer))


def test_scores_equal_their_definitions(source, config, trained, scores_of):
    _, carry = trained
    programs = carry.generated.programs
    scores = scores_of(carry, carry.prompts, programs)
    assert set(scores) == set(RANKERS)
    logits = forced_output(
        source.transformer, carry.policy.transformer, carry.prompts, programs
    ).logits
    log_softmax = np.asarray(jax.nn.log_softmax(logits), np.float64)
    picked = np.take_along_axis(log_softmax, np.asarray(programs.tokens)[..., None], -1)[..., 0]
    mask = np.asarray(programs.mask)
    expected = (picked * mask).sum(-1)
    np.testing.assert_allclose(scores["log_prob"], expected, rtol=1e-4)
    # A = alpha log(pi / max pi).
    advantage = config.alpha * (picked - log_softmax.max(-1)) * mask
    np.testing.assert_allclose(scores["advantage"], advantage.sum(-1), rtol=1e-4, atol=1e-5)
    # Telescoped: V(s_0) + sum A + (1 - gamma) sum_{t >= 1} V(s_t).
    networks = Networks(source.transformer, config.max_value)
    raw = networks.raw_value(carry.value, carry.prompts, programs)
    value = networks.q_parts(
        carry.policy, carry.twin, raw, carry.prompts, programs, programs.tokens, jnp.float32(0.1)
    ).value
    later = (np.asarray(value) * mask)[:, 1:].sum(-1)
    telescoped = value[:, 0] + advantage.sum(-1) + (1 - config.gamma) * later
    np.testing.assert_allclose(scores["reward"], telescoped, atol=1e-4)


def test_rankers_before_training(trained, scores_of):
    # theta = ckpt: both likelihoods are one, and a^ is the policy's own choice.
    carry, _ = trained
    scores = scores_of(carry, carry.prompts, carry.generated.programs)
    np.testing.assert_array_equal(scores["log_prob"], scores["log_prob_reference"])
    np.testing.assert_allclose(scores["reward"], scores["reward_exact"], atol=1e-5)


def test_without_a_value_there_is_no_recovered_reward(source, config, key):
    sft = apply_algorithm(config, "sft")
    carry = jax.jit(make(sft, source).init)(key)
    scores = make_scores(sft, source.transformer)(carry, carry.prompts, carry.human.programs)
    assert set(scores) == {"log_prob_reference", "log_prob", "advantage"}
