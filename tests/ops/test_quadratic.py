"""Regressions against planted coefficients and exact policy evaluation; the game they solve."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hinf_rl.ops.quadratic import (
    gain_update,
    gaussian_gain_step,
    lstd,
    quadratic_features,
    quadratic_value,
)
from hinf_rl.ops.riccati import (
    SYSTEMS,
    closed_loop,
    constrained_fixed_point,
    discounted,
    gare_solve,
    hinf_norm,
    lq_policy_gradient,
    lqr_gain,
    optimal_attenuation,
    random_system,
    saddle_gains,
)

ACTOR_STEP, DISTURBER_STEP, STD = 0.5, 0.05, 0.3


@functools.partial(jax.jit, static_argnames=("split", "num_envs", "num_steps"))
def roll_out(matrices, M, L, key, *, split=False, num_envs=32, num_steps=50):
    """Returns flat x, x', noise of both players, and [N, 3] rewards: whole, task, |w|^2."""
    A, B, D, Q, R = matrices
    key_x, key_u, key_w = jax.random.split(key, 3)
    draw = functools.partial(jax.random.normal, dtype=jnp.float32)
    noise_u = STD * draw(key_u, (num_steps, num_envs, B.shape[1]))
    noise_w = STD * draw(key_w, (num_steps, num_envs, D.shape[1]))

    def step(x, noise):
        u, w = x @ M.T + noise[0], x @ L.T + noise[1]
        state_cost, action_cost = jnp.sum(x @ Q * x, -1), jnp.sum(u @ R * u, -1)
        x_next = x @ A.T + u @ B.T + w @ D.T
        task = -state_cost if split else -state_cost - action_cost
        rewards = jnp.stack([-state_cost - action_cost, task, jnp.sum(w**2, -1)], -1)
        return x_next, (x, x_next, *noise, rewards)

    _, batch = jax.lax.scan(step, draw(key_x, (num_envs, A.shape[0])), (noise_u, noise_w))
    return tuple(value.reshape(-1, value.shape[-1]) for value in batch)


@jax.jit
def fit(batch, discount):
    """Critic weights [F, 3] and one-step advantages [N, 3] of all heads."""
    x, x_next, noise_u, noise_w, rewards = batch
    discount_t = jnp.full(x.shape[:1], discount, jnp.float32)
    noise = jnp.concatenate([noise_u, noise_w], axis=-1)
    weights = lstd(x, x_next, rewards, discount_t, noise_t=noise)
    following = discount_t[:, None] * quadratic_value(weights, x_next)
    return weights, rewards + following - quadratic_value(weights, x)


@jax.jit
def gain_steps(batch, actor_advantage, disturber_advantage):
    """(G, H) of both players."""
    x, _, noise_u, noise_w, _ = batch
    mask = jnp.ones(x.shape[:1], jnp.float32)
    return (
        gaussian_gain_step(x, noise_u, actor_advantage, mask, other_noise=noise_w),
        gaussian_gain_step(x, noise_w, disturber_advantage, mask, other_noise=noise_u),
    )


@functools.partial(jax.jit, static_argnames=("split",))
def iterate(matrices, gains, keys, discount, eta, share, disturber_step, *, split):
    """Plays one iteration per key; the actor's advantage is a blend, `share` of it the game's."""

    def body(gains, key):
        M, L = gains
        batch = roll_out(matrices, M, L, key, split=split)
        _, advantage = fit(batch, discount)
        game = advantage[:, 1] + eta * advantage[:, 2]
        step_u, step_w = gain_steps(batch, (1.0 - share) * advantage[:, 0] + share * game, -game)
        return (
            gain_update(M, *step_u, step=ACTOR_STEP),
            gain_update(L, *step_w, step=disturber_step, min_curvature=0.1 * eta),
        ), None

    return jax.lax.scan(body, gains, keys)[0]


def play(
    system,
    gains,
    *,
    discount,
    eta,
    num_iterations,
    seed=0,
    lam=math.inf,
    split=False,
    disturber_step=DISTURBER_STEP,
):
    """Plays from `gains` (M, L) with multiplier `lam` (inf: zero-sum); returns (K, L), float64."""
    keys = jax.random.split(jax.random.key(seed), num_iterations)
    share = 1.0 if math.isinf(lam) else lam / (1.0 + lam)
    numbers = (jnp.asarray(v, jnp.float32) for v in (discount, eta, share, disturber_step))
    gains = tuple(jnp.asarray(gain, jnp.float32) for gain in gains)
    M, L = iterate(float32(system), gains, keys, *numbers, split=split)
    return -np.asarray(M, np.float64), np.asarray(L, np.float64)


def float32(system):
    return tuple(jnp.asarray(value, jnp.float32) for value in system.matrices)


def discounted_game(system, factor, discount):
    """Returns (K_LQR, K*, L*, eta) of the discounted game at `factor` times its optimal level."""
    A, B, D = discounted(system.A, system.B, system.D, discount)
    g = factor * optimal_attenuation(A, B, D, system.Q, system.R)
    P = gare_solve(A, B, D, system.Q, system.R, g).P
    return lqr_gain(A, B, system.Q, system.R), *saddle_gains(A, B, D, system.R, P, g), g**2


def relative_error(value, expected):
    return np.linalg.norm(value - expected) / np.linalg.norm(expected)


# --- features and values ------------------------------------------------------------------------


def test_features_by_hand():
    # (2, 3): 2*2, 2*3, 3*3, 1.
    np.testing.assert_array_equal(
        quadratic_features(jnp.array([[2.0, 3.0]], jnp.float32)), [[4.0, 6.0, 9.0, 1.0]]
    )


def test_value_by_hand():
    # One head, weights (1, 0, 2, -5): 4 + 2*9 - 5 = 17.
    weights = jnp.array([[1.0], [0.0], [2.0], [-5.0]], jnp.float32)
    np.testing.assert_array_equal(
        quadratic_value(weights, jnp.array([2.0, 3.0], jnp.float32)), [17.0]
    )


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10_000), shape=st.sampled_from([(1, 1, 1), (2, 1, 2), (4, 2, 2)]))
@pytest.mark.slow
def test_critic_and_gain_steps_are_exact_policy_evaluation(seed, shape):
    system = random_system(seed, *shape)
    K, _, L, eta = discounted_game(system, 2.0, 0.99)
    M, L = jnp.asarray(-K, jnp.float32), jnp.asarray(0.5 * L, jnp.float32)
    batch = roll_out(float32(system), M, L, jax.random.key(seed))
    weights, advantage = fit(batch, jnp.float32(0.99))
    prices = jnp.array([0.0, 1.0, eta], jnp.float32)
    sampled = discounted(system.A, system.B, system.D, 0.99)
    grad_k, grad_l, P = natural_gradient(sampled, system, -M, L, math.sqrt(eta))
    rows, columns = np.triu_indices(shape[0])
    expected = -P[rows, columns] * np.where(rows == columns, 1.0, 2.0)
    assert relative_error(weights[:-1] @ prices, expected) < 1e-3

    # The compatible-feature coefficients are the natural gradients, the curvatures those of
    # one stage: R + B'PB and g^2 I - D'PD with the discounted matrices.
    (G, H), (G_w, H_w) = gain_steps(batch, advantage @ prices, -advantage @ prices)
    curvature = system.R + sampled[1].T @ P @ sampled[1]
    assert relative_error(H, curvature) < 1e-2
    size = np.linalg.norm(curvature) * (np.linalg.norm(K) + 1e-2)
    np.testing.assert_allclose(G, grad_k, atol=1e-2 * size, rtol=0.0)
    curvature = eta * np.eye(len(H_w)) - sampled[2].T @ P @ sampled[2]
    np.testing.assert_allclose(H_w, curvature, atol=1e-2 * eta, rtol=0.0)
    size = eta * (np.linalg.norm(L) + 1e-2)
    np.testing.assert_allclose(G_w, grad_l, atol=1e-2 * size, rtol=0.0)


def natural_gradient(sampled, system, K, L, g):
    """Exact gradients with Sig = I: Sigma0 chosen as I - Acl Acl' makes it so."""
    A, B, D = sampled
    loop = A - B @ np.asarray(K, np.float64) + D @ np.asarray(L, np.float64)
    sigma = np.eye(len(A)) - loop @ loop.T
    return lq_policy_gradient(A, B, D, system.Q, system.R, K, L, g, sigma)


def test_plain_critic_is_exact_without_noise():
    # x' = 0.5 x, r = x^2, discount 0.8: V = x^2 / (1 - 0.8 * 0.25) = 1.25 x^2.
    x = jax.random.normal(jax.random.key(0), (200, 1), jnp.float32)
    weights = lstd(x, 0.5 * x, x**2, jnp.full((200,), 0.8, jnp.float32))
    np.testing.assert_allclose(weights[:, 0], [1.25, 0.0], atol=1e-5)


def test_value_stops_at_termination_and_ignores_masked_samples():
    # Discount 0: V = r = 3 x^2 - 1; the second half is nonsense and masked.
    x = jax.random.normal(jax.random.key(0), (200, 1), jnp.float32)
    good = jnp.arange(200) < 100
    reward = jnp.where(good[:, None], 3.0 * x**2 - 1.0, 1e3)
    weights = lstd(x, x + 7.0, reward, jnp.zeros((200,), jnp.float32), mask_t=good)
    np.testing.assert_allclose(weights[:, 0], [3.0, -1.0], atol=1e-4)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10_000), stretch=st.floats(1e-3, 1e3))
def test_critic_does_not_depend_on_coordinates(seed, stretch):
    system = random_system(seed, 3, 1, 1)
    K, _, L, _ = discounted_game(system, 2.0, 0.99)
    M, L = jnp.asarray(-K, jnp.float32), jnp.asarray(L, jnp.float32)
    x, x_next, _, _, rewards = roll_out(float32(system), M, L, jax.random.key(seed))
    # A rotation mixed with stretches of the three axes.
    turn, _ = jnp.linalg.qr(jax.random.normal(jax.random.key(seed + 1), (3, 3), jnp.float32))
    T = turn * jnp.array([[1.0, stretch, 1.0 / stretch]], jnp.float32)
    discount_t = jnp.full(x.shape[:1], 0.99, jnp.float32)
    critic = jax.jit(lstd)
    plain = quadratic_value(critic(x, x_next, rewards, discount_t), x)
    mapped = quadratic_value(critic(x @ T, x_next @ T, rewards, discount_t), x @ T)
    np.testing.assert_allclose(mapped, plain, atol=2e-2 * float(jnp.max(jnp.abs(plain))))


# --- gain steps ---------------------------------------------------------------------------------


def test_planted_direction_and_curvature_are_found():
    key_x, key_e, key_o = jax.random.split(jax.random.key(3), 3)
    x = jax.random.normal(key_x, (500, 2), jnp.float32) * jnp.array([[10.0, 0.1]], jnp.float32)
    e = 0.3 * jax.random.normal(key_e, (500, 2), jnp.float32)
    o = 0.2 * jax.random.normal(key_o, (500, 1), jnp.float32)
    G = jnp.array([[1.0, -2.0], [0.5, 3.0]], jnp.float32)
    H = jnp.array([[2.0, 0.3], [0.3, 1.0]], jnp.float32)
    own = jnp.sum(e @ G * x, -1) - jnp.sum(e @ H * e, -1)
    rest = x[:, 0] ** 2 - 4.0 + o[:, 0] * (x[:, 1] + 2.0 * e[:, 0]) + o[:, 0] ** 2
    masked = jnp.arange(500) < 400
    advantage = jnp.where(masked, own + rest, 99.0)
    direction, curvature = gaussian_gain_step(x, e, advantage, masked, other_noise=o)
    np.testing.assert_allclose(direction, G, atol=5e-3)
    np.testing.assert_allclose(curvature, H, atol=5e-3)


def test_update_goes_part_of_the_way_to_the_best_answer():
    # A = e'Gx - e'He has its maximum at e = 1/2 H^-1 G x = 1/2 * (4/2) x = x.
    gain, direction = jnp.zeros((1, 1), jnp.float32), jnp.full((1, 1), 4.0, jnp.float32)
    moved = gain_update(gain, direction, jnp.full((1, 1), 2.0, jnp.float32), step=0.25)
    np.testing.assert_allclose(moved, [[0.25]], rtol=1e-6)


@pytest.mark.parametrize("curvature", [-2.0, 0.0, 1e-9, 2.0])
def test_update_ascends_whatever_the_curvature(curvature):
    gain, direction = jnp.ones((1, 2), jnp.float32), jnp.array([[3.0, -1.0]], jnp.float32)
    H = jnp.full((1, 1), curvature, jnp.float32)
    change = gain_update(gain, direction, H, step=0.5, max_relative_change=0.1) - gain
    assert jnp.sum(change * direction) > 0.0
    assert jnp.linalg.norm(change) <= 0.1 * (1.0 + math.sqrt(2.0)) * 1.0001


def test_least_believed_curvature_bounds_the_step():
    # max(0.01, 0.5) = 0.5, so the step is 1 * 1/2 * 0.2/0.5 = 0.2.
    moved = gain_update(
        jnp.zeros((1, 1), jnp.float32),
        jnp.full((1, 1), 0.2, jnp.float32),
        jnp.full((1, 1), 0.01, jnp.float32),
        step=1.0,
        min_curvature=0.5,
    )
    np.testing.assert_allclose(moved, [[0.2]], rtol=1e-6)


def test_update_keeps_the_gain_when_the_estimate_is_not_finite():
    gain = jnp.ones((1, 2), jnp.float32)
    bad = jnp.array([[jnp.nan, 1.0]], jnp.float32)
    np.testing.assert_array_equal(gain_update(gain, bad, jnp.ones((1, 1)), step=0.5), gain)
    np.testing.assert_array_equal(
        gain_update(gain, gain, jnp.full((1, 1), jnp.inf, jnp.float32), step=0.5), gain
    )


# --- the game -----------------------------------------------------------------------------------

GAMES = [
    *((name, system, 1.2) for name, system in SYSTEMS.items()),
    ("S2", SYSTEMS["S2"], 1.5),
    ("random 3-2-2", random_system(1, 3, 2, 2), 1.2),
    ("random 4-1-2", random_system(2, 4, 1, 2), 1.5),
]


@pytest.mark.parametrize(("name", "system", "factor"), GAMES)
def test_simultaneous_play_finds_the_saddle_point(name, system, factor):
    # The LQR start is infeasible at 1.2 times the optimal level on S1 to S4. Without estimation
    # error the slowest mode shrinks by 0.95 a step: 0.95^130 = 1.3e-3; asked for: 5e-3 and 1.01.
    lqr, K_star, L_star, eta = discounted_game(system, factor, 0.99)
    K, L = play(system, (-lqr, 0.0 * L_star), discount=0.99, eta=eta, num_iterations=130)
    assert relative_error(K, K_star) < 5e-3
    assert relative_error(L, L_star) < 5e-3
    norms = [hinf_norm(*closed_loop(*system.matrices, gain)) for gain in (K, K_star)]
    assert norms[0] <= 1.01 * norms[1]


def test_falling_discount_rescues_an_unstable_start():
    system = SYSTEMS["S3"]
    lqr, _, L_star, eta = discounted_game(system, 1.2, 0.99)
    gains = 0.0 * lqr, 0.0 * L_star
    for stage, gap in enumerate(np.geomspace(0.5, 0.01, 8)):
        K, L = play(
            system,
            gains,
            discount=1.0 - gap,
            eta=eta,
            num_iterations=4,
            seed=stage,
            disturber_step=0.0,
        )
        gains = -K, L
    assert relative_error(K, lqr) < 1e-2


def test_multiplier_buys_attenuation_of_the_split_task():
    # Within 3 % of the undiscounted fixed point; discount 0.999 itself accounts for 0.5 %.
    system, eta, gains = SYSTEMS["S2"], 0.16, []
    lqr = lqr_gain(system.A, system.B, system.Q, system.R)
    for lam in (0.0, 1.0, 5.0, 20.0):
        K, _ = play(
            system,
            (-lqr, np.zeros((1, 2))),
            discount=0.999,
            eta=eta,
            num_iterations=130,
            lam=lam,
            split=True,
        )
        K_star, _ = constrained_fixed_point(*system.matrices, eta, lam, split=True)
        pair = [
            hinf_norm(*closed_loop(system.A, system.B, system.D, system.Q, 0.0 * system.R, gain))
            for gain in (K, K_star)
        ]
        np.testing.assert_allclose(pair[0], pair[1], rtol=0.03)
        gains.append(pair[0])
    assert gains == sorted(gains, reverse=True)
