"""Operators on finite decision processes against a linear solve, their bounds and each other."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hinf_rl.ops.bellman import conservative_operator, inverse_operator, optimality_operator

STATES, ACTIONS, GAMMA = 4, 3, 0.9

conservative = jax.jit(conservative_operator)
optimality = jax.jit(optimality_operator)
inverse = jax.jit(inverse_operator)


def process(seed):
    """Reward, transition (one row of which ends the episode half of the time), reference."""
    draw = np.random.default_rng(seed)
    transition = draw.dirichlet(np.ones(STATES), (STATES, ACTIONS))
    transition[0, 0] *= 0.5
    reward = draw.normal(size=(STATES, ACTIONS))
    reference = draw.dirichlet(np.ones(ACTIONS), STATES)
    return [jnp.asarray(x, jnp.float32) for x in (reward, transition, reference)]


def draw_q(seed):
    draw = np.random.default_rng(seed + 1_000_000)
    return jnp.asarray(draw.normal(scale=3.0, size=(STATES, ACTIONS)), jnp.float32)


def exact_value(reward, transition, greedy):
    """Value of always taking `greedy[s]`, from (I - gamma P) v = r, and its Q."""
    rows = np.arange(STATES)
    P, r = (np.asarray(x, np.float64) for x in (transition, reward))
    v = np.linalg.solve(np.eye(STATES) - GAMMA * P[rows, greedy], r[rows, greedy])
    return r + GAMMA * P @ v


def iterate(operator, q, sweeps=400):
    return jax.lax.fori_loop(0, sweeps, lambda _, q: operator(q), q)


def test_conservative_operator_by_hand():
    # One action-free chain of two states: state 0 goes to 1, state 1 ends. The reference prefers
    # action 1 in state 1, where Q = 5 although action 0 has 7: r + 0.5 * 5 against 0.5 * 7.
    q = jnp.array([[1.0, 2.0], [7.0, 5.0]])
    reference = jnp.array([[0.5, 0.5], [0.2, 0.8]])
    reward = jnp.array([[10.0, 20.0], [30.0, 40.0]])
    transition = jnp.zeros((2, 2, 2)).at[0, :, 1].set(1.0)
    found = conservative_operator(q, reference, reward, transition, 0.5)
    np.testing.assert_allclose(found, [[12.5, 22.5], [30.0, 40.0]])
    found = optimality_operator(q, reward, transition, 0.5)
    np.testing.assert_allclose(found, [[13.5, 23.5], [30.0, 40.0]])
    # T^q of the same Q: Q - 0.5 * 5 in state 0, Q itself where nothing follows.
    found = inverse_operator(q, reference, transition, 0.5)
    np.testing.assert_allclose(found, [[-1.5, -0.5], [7.0, 5.0]])


@given(seed=st.integers(0, 10_000))
def test_both_operators_are_contractions(seed):
    reward, transition, reference = process(seed)
    one, two = draw_q(2 * seed), draw_q(2 * seed + 1)
    bound = GAMMA * jnp.max(jnp.abs(one - two)) + 1e-5
    for image in (
        lambda q: conservative(q, reference, reward, transition, GAMMA),
        lambda q: optimality(q, reward, transition, GAMMA),
    ):
        assert jnp.max(jnp.abs(image(one) - image(two))) <= bound


@given(seed=st.integers(0, 10_000))
def test_fixed_point_is_the_value_of_the_greedy_reference(seed):
    reward, transition, reference = process(seed)
    greedy = np.argmax(reference, axis=-1)
    found = iterate(lambda q: conservative(q, reference, reward, transition, GAMMA), draw_q(seed))
    expected = exact_value(reward, transition, greedy)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_optimality_fixed_point_is_the_best_of_all_policies():
    # 3^4 = 81 deterministic policies, each solved exactly; the best value is attained by one.
    reward, transition, _ = process(3)
    found = iterate(lambda q: optimality(q, reward, transition, GAMMA), draw_q(3))
    every = np.stack(np.meshgrid(*[range(ACTIONS)] * STATES), -1).reshape(-1, STATES)
    best = np.max([exact_value(reward, transition, greedy) for greedy in every], axis=0)
    np.testing.assert_allclose(found, best, rtol=1e-4, atol=1e-4)


@given(seed=st.integers(0, 10_000))
def test_acting_on_the_fixed_point_improves_on_the_reference(seed):
    # What the paper does not state: one step of policy improvement over greedy decoding.
    reward, transition, reference = process(seed)
    before = exact_value(reward, transition, np.argmax(reference, axis=-1))
    after = exact_value(reward, transition, np.argmax(before, axis=-1))
    assert np.all(after.max(axis=-1) >= before[range(STATES), np.argmax(reference, -1)] - 1e-6)


@given(seed=st.integers(0, 10_000))
def test_rewards_and_values_are_in_bijection(seed):
    reward, transition, reference = process(seed)
    greedy = np.argmax(reference, axis=-1)
    fixed = jnp.asarray(exact_value(reward, transition, greedy), jnp.float32)
    np.testing.assert_allclose(
        inverse(fixed, reference, transition, GAMMA), reward, rtol=1e-5, atol=1e-5
    )
    # And the other way: any Q is the fixed point of the reward that T^q gives.
    q = draw_q(seed)
    implied = inverse(q, reference, transition, GAMMA)
    np.testing.assert_allclose(exact_value(implied, transition, greedy), q, rtol=1e-4, atol=1e-4)


def test_operators_agree_where_the_reference_is_optimal():
    reward, transition, _ = process(5)
    best = iterate(lambda q: optimality(q, reward, transition, GAMMA), draw_q(5))
    image = conservative(best, best, reward, transition, GAMMA)
    np.testing.assert_allclose(image, best, rtol=1e-4, atol=1e-4)
