"""The constraint's signs and its known faults, each against arithmetic done by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinf_rl.ops.distributions import normal_log_prob
from hinf_rl.ops.hinf import (
    actor_advantage,
    centred_intensity,
    disturbance_intensity,
    disturber_advantage,
    dual_update,
    force_schedule,
    hinf_constraint,
    nominal_cost_ema,
    radial_clip,
    task_cost,
)
from hinf_rl.ops.returns import two_head_gae
from hinf_rl.ops.surrogate import clipped_surrogate, masked_mean, normalize_advantage

EVERYONE = jnp.ones(4, bool)
NOBODY = jnp.zeros(4, bool)


def full(value):
    """Four equal samples."""
    return jnp.full(4, value, jnp.float32)


@pytest.mark.smoke
def test_cost_by_hand():
    # r_max 0.03: the best step costs 0, none at all costs 0.03, a third of it 0.01 / 0.03.
    reward = jnp.float32([0.03, 0.0, 0.02])
    np.testing.assert_allclose(task_cost(reward, 0.03), [0.0, 0.03, 0.01], atol=1e-8)
    scaled = task_cost(reward, 0.03, task_reward_scale=0.03)
    np.testing.assert_allclose(scaled, [0.0, 1.0, 1.0 / 3.0], atol=1e-6)


@pytest.mark.parametrize(("power", "expected"), [(1.0, 0.05), (2.0, 0.0025), (0.5, 0.05**0.5)])
@pytest.mark.smoke
def test_intensity_by_hand(power, expected):
    # |(3, 4, 0)| = 5 N of 100 N is 0.05.
    force_n = jnp.float32([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(
        disturbance_intensity(force_n, 100.0, power), [expected, 0.0], rtol=1e-5
    )


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_intensity_gradient_equals_finite_differences_and_is_zero_at_rest(power):
    def intensity(d):
        return disturbance_intensity(d, 2.0, power)

    d = np.array([0.3, -1.1, 0.7])
    steps = 1e-6 * np.eye(3)
    expected = [
        (np.linalg.norm((d + s) / 2) ** power - np.linalg.norm((d - s) / 2) ** power) / 2e-6
        for s in steps
    ]
    np.testing.assert_allclose(jax.grad(intensity)(jnp.float32(d)), expected, rtol=1e-4)
    np.testing.assert_array_equal(jax.grad(intensity)(jnp.zeros(3, jnp.float32)), 0.0)


def test_nominal_cost_by_hand():
    # Undisturbed and valid: 1 and 3, mean 2; 0.9 * 1 + 0.1 * 2 = 1.1. The NaN is not valid.
    cost = jnp.float32([1.0, 3.0, 50.0, np.nan])
    is_undisturbed = jnp.array([True, True, False, True])
    valid = jnp.array([True, True, True, False])
    moved = nominal_cost_ema(jnp.float32(1.0), cost, is_undisturbed, valid, 0.9)
    np.testing.assert_allclose(moved, 1.1, rtol=1e-6)
    kept = nominal_cost_ema(jnp.float32(1.0), cost, NOBODY, valid, 0.9)
    np.testing.assert_array_equal(kept, 1.0)


def test_nominal_cost_takes_one_flag_per_environment():
    # [T, E] cost with flags [E]: environment 0 alone, mean (1 + 3) / 2 = 2; 0.5 * 0 + 0.5 * 2.
    cost = jnp.float32([[1.0, 9.0], [3.0, 9.0]])
    flags = jnp.array([True, False])
    moved = nominal_cost_ema(jnp.float32(0.0), cost, flags, jnp.ones((2, 2), bool), 0.5)
    np.testing.assert_allclose(moved, 1.0)


def test_full_force_without_extra_cost_satisfies_and_the_multiplier_falls():
    # I = 1, C = Cbar: G = eta > 0, lambda 1 -> 1 - 0.2 * 2 = 0.6.
    slack = hinf_constraint(full(0.4), full(1.0), jnp.float32(0.4), 2.0, EVERYONE)
    np.testing.assert_allclose(slack, 2.0, rtol=1e-6)
    after = dual_update(jnp.float32(1.0), slack, lr=0.2, max_multiplier=10.0)
    np.testing.assert_allclose(after, 0.6, rtol=1e-6)


def test_more_extra_cost_than_paid_for_violates_and_the_multiplier_rises():
    # Force at its bound (I = 1), extra cost 3 > eta 2: G = -1, lambda 1 -> 1.2. A constraint on
    # the force alone would be met here whatever the force does to the task.
    slack = hinf_constraint(full(3.4), full(1.0), jnp.float32(0.4), 2.0, EVERYONE)
    np.testing.assert_allclose(slack, -1.0, rtol=1e-6)
    after = dual_update(jnp.float32(1.0), slack, lr=0.2, max_multiplier=10.0)
    np.testing.assert_allclose(after, 1.2, rtol=1e-6)


@given(cost=st.floats(0.0, 5.0), intensity=st.floats(0.0, 1.0), eta=st.floats(0.1, 5.0))
def test_the_multiplier_moves_against_the_slack(cost, intensity, eta):
    slack = hinf_constraint(full(cost), full(intensity), jnp.float32(0.5), eta, EVERYONE)
    after = dual_update(jnp.float32(5.0), slack, lr=0.2, max_multiplier=10.0)
    np.testing.assert_allclose(slack, eta * intensity - cost + 0.5, atol=1e-5)
    assert (after - 5.0) * slack <= 0.0


def test_only_masked_samples_reach_the_constraint():
    cost, mask = jnp.float32([1.0, 3.0, np.nan, 9.0]), jnp.array([True, True, False, False])
    intensity = jnp.float32([0.5, 0.5, np.nan, 0.0])
    # 2 * 0.5 - (2 - 0.5) = -0.5.
    np.testing.assert_allclose(hinf_constraint(cost, intensity, 0.5, 2.0, mask), -0.5)
    # With nobody disturbed there is no evidence, and Cbar must not pass for slack.
    assert hinf_constraint(cost, intensity, 0.5, 2.0, NOBODY) == 0.0


def test_the_multiplier_keeps_to_its_bounds_and_carries_no_gradient():
    low = dual_update(jnp.float32(0.1), jnp.float32(9.0), lr=0.2, max_multiplier=10.0)
    high = dual_update(jnp.float32(9.9), jnp.float32(-9.0), lr=0.2, max_multiplier=10.0)
    np.testing.assert_allclose([low, high], [0.0, 10.0])
    gradient = jax.grad(lambda g: dual_update(jnp.float32(1.0), g, lr=0.2, max_multiplier=10.0))
    assert gradient(jnp.float32(0.5)) == 0.0


def scalar_game(steps=60):
    """Closed loop x' = x / 2 + w, cost x^2, price eta = 6 per w^2, x_0 = 1, as float64 sums.

    Its squared gain is (1 / (1 - 1/2))^2 = 4 < 6. P = 1 + P eta / (4 (eta - P)) gives
    P^2 - 5.5 P + 6 = 0, hence P = 1.5; worst disturbance w = P / 2 / (eta - P) x = x / 6,
    loop 2/3: cost 1 / (1 - 4/9) = 1.8, energy 0.05. Undisturbed cost 1 / (1 - 1/4) = 4/3.
    """
    worst = (2.0 / 3.0) ** np.arange(steps)
    quiet = 0.5 ** np.arange(steps)
    return worst**2, (worst / 6.0) ** 2, quiet**2


def test_raw_cost_drives_the_multiplier_to_its_bound_though_the_gain_is_met():
    # Per episode eta * 0.05 - 1.8 = -1.5 = -P x_0^2 < 0 at the optimum, whatever eta.
    cost, energy, quiet = (jnp.float32(x) for x in scalar_game())
    everyone, steps = jnp.ones(60, bool), 60
    raw = hinf_constraint(cost, energy, 0.0, 6.0, everyone)
    np.testing.assert_allclose(raw * steps, -1.5, rtol=1e-5)
    multiplier = jnp.float32(0.0)
    for _ in range(100):
        multiplier = dual_update(multiplier, raw * steps, lr=0.2, max_multiplier=10.0)
    assert multiplier == 10.0
    # Cbar takes off the 4/3 that no disturbance caused: 0.3 - (1.8 - 4/3) = -1/6.
    nominal = masked_mean(quiet, everyone)
    slack = hinf_constraint(cost, energy, nominal, 6.0, everyone)
    np.testing.assert_allclose(slack * steps, -1.0 / 6.0, rtol=1e-4)


def test_from_rest_the_slack_tells_gains_below_eta_from_gains_above():
    # x_0 = 0, so Cbar = 0 and the bound is pure: a constant w = 1 drives x to 2, x^2 / w^2 = 4.
    # eta 6 > 4 is met (G = 2), eta 3 < 4 is violated (G = -1).
    everyone = jnp.ones(4, bool)
    assert hinf_constraint(full(4.0), full(1.0), 0.0, 6.0, everyone) == 2.0
    assert hinf_constraint(full(4.0), full(1.0), 0.0, 3.0, everyone) == -1.0


def test_a_weak_disturber_is_charged_with_nothing():
    # d = 0: I = 0 and C = Cbar, so G = 0 and lambda rests; with the raw cost G = -0.4.
    slack = hinf_constraint(full(0.4), full(0.0), jnp.float32(0.4), 2.0, EVERYONE)
    assert slack == 0.0
    assert hinf_constraint(full(0.4), full(0.0), 0.0, 2.0, EVERYONE) < 0.0


def test_a_surrogate_at_ratio_one_says_nothing_while_the_slack_does():
    advantage = normalize_advantage(jnp.float32([0.1, 5.0, 2.0, -3.0]), EVERYONE)
    surrogate = clipped_surrogate(full(0.0), full(0.0), advantage, clip_ratio=0.2)
    np.testing.assert_allclose(masked_mean(surrogate, EVERYONE), 0.0, atol=1e-6)
    assert hinf_constraint(full(3.4), full(1.0), 0.4, 2.0, EVERYONE) < -0.9


@pytest.mark.smoke
def test_actor_advantage_by_hand():
    # (1 + 3 * 2) / 4 = 1.75 and (-2 + 3 * 6) / 4 = 4; the third sample is masked.
    actual = actor_advantage(
        jnp.float32([1.0, -2.0, 9.0]),
        jnp.float32([2.0, 6.0, np.nan]),
        jnp.float32(3.0),
        jnp.array([True, True, False]),
        normalize=False,
    )
    np.testing.assert_allclose(actual, [1.75, 4.0, 0.0])


def test_the_multiplier_reaches_the_actor():
    # lambda 0 is the plain advantage; a growing lambda turns it towards the task's.
    draw = np.random.default_rng(0)
    advantage, task = draw.normal(size=(2, 64)).astype(np.float32)
    everyone = jnp.ones(64, bool)
    plain = actor_advantage(advantage, task, 0.0, everyone)
    np.testing.assert_allclose(plain, normalize_advantage(advantage, everyone), rtol=1e-6)
    likeness = [
        np.corrcoef(actor_advantage(advantage, task, lam, everyone), task)[0, 1]
        for lam in (0.0, 1.0, 5.0, 100.0)
    ]
    assert np.all(np.diff(likeness) > 0.0)
    np.testing.assert_allclose(likeness[-1], 1.0, atol=1e-3)


@pytest.mark.smoke
def test_disturber_advantage_by_hand():
    # -(-0.03) / 0.03 - 2 * 0.25 = 0.5 and -0.06 / 0.03 - 2 * (-0.25) = -1.5.
    actual = disturber_advantage(
        jnp.float32([-0.03, 0.06, 1.0]),
        jnp.float32([0.25, -0.25, 1.0]),
        2.0,
        0.03,
        jnp.array([True, True, False]),
        normalize=False,
    )
    np.testing.assert_allclose(actual, [0.5, -1.5, 0.0], rtol=1e-5)


def test_disturber_advantage_is_normalised_over_the_disturbed_alone():
    draw = np.random.default_rng(1)
    task, intensity = draw.normal(size=(2, 40)).astype(np.float32)
    mask = np.arange(40) < 30
    task[~mask] = 1e6
    actual = np.asarray(disturber_advantage(task, intensity, 2.0, 0.5, mask))
    wanted = -task[mask] / 0.5 - 2.0 * intensity[mask]
    np.testing.assert_allclose(actual[mask], (wanted - wanted.mean()) / wanted.std(), atol=1e-5)
    np.testing.assert_array_equal(actual[~mask], 0.0)


def test_the_price_turns_the_disturber_away_from_useless_force():
    # Four pushes that cost the task nothing: the gentler, the better.
    intensity = jnp.float32([0.0, 0.25, 0.5, 1.0])
    gain = disturber_advantage(
        full(0.0), centred_intensity(intensity, EVERYONE), 2.0, 1.0, EVERYONE
    )
    assert np.all(np.diff(gain) < 0.0)


def test_centred_intensity_by_hand():
    mask = jnp.array([True, True, False])
    actual = centred_intensity(jnp.float32([1.0, 0.5, 9.0]), mask)
    np.testing.assert_allclose(actual, [0.25, -0.25, 0.0])


def test_a_fall_pays_the_disturber():
    # Both environments earn r_task 0.5 of at most 1 and are valued 5 = 0.5 / (1 - 0.9).
    # Standing: 0.5 + 0.9 * 5 - 5 = 0, the disturber gains 0. Falling: 0 - 5, it gains 5.
    # Cost summed up to the fall would make it 1 + 0 - 5 = -4: a disturber that guards the robot.
    task_r, task_v = jnp.float32([[0.5, 0.0]]), jnp.full((1, 2), 5.0, jnp.float32)
    fell = jnp.array([[False, True]])
    _, task_advantage, _, _ = two_head_gae(
        task_r,
        task_r,
        task_v,
        task_v,
        task_v,
        task_v,
        fell,
        jnp.zeros((1, 2), bool),
        jnp.ones((1, 2), bool),
        gamma=0.9,
        gae_lambda=0.95,
    )
    gain = disturber_advantage(
        task_advantage,
        jnp.zeros((1, 2), jnp.float32),
        2.0,
        1.0,
        jnp.ones((1, 2), bool),
        normalize=False,
    )
    np.testing.assert_allclose(gain, [[0.0, 5.0]], atol=1e-5)


def test_radial_clip_by_hand():
    # |(3, 4)| = 5 -> (0.6, 0.8); |(0.3, 0.4)| = 0.5 stays; 0 stays.
    x = jnp.float32([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    np.testing.assert_allclose(radial_clip(x, 1.0), [[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]], rtol=1e-6)
    np.testing.assert_array_equal(radial_clip(x, jnp.inf), x)
    np.testing.assert_array_equal(radial_clip(x, 0.0), 0.0)
    per_row = radial_clip(x, jnp.float32([2.5, 0.25, 1.0]))
    np.testing.assert_allclose(per_row, [[1.5, 2.0], [0.15, 0.2], [0.0, 0.0]], rtol=1e-6)


@given(seed=st.integers(0, 10_000), limit=st.floats(0.0, 5.0))
def test_radial_clip_keeps_the_direction_and_is_idempotent(seed, limit):
    x = np.random.default_rng(seed).normal(size=(6, 3)).astype(np.float32)
    clipped = np.asarray(radial_clip(x, limit))
    norm = np.linalg.norm(x, axis=-1, keepdims=True)
    np.testing.assert_allclose(clipped, x / norm * np.minimum(norm, limit), atol=1e-5)
    np.testing.assert_allclose(radial_clip(clipped, limit), clipped, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("limit", [0.0, 1.0, np.inf])
@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0])
def test_radial_clip_gradient_is_finite_everywhere(limit, scale):
    x = scale * jnp.float32([0.6, 0.8])
    jacobian = jax.jacobian(radial_clip)(x, limit)
    assert np.all(np.isfinite(jacobian))
    if scale == 3.0 and limit == 1.0:
        # Projection off the direction e = (0.6, 0.8), over |x| = 3: (1 - e e') / 3.
        expected = [[0.64 / 3, -0.48 / 3], [-0.48 / 3, 0.36 / 3]]
        np.testing.assert_allclose(jacobian, expected, rtol=1e-5, atol=1e-7)


def test_the_score_of_the_sample_is_unbiased_and_that_of_the_clipped_force_is_not():
    # E[d log p / d mean] = E[x - mean] = 0 for x ~ N(1.5, 1), but clipping at norm 1 shifts it:
    # E[clip(x)] - 1.5 < -0.5. Standard error 1 / sqrt(1e5) = 3e-3.
    mean = jnp.full((100_000, 1), 1.5, jnp.float32)
    x = mean + jnp.float32(np.random.default_rng(0).normal(size=mean.shape))

    def mean_log_prob(m, samples):
        return jnp.mean(normal_log_prob(samples, m + jnp.zeros_like(samples), jnp.zeros_like(m)))

    score = jax.grad(mean_log_prob)
    assert abs(float(score(jnp.full((1, 1), 1.5, jnp.float32), x)[0, 0])) < 0.02
    assert float(score(jnp.full((1, 1), 1.5, jnp.float32), radial_clip(x, 1.0))[0, 0]) < -0.5


@pytest.mark.parametrize(
    ("progress", "expected"),
    [(0.0, 0.0), (0.19, 0.0), (0.2, 0.0), (0.3, 25.0), (0.4, 50.0), (0.6, 100.0), (1.0, 100.0)],
)
def test_schedule_by_hand(progress, expected):
    # Warm-up 0.2, ramp 0.4, limit 100 N: at 0.3 a quarter of the ramp is done.
    actual = force_schedule(jnp.float32(progress), 0.2, 0.4, 100.0)
    np.testing.assert_allclose(actual, expected, atol=2e-4)


def test_schedule_without_ramp_or_with_an_infinite_limit():
    progress = [jnp.float32(p) for p in (0.0, 0.1, 0.5)]
    at_once = [float(force_schedule(p, 0.1, 0.0, 7.0)) for p in progress]
    assert at_once == [0.0, 7.0, 7.0]
    unbounded = [float(force_schedule(p, 0.1, 0.4, jnp.inf)) for p in progress]
    assert unbounded == [0.0, 0.0, np.inf]


def test_everything_takes_a_batch_of_hyperparameters():
    # Many seeds or settings train at once: eta, lambda and limits are then batched leaves.
    etas = jnp.float32([1.0, 2.0])
    slack = jax.vmap(lambda eta: hinf_constraint(full(0.5), full(1.0), 0.5, eta, EVERYONE))(etas)
    np.testing.assert_allclose(slack, [1.0, 2.0])
    forces = jnp.full((3, 2), 3.0, jnp.float32)
    clipped = jax.vmap(lambda limit: radial_clip(forces, limit))(etas)
    np.testing.assert_allclose(np.linalg.norm(clipped, axis=-1)[:, 0], [1.0, 2.0], rtol=1e-6)
    limits = jax.vmap(lambda limit: force_schedule(jnp.float32(1.0), 0.2, 0.4, limit))(etas)
    np.testing.assert_allclose(limits, [1.0, 2.0])
