"""Both stages: identities at their start, what each may move, and known answers."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.agents.bcoder import (
    BCoderConfig,
    apply_algorithm,
    draw_programs,
    hyperparameters,
    make,
    make_scores,
)
from hinf_rl.agents.bcoder.data import draw_batch, forced_output
from hinf_rl.agents.bcoder.networks import Networks
from hinf_rl.errors import UserError
from hinf_rl.ops.bellman_losses import fine_tuning_losses
from hinf_rl.ops.bellman_tokens import advantage_of, greedy_actions, terminal_rewards
from hinf_rl.training.checkpoint import restore_checkpoint
from hinf_rl.training.loop import seed_keys, train
from hinf_rl.training.run_directory import RunDirectory


def run(algorithm, carry, steps):
    """Carry and the metrics of each step."""
    return jax.jit(lambda carry: jax.lax.scan(lambda c, _: algorithm.step(c), carry, length=steps))(
        carry
    )


def is_same(one, two):
    return all(
        bool(jnp.array_equal(a, b)) for a, b in zip(*map(jax.tree.leaves, (one, two)), strict=True)
    )


@pytest.fixture(scope="module")
def started(source, config):
    """The algorithm, its first carry, and the carry after stage one."""
    algorithm = make(config, source)
    first = jax.jit(algorithm.init)(jax.random.key(0))
    after, metrics = run(algorithm, first, config.value_iterations)
    return algorithm, first, after, metrics


def q_of_both(source, config, carry):
    """Q_phi and Q_theta of the stored samples' tokens, and both policies' logits."""
    networks = Networks(source.transformer, config.max_value)
    data, alpha = carry.generated, carry.hyperparameters.alpha
    reference = forced_output(
        source.transformer, carry.reference, carry.prompts, data.programs
    ).logits
    v_phi = networks.stage_one_value(carry.value, carry.prompts, data.programs)
    q_phi = advantage_of(reference, data.programs.tokens, alpha) + v_phi
    raw = networks.raw_value(carry.value, carry.prompts, data.programs)
    parts = networks.q_parts(
        carry.policy, carry.twin, raw, carry.prompts, data.programs, data.greedy, alpha
    )
    return q_phi, parts, reference


def test_stage_two_starts_from_the_checkpoint_and_from_q_phi(source, config, started):
    # Eq. 11 and 16: pi_theta = p_ckpt and Q_theta = Q_phi, exactly, whatever stage one learned.
    _, _, carry, _ = started
    q_phi, parts, reference = jax.jit(lambda c: q_of_both(source, config, c))(carry)
    np.testing.assert_array_equal(parts.logits, reference)
    np.testing.assert_allclose(parts.taken + parts.value, q_phi, atol=1e-6)
    np.testing.assert_allclose(parts.greedy, 0.0, atol=1e-7)
    assert np.all(parts.taken + parts.value <= config.max_value + 1e-6)


def test_stage_one_moves_the_value_alone_and_stage_two_the_policy_alone(config, started):
    algorithm, first, between, metrics = started
    frozen = ("reference", "twin", "prompts", "human", "generated")
    assert all(is_same(getattr(first, name), getattr(between, name)) for name in frozen)
    assert is_same(first.policy, between.policy)
    assert not is_same(first.value, between.value)
    assert np.all(metrics["train/stage_two"] == 0.0)
    last, metrics = run(algorithm, between, config.policy_iterations)
    assert all(is_same(between._asdict()[name], last._asdict()[name]) for name in frozen)
    assert is_same(between.value, last.value)
    for moved in ("transformer", "residual"):
        assert not is_same(getattr(between.policy, moved), getattr(last.policy, moved))
    assert np.all(metrics["train/stage_two"] == 1.0)
    assert np.all(metrics["train/nonfinite_updates"] == 0.0)
    assert last.iteration == config.iterations


def test_what_the_paper_freezes_gets_no_gradient(source, config, started):
    # Into phi's value, h2 and the annotations of the reference: exactly zero; into theta: not.
    _, _, carry, _ = started
    networks = Networks(source.transformer, config.max_value)
    data = carry.generated
    programs = data.programs

    def loss(raw_value, twin, policy):
        parts = networks.q_parts(
            policy, twin, raw_value, carry.prompts, programs, data.greedy, jnp.float32(0.1)
        )
        losses = fine_tuning_losses(
            parts.logits,
            parts.value,
            programs.tokens,
            parts.value + parts.greedy,
            terminal_rewards(programs.outcome, programs.mask),
            programs.mask,
            programs.outcome > 0.0,
            alpha=0.1,
            gamma=0.99,
        )
        return sum(losses)

    raw = networks.raw_value(carry.value, carry.prompts, programs)
    to_raw, to_twin, to_policy = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(
        raw, carry.twin, carry.policy
    )
    for leaf in jax.tree.leaves((to_raw, to_twin)):
        np.testing.assert_array_equal(leaf, jnp.zeros_like(leaf))
    for part in to_policy:
        assert max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(part)) > 0.0


def test_both_operators_agree_at_the_start_of_stage_two_and_not_later(source, config, started):
    # At theta = ckpt the greatest advantage and that of a^ are both 0.
    _, _, carry, _ = started
    results = {}
    for operator in ("conservative", "optimality"):
        changed = dataclasses.replace(config, operator=operator, iterations=20, value_fraction=0.2)
        results[operator] = run(make(changed, source), carry, 16)[1]["bellman/loss"]
    one, two = results.values()
    np.testing.assert_allclose(one[0], two[0], rtol=1e-6)
    assert abs(one[-1] - two[-1]) > 1e-4


def test_stage_one_finds_the_value_that_makes_q_consistent(source, key):
    # One program: V(s_T) = r - A_T, V(s_t) = gamma V(s_{t+1}) - A_t, by backward substitution.
    config = BCoderConfig(
        iterations=1001,
        value_fraction=1000 / 1001,
        batch_size=4,
        human_fraction=1.0,
        alpha=0.05,
        gamma=0.9,
        value_learning_rate=5e-3,
        weight_decay=0.0,
    )
    algorithm = make(config, source)
    first = jax.jit(algorithm.init)(key)
    # Three states whose last tokens differ: the network has nothing else to tell them apart by.
    only = jax.tree.map(lambda leaf: leaf[:1], first.human)
    only = only._replace(programs=only.programs._replace(outcome=jnp.float32([-1.0])))
    carry, _ = run(algorithm, first._replace(human=only), config.value_iterations)
    networks = Networks(source.transformer, config.max_value)
    found = networks.stage_one_value(carry.value, carry.prompts, only.programs)[0]
    advantage, after = 0.05 * np.asarray(only.gap[0]), None
    for t in reversed(range(int(only.programs.mask.sum()))):
        after = (-1.0 if after is None else 0.9 * after) - advantage[t]
        np.testing.assert_allclose(found[t], after, atol=0.05)


def test_sft_is_cross_entropy_and_learns_the_human_programs(source, key):
    config = apply_algorithm(
        BCoderConfig(iterations=120, batch_size=8, learning_rate=1e-2, value_fraction=0.0), "sft"
    )
    algorithm = make(config, source)
    first = jax.jit(algorithm.init)(key)
    # The first loss, from the definition: half of the batch are humans.
    batch_key, _ = jax.random.split(first.key)
    batch, is_human = draw_batch(first.human, first.generated, 4, 8, batch_key)
    logits = forced_output(source.transformer, first.reference, first.prompts, batch.programs)
    log_probs = jax.nn.log_softmax(logits.logits)[:4]
    picked = jnp.take_along_axis(log_probs, batch.programs.tokens[:4, :, None], -1)[..., 0]
    mask = batch.programs.mask[:4]
    assert is_human.tolist() == [True] * 4 + [False] * 4
    carry, metrics = run(algorithm, first, 120)
    expected = -np.mean(np.asarray(picked)[np.asarray(mask)])
    np.testing.assert_allclose(metrics["loss/cross_entropy"][0], expected, rtol=1e-5)
    assert metrics["loss/cross_entropy"][-1] < 0.2 < metrics["loss/cross_entropy"][0]
    # Sampled from the policy, most programs are right (chance: 1 in 8).
    problem = jnp.repeat(jnp.arange(5, dtype=jnp.int32), 8)
    tokens, _ = draw_programs(
        source.transformer, source.sampling, algorithm.policy(carry), carry.prompts, problem, key
    )
    assert np.mean(np.asarray(source.judge((), problem, tokens)) > 0) > 0.7


def test_reinforce_raises_the_outcome(source, key):
    config = apply_algorithm(
        BCoderConfig(iterations=80, batch_size=32, learning_rate=2e-2, value_fraction=0.0),
        "reinforce",
    )
    _, metrics = run(make(config, source), jax.jit(make(config, source).init)(key), 80)
    outcome = metrics["policy/outcome"]
    assert np.mean(outcome[-10:]) > np.mean(outcome[:10]) + 0.3


def test_reinforce_needs_a_judge(source):
    config = apply_algorithm(BCoderConfig(), "reinforce")
    with pytest.raises(UserError, match="objective"):
        make(config, dataclasses.replace(source, is_judged=False))


def test_a_nonfinite_gradient_changes_nothing_and_is_counted(source, config, key):
    algorithm = make(config, source)
    carry = jax.jit(algorithm.init)(key)
    outcome = jnp.full_like(carry.generated.programs.outcome, jnp.nan)
    broken = carry._replace(
        generated=carry.generated._replace(
            programs=carry.generated.programs._replace(outcome=outcome)
        )
    )
    after, metrics = run(algorithm, broken, config.iterations)
    assert np.all(metrics["train/nonfinite_updates"] == 1.0)
    assert is_same(after.policy, carry.policy) and is_same(after.value, carry.value)
    assert is_same(after.policy_optimizer, carry.policy_optimizer)


@pytest.mark.slow
def test_training_loop_saves_resumes_and_trains_seeds_side_by_side(source, config, tmp_path):
    traced = chex.assert_max_traces(make(config, source).step, n=2)
    algorithm = make(config, source)._replace(step=traced)
    keys = seed_keys(0, 2)
    straight = train(algorithm, iterations=8, keys=keys, log_every=3).carry
    folder = RunDirectory(tmp_path / "run")
    folder.path.mkdir()
    options = {"keys": keys, "log_every": 3, "checkpoint_every": 3}
    train(make(config, source), folder, iterations=3, **options)
    resumed = train(make(config, source), folder, iterations=8, resume=True, **options)
    assert resumed.summary["finished"] and resumed.summary["env_steps"] == 64
    plain = jax.tree.map(_plain, (resumed.carry, straight))
    assert is_same(*plain)
    done, restored = restore_checkpoint(folder.checkpoints, straight)
    assert done == 8 and is_same(jax.tree.map(_plain, restored), plain[0])


def test_hyperparameters_are_leaves_that_a_sweep_may_change(source, config, key):
    algorithm = make(config, source)
    numbers = hyperparameters(config)._replace(alpha=jnp.float32(0.7))
    carry = jax.jit(algorithm.init)(key, numbers)
    default = jax.jit(algorithm.init)(key)
    assert is_same(carry.reference, default.reference)
    scores = jax.jit(make_scores(config, source.transformer))
    found = [scores(c, c.prompts, c.generated.programs)["advantage"] for c in (carry, default)]
    np.testing.assert_allclose(found[0], 7.0 * found[1], rtol=1e-5)


def test_annotations_are_what_the_reference_says(source, started):
    _, carry, _, _ = started
    data = carry.human
    logits = forced_output(source.transformer, carry.reference, carry.prompts, data.programs).logits
    np.testing.assert_array_equal(data.greedy, greedy_actions(logits))
    picked = np.take_along_axis(np.asarray(logits), np.asarray(data.programs.tokens)[..., None], -1)
    np.testing.assert_allclose(data.gap, picked[..., 0] - np.max(logits, -1), atol=1e-5)


def _plain(leaf):
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.key_data(leaf)
    return leaf
