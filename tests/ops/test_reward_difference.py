"""PRDP's loss: pairs by hand, a NumPy reference, its gradient, its optimum by enumeration."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinf_rl.ops.reward_difference import (
    reward_difference_loss,
    reward_difference_weights,
    stepwise_difference_loss,
    tilted_oracle,
    weighted_rewards,
)


def f32(*values):
    return tuple(jnp.asarray(value, jnp.float32) for value in values)


def reference(lp, old, ref, r, beta, eps, mask, ties, reduce):
    """NumPy, pair by pair."""
    total, count = 0.0, 0
    for i in range(len(r)):
        for j in range(i):
            if not (mask[i] and mask[j]) or (not ties and r[i] == r[j]):
                continue
            d = (r[i] - r[j]) / beta
            h = [reduce(lp[k] - ref[k]) for k in (i, j)]
            hc = [
                reduce(np.clip(lp[k] - ref[k], old[k] - ref[k] - eps, old[k] - ref[k] + eps))
                for k in (i, j)
            ]
            total += max((h[0] - h[1] - d) ** 2, (hc[0] - hc[1] - d) ** 2)
            count += 1
    return total / max(count, 1)


def draw(seed, rows=5, steps=3):
    generator = np.random.default_rng(seed)
    lp, old, ref = generator.normal(size=(3, rows, steps))
    r = generator.integers(0, 3, rows).astype(float)
    return lp, old, ref, r, generator.random(rows) < 0.8


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("step_reduce", ["sum", "mean"])
def test_loss_agrees_with_a_loop_over_pairs(ties, step_reduce):
    found = jax.jit(
        lambda lp, old, ref, r, mask, eps: reward_difference_loss(
            lp, old, ref, r, beta=0.7, clip_eps=eps, step_reduce=step_reduce,
            include_ties=ties, mask=mask,
        ).loss
    )  # fmt: skip
    reduce = {"sum": np.sum, "mean": np.mean}[step_reduce]
    for seed in range(20):
        lp, old, ref, r, mask = draw(seed)
        for eps in (0.1, np.inf):
            expected = reference(lp, old, ref, r, 0.7, eps, mask, ties, reduce)
            value = found(*f32(lp, old, ref, r), jnp.asarray(mask), jnp.float32(eps))
            np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("step", "slope"),
    [
        # r = (1, 0), beta 1: target 1. One step each, old = ref = 0; the second row stays at 0.
        # h = step; d loss / d step = 2 (h - 1) where the plain error is the larger.
        (0.05, 2 * (0.05 - 1.0)),  # inside the clip: both agree
        (0.30, 0.0),  # beyond 0.1 towards the target: the clipped error is larger and flat
        (-0.30, 2 * (-0.30 - 1.0)),  # away from the target: pulled back, clip or not
    ],
)
def test_the_clip_takes_away_the_incentive_to_go_on_but_not_the_way_back(step, slope):
    zeros = jnp.zeros((2, 1), jnp.float32)
    weights = reward_difference_weights(
        jnp.array([[step], [0.0]], jnp.float32), zeros, zeros,
        jnp.array([1.0, 0.0], jnp.float32), beta=1.0, clip_eps=0.1,
    )  # fmt: skip
    np.testing.assert_allclose(weights[0, 0], slope, rtol=1e-5, atol=1e-7)


def test_each_step_is_clipped_before_the_sum():
    # Steps +0.3 and -0.3 cancel in the sum; clipped to 0.1 each they cancel too, while
    # +0.3 and +0.0 become 0.1, which clipping the sum alone could not tell from +0.2 and +0.1.
    zeros = jnp.zeros((2, 2), jnp.float32)
    reward = jnp.array([10.0, 0.0], jnp.float32)

    def loss(first, second):
        lp = jnp.array([[first, second], [0.0, 0.0]], jnp.float32)
        return float(reward_difference_loss(lp, zeros, zeros, reward, beta=1.0, clip_eps=0.1).loss)

    assert loss(0.3, -0.3) == pytest.approx((0.0 - 10.0) ** 2)
    assert loss(0.3, 0.0) == pytest.approx((0.1 - 10.0) ** 2)
    assert loss(0.2, 0.1) == pytest.approx((0.2 - 10.0) ** 2)


@given(seed=st.integers(0, 10_000))
def test_gradient_equals_finite_differences(seed):
    lp, old, ref, r, mask = draw(seed, rows=4, steps=2)
    lp = old + 0.2 * (lp - old)
    # No kink within the difference: neither a clip nor a change of the larger error.
    if np.min(np.abs(np.abs(lp - old) - 0.15)) < 1e-3:
        return

    def value(x):
        return reference(x, old, ref, r, 0.5, 0.15, mask, True, np.sum)

    weights = reward_difference_weights(
        *f32(lp, old, ref, r), beta=0.5, clip_eps=0.15, mask=jnp.asarray(mask)
    )
    for index in np.ndindex(lp.shape):
        high, low = lp.copy(), lp.copy()
        high[index] += 1e-5
        low[index] -= 1e-5
        slope = (value(high) - value(low)) / 2e-5
        back, forth = (value(low) - value(lp)) / -1e-5, (value(high) - value(lp)) / 1e-5
        if abs(back - forth) < 1e-2:
            np.testing.assert_allclose(weights[index], slope, rtol=1e-2, atol=1e-3)


def test_nothing_but_the_learning_policy_has_a_gradient():
    lp, old, ref, r, _ = draw(1)
    gradients = jax.grad(
        lambda *x: reward_difference_loss(*x, beta=1.0).loss, argnums=(0, 1, 2, 3)
    )(*f32(lp, old, ref, r))
    assert np.any(gradients[0])
    assert not any(np.any(g) for g in gradients[1:])


def test_context_dependent_offsets_cancel():
    # log Z of the context and a constant in the reward drop out of every difference.
    lp, old, ref, r, _ = draw(2)
    plain = reward_difference_loss(*f32(lp, old, ref, r), beta=0.5).loss
    shifted = reward_difference_loss(*f32(lp, old, ref, r + 7.0), beta=0.5).loss
    np.testing.assert_allclose(plain, shifted, rtol=1e-4)


def test_masked_rows_may_hold_anything():
    lp, old, ref, r, _ = draw(3)
    mask = jnp.array([True, True, False, True, True])
    spoilt = [x.at[2].set(jnp.nan) for x in f32(lp, old, ref, r)]
    clean = [x[np.array([0, 1, 3, 4])] for x in f32(lp, old, ref, r)]
    value = reward_difference_loss(*spoilt, beta=0.5, clip_eps=0.1, mask=mask)
    expected = reward_difference_loss(*clean, beta=0.5, clip_eps=0.1)
    np.testing.assert_allclose(value.loss, expected.loss, rtol=1e-5)
    np.testing.assert_allclose(value.explained, expected.explained, rtol=1e-4, atol=1e-6)
    weights = reward_difference_weights(*spoilt, beta=0.5, clip_eps=0.1, mask=mask)
    assert np.isfinite(weights).all() and not np.any(weights[2])


@pytest.mark.parametrize(
    ("reward", "ties", "pairs"),
    [
        ([0.0, 0.0, 1.0], True, 3),
        ([0.0, 0.0, 1.0], False, 2),
        ([1.0, 1.0, 1.0], True, 3),
        ([1.0, 1.0, 1.0], False, 0),
    ],
)
def test_ties_count_where_asked_and_an_empty_group_costs_nothing(reward, ties, pairs):
    lp, old, ref, _, _ = draw(4, rows=3)
    inputs = f32(lp, old, ref, reward)
    found = reward_difference_loss(*inputs, beta=1.0, include_ties=ties)
    assert float(found.num_pairs) == pairs
    assert np.isfinite(found.loss) and (pairs > 0 or float(found.loss) == 0.0)
    weights = reward_difference_weights(*inputs, beta=1.0, include_ties=ties)
    assert np.isfinite(weights).all()


def test_at_the_reference_the_gradient_is_reinforce_with_the_group_mean():
    _, old, _, r, _ = draw(5, rows=6, steps=4)
    x, reward = f32(old, r)
    weights = reward_difference_weights(x, x, x, reward, beta=0.1, clip_eps=0.02)
    # d/dl_i mean over the 15 pairs of (0 - d_ij)^2 = -(2 / 15) sum_j (r_i - r_j) / beta.
    expected = -2.0 / 15.0 * 6.0 * (r - r.mean()) / 0.1
    np.testing.assert_allclose(weights, np.broadcast_to(expected[:, None], (6, 4)), rtol=1e-4)
    # The clip has no effect yet: the first ratio is 1.
    free = reward_difference_weights(x, x, x, reward, beta=0.1)
    np.testing.assert_allclose(weights, free, rtol=1e-5)


def test_with_targets_far_away_the_gradient_keeps_the_direction_of_reinforce():
    lp, _, ref, _, _ = draw(6, rows=8, steps=5)
    r = np.random.default_rng(0).normal(size=8)
    weights = np.asarray(
        reward_difference_weights(*f32(lp, lp, ref, r), beta=1e-5), np.float64
    ).ravel()
    plain = -np.repeat(r - r.mean(), 5)
    cosine = weights @ plain / np.linalg.norm(weights) / np.linalg.norm(plain)
    assert cosine == pytest.approx(1.0, abs=1e-3)


def toy(logits):
    """Log-probabilities [9, 2] of all trajectories of two ternary decisions."""
    first = jax.nn.log_softmax(logits["first"])
    second = jax.nn.log_softmax(logits["second"], axis=-1)
    a, b = np.divmod(np.arange(9), 3)
    return jnp.stack([first[a], second[a, b]], axis=-1)


def test_the_minimum_is_the_tilted_reference_by_enumeration():
    generator = np.random.default_rng(0)
    base = {
        "first": jnp.asarray(generator.normal(size=3), jnp.float32),
        "second": jnp.asarray(generator.normal(size=(3, 3)), jnp.float32),
    }
    reward = jnp.asarray(generator.normal(size=9), jnp.float32)
    beta, ref = 0.5, toy(base)
    optimizer = optax.adam(optax.cosine_decay_schedule(0.05, 1500))

    @jax.jit
    def solve(params):
        def step(carry, _):
            params, state = carry
            # Proximal: the snapshot follows every step.
            old = toy(params)
            gradient = jax.grad(
                lambda p: (
                    reward_difference_loss(toy(p), old, ref, reward, beta=beta, clip_eps=0.1).loss
                )
            )(params)
            with jax.numpy_dtype_promotion("standard"):
                updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, optimizer.init(params)), length=1500)[0][0]

    learned = np.exp(np.asarray(toy(solve(base)).sum(axis=-1), np.float64))
    p = np.exp(np.asarray(ref.sum(axis=-1), np.float64))
    tilted = p * np.exp(np.asarray(reward) / beta)
    np.testing.assert_allclose(learned, tilted / tilted.sum(), atol=1e-3)


def test_oracle_of_enumerated_rewards():
    # Two outcomes at even odds, r = 0 or 1, beta 1: Z = (1 + e) / 2, tilted E[r] = e / (1 + e).
    reward = jnp.tile(jnp.array([0.0, 1.0], jnp.float32), (3, 50))
    found = tilted_oracle(reward, beta=1.0)
    mean, objective = np.e / (1 + np.e), np.log((1 + np.e) / 2)
    np.testing.assert_allclose(found.reward, mean, rtol=1e-5)
    np.testing.assert_allclose(found.objective, objective, rtol=1e-5)
    np.testing.assert_allclose(found.kl, mean - objective, rtol=1e-4)
    # weights 2 e / ((1 + e) 100) and 2 / ((1 + e) 100): 1 / sum w^2 by hand.
    w = np.array([np.e, 1.0]) / (1 + np.e) / 50
    np.testing.assert_allclose(found.sample_size, 1 / (50 * (w**2).sum()), rtol=1e-5)


def test_oracle_of_normal_rewards_and_of_contexts_apart(key):
    # r ~ N(m_c, 1), beta 2: per context E[r] = m + 1/2, J = m + 1/4, KL = 1/8. Pooling the
    # contexts would favour those of large m.
    m = jnp.array([-5.0, 0.0, 5.0], jnp.float32)
    reward = m[:, None] + jax.random.normal(key, (3, 100_000), jnp.float32)
    found = tilted_oracle(reward, beta=2.0)
    np.testing.assert_allclose(
        [found.reward, found.objective, found.kl], [0.5, 0.25, 0.125], atol=0.01
    )


def test_no_distribution_beats_the_oracle():
    generator = np.random.default_rng(1)
    reward = generator.normal(size=20)
    best = float(tilted_oracle(jnp.asarray(reward[None], jnp.float32), beta=0.3).objective)
    for scale in (0.1, 1.0, 3.0, 10.0):
        q = generator.dirichlet(np.full(20, 1.0 / scale), size=50) + 1e-12
        objective = q @ reward - 0.3 * np.sum(q * np.log(q * 20), axis=1)
        assert objective.max() <= best + 1e-5


def test_stepwise_loss_by_hand():
    # One pair, two steps, decay 0.5: ((0.2 - 0) - (1 - 0))^2 and (0.5 (0.0 - 0.4) - (0 - 1))^2.
    lp = jnp.array([[0.2, 0.0], [0.0, 0.4]], jnp.float32)
    advantage = jnp.array([[1.0, 0.0], [0.0, 1.0]], jnp.float32)
    zeros = jnp.zeros((2, 2), jnp.float32)
    found = stepwise_difference_loss(lp, zeros, advantage, decay=0.5)
    np.testing.assert_allclose(found, (0.8**2 + 0.8**2) / 2, rtol=1e-5)
    # Clipped at 0.1 both errors are larger: 0.9 and 0.95.
    clipped = stepwise_difference_loss(lp, zeros, advantage, decay=0.5, clip_eps=0.1)
    np.testing.assert_allclose(clipped, (0.9**2 + 0.95**2) / 2, rtol=1e-5)


def test_several_rewards_are_summed_with_their_weights():
    rewards = jnp.array([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]], jnp.float32)
    found = weighted_rewards(rewards, jnp.array([10.0, 2.0, 0.05], jnp.float32))
    np.testing.assert_allclose(found, [14.15, 2.0], rtol=1e-6)
    with pytest.raises(AssertionError):
        weighted_rewards(rewards, jnp.ones(2, jnp.float32))
