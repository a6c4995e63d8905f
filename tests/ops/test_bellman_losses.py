"""Losses of B-Coder: hand arithmetic, what may not have a gradient, finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hinf_rl.ops.bellman_losses import (
    advantage_loss,
    cross_entropy_loss,
    fine_tuning_losses,
    policy_gradient_loss,
    q_loss,
    value_loss,
)
from hinf_rl.ops.bellman_tokens import advantage_of, greedy_actions, terminal_rewards

B, T, V = 3, 4, 5
ALPHA, GAMMA = 0.3, 0.9


def batch(seed):
    draw = np.random.default_rng(seed)
    logits, reference = draw.normal(scale=2.0, size=(2, B, T, V)).astype(np.float32)
    value = draw.normal(size=(B, T)).astype(np.float32)
    tokens = draw.integers(0, V, (B, T)).astype(np.int32)
    mask = np.arange(T)[None] < np.array([4, 2, 1])[:, None]
    outcome = draw.choice([1.0, -0.3, -0.6, -1.0], B).astype(np.float32)
    return tuple(map(jnp.asarray, (logits, reference, value, tokens, mask, outcome)))


def losses(logits, reference, value, tokens, mask, outcome, is_human=(True, False, True)):
    """L_ft's parts with the conservative operator, as the algorithm calls them."""
    greedy = greedy_actions(reference)
    return fine_tuning_losses(
        logits,
        value,
        tokens,
        advantage_of(logits, greedy, ALPHA) + value,
        terminal_rewards(outcome, mask),
        mask,
        jnp.asarray(is_human),
        alpha=ALPHA,
        gamma=GAMMA,
    )


def reference_losses(logits, reference, value, tokens, mask, outcome, is_human, target=None):
    """The same in NumPy, token by token; a given `target` holds the bootstraps fixed."""
    logits, value = np.asarray(logits, np.float64), np.asarray(value, np.float64)
    q, adv, ce, targets = [], [], [], []
    for b in range(B):
        length = int(mask[b].sum())
        for t in range(length):
            gap = logits[b, t] - logits[b, t].max()
            taken = ALPHA * gap[tokens[b, t]]
            if t + 1 < length:
                choice = int(np.argmax(reference[b, t + 1]))
                after = logits[b, t + 1]
                y = GAMMA * (ALPHA * (after[choice] - after.max()) + value[b, t + 1])
            else:
                y = float(outcome[b])
            targets.append(y)
            y = y if target is None else target[len(targets) - 1]
            q.append((y - taken - value[b, t]) ** 2)
            if is_human[b]:
                adv.append(-taken)
                ce.append(-(gap[tokens[b, t]] - np.log(np.exp(gap).sum())))
    return np.array([np.mean(q), np.mean(adv), np.mean(ce)]), targets


def test_value_loss_by_hand():
    # gamma 0.5; tokens with A -0.2 and 0, V 0.4 and 0.6, outcome 1 with the second:
    # (0.5 * 0.6 + 0.2 - 0.4)^2 = 0.01 and (1 - 0 - 0.6)^2 = 0.16.
    found = value_loss(
        jnp.array([[-0.2, 0.0]]),
        jnp.array([[0.4, 0.6]]),
        jnp.array([[0.0, 1.0]]),
        jnp.ones((1, 2), bool),
        0.5,
    )
    np.testing.assert_allclose(found, [[0.01, 0.16]], atol=1e-6)


def test_value_loss_has_the_semi_gradient():
    # d/dv_0 = -2 (target - A - v_0) and nothing through the bootstrap: v_1 sees its own term only.
    advantage, value = jnp.array([[-0.2, 0.0]]), jnp.array([[0.4, 0.6]])
    reward, mask = jnp.array([[0.0, 1.0]]), jnp.ones((1, 2), bool)

    def total(a, v):
        return jnp.sum(value_loss(a, v, reward, mask, 0.5))

    to_advantage, to_value = jax.grad(total, argnums=(0, 1))(advantage, value)
    np.testing.assert_allclose(to_value, [[-0.2, -0.8]], atol=1e-6)
    np.testing.assert_allclose(to_advantage, [[0.0, 0.0]])


def test_q_loss_by_hand_and_its_frozen_bootstrap():
    # gamma 0.5; Q 0.3 and 0.7, bootstrap of state 1 is 0.2: (0.1 - 0.3)^2, (1 - 0.7)^2.
    q, boot = jnp.array([[0.3, 0.7]]), jnp.array([[9.0, 0.2]])
    reward, mask = jnp.array([[0.0, 1.0]]), jnp.ones((1, 2), bool)
    np.testing.assert_allclose(q_loss(q, boot, reward, mask, 0.5), [[0.04, 0.09]], atol=1e-6)
    to_q, to_boot = jax.grad(lambda q, b: jnp.sum(q_loss(q, b, reward, mask, 0.5)), (0, 1))(q, boot)
    np.testing.assert_allclose(to_q, [[0.4, -0.6]], atol=1e-6)
    np.testing.assert_allclose(to_boot, [[0.0, 0.0]])


def test_supervised_losses_by_hand():
    # Logits (0, ln 3): log softmax of token 0 is -ln 4, its gap is -ln 3.
    logits, token = jnp.array([[[0.0, np.log(3.0)]]], jnp.float32), jnp.array([[0]])
    np.testing.assert_allclose(cross_entropy_loss(logits, token), [[np.log(4.0)]], rtol=1e-6)
    np.testing.assert_allclose(advantage_loss(logits, token, 0.5), [[0.5 * np.log(3.0)]], rtol=1e-6)
    # A token that is already the choice costs nothing and pulls at nothing.
    chosen = jnp.array([[1]])
    gradient = jax.grad(lambda x: jnp.sum(advantage_loss(x, chosen, 0.5)))(logits)
    np.testing.assert_allclose(gradient, np.zeros((1, 1, 2)))


@given(seed=st.integers(0, 10_000), humans=st.tuples(*[st.booleans()] * B))
def test_fine_tuning_losses_equal_the_definition(seed, humans):
    arrays = batch(seed)
    humans = humans if any(humans) else (True, *humans[1:])
    found = losses(*arrays, is_human=humans)
    expected, _ = reference_losses(*map(np.asarray, arrays), humans)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)


def test_gradient_equals_finite_differences_with_the_bootstraps_held():
    # In double precision, outside of JAX: the target is computed once, then held.
    arrays = [np.asarray(x) for x in batch(4)]
    humans, weights = (True, False, True), np.array([1.0, 0.1, 0.5])
    _, held = reference_losses(*arrays, humans)

    def total(logits, value):
        parts = reference_losses(logits, arrays[1], value, *arrays[3:], humans, target=held)
        return float(weights @ parts[0])

    def loss(logits, value):
        parts = losses(logits, *arrays[1:2], value, *map(jnp.asarray, arrays[3:]), is_human=humans)
        return sum(w * part for w, part in zip(weights.tolist(), parts, strict=True))

    to_logits, to_value = jax.grad(loss, argnums=(0, 1))(jnp.asarray(arrays[0]), arrays[2])
    logits, value = (arrays[i].astype(np.float64) for i in (0, 2))
    step = 1e-6
    for found, which in ((to_logits, 0), (to_value, 1)):
        for index in np.ndindex(*found.shape):
            moved = [[logits.copy(), value.copy()] for _ in range(2)]
            moved[0][which][index] += step
            moved[1][which][index] -= step
            slope = (total(*moved[0]) - total(*moved[1])) / (2.0 * step)
            np.testing.assert_allclose(found[index], slope, atol=2e-5)


def test_padding_changes_neither_losses_nor_gradients():
    logits, reference, value, tokens, mask, outcome = batch(5)
    dirty_logits = jnp.where(mask[..., None], logits, 37.0)
    dirty_value = jnp.where(mask, value, -50.0)
    clean = losses(logits, reference, value, tokens, mask, outcome)
    dirty = losses(dirty_logits, reference, dirty_value, tokens, mask, outcome)
    np.testing.assert_array_equal(clean, dirty)
    to_logits, to_value = jax.grad(
        lambda x, v: sum(losses(x, reference, v, tokens, mask, outcome)), (0, 1)
    )(logits, value)
    assert np.all(np.asarray(to_logits)[~np.asarray(mask)] == 0.0)
    assert np.all(np.asarray(to_value)[~np.asarray(mask)] == 0.0)


def test_reference_gets_no_gradient_and_supervision_needs_humans():
    logits, reference, value, tokens, mask, outcome = batch(6)

    def total(reference, logits):
        return sum(losses(logits, reference, value, tokens, mask, outcome))

    np.testing.assert_array_equal(jax.grad(total)(reference, logits), np.zeros((B, T, V)))
    nobody = losses(logits, reference, value, tokens, mask, outcome, is_human=(False,) * B)
    assert nobody.advantage == 0.0 and nobody.cross_entropy == 0.0 and nobody.q > 0.0


def test_policy_gradient_by_hand():
    # (R - b) = 1 - 0.25 and -0.3 - 0.5; d loss / d log pi = -(R - b), nothing into R or b.
    log_prob = jnp.array([[-1.0, -2.0], [-3.0, -4.0]])
    outcome, baseline = jnp.array([1.0, -0.3]), jnp.array([0.25, 0.5])
    found = policy_gradient_loss(log_prob, outcome, baseline)
    np.testing.assert_allclose(found, [[0.75, 1.5], [-2.4, -3.2]], rtol=1e-6)
    gradients = jax.grad(lambda *x: jnp.sum(policy_gradient_loss(*x)), (0, 1, 2))(
        log_prob, outcome, baseline
    )
    np.testing.assert_allclose(gradients[0], [[-0.75, -0.75], [0.8, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(gradients[1], [0.0, 0.0])
    np.testing.assert_allclose(gradients[2], [0.0, 0.0])
