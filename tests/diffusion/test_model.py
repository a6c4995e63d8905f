"""Chains of an exact denoiser against closed forms; log-probabilities against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from hinf_rl.diffusion import (
    Frozen,
    ScheduleConfig,
    chain_log_probs,
    sample_chain,
    step_log_prob,
    step_mean,
)


def exact_moments(schedule, mean, std):
    """NumPy float64: mean and variance of the sample, by the linear recursion of the chain."""
    m, v = 0.0, 1.0
    for k in range(schedule.num_steps):
        alpha_bar = float(schedule.alpha_bar[k])
        gain = np.sqrt(alpha_bar) * std**2 / (alpha_bar * std**2 + 1 - alpha_bar)
        # x0_hat = mean + gain (x - sqrt(abar) mean), the conditional expectation.
        slope = float(schedule.from_clean[k]) * gain + float(schedule.from_noisy[k])
        offset = float(schedule.from_clean[k]) * mean * (1 - gain * np.sqrt(alpha_bar))
        m, v = slope * m + offset, slope**2 * v + float(schedule.sigma[k]) ** 2
    return m, v


@pytest.mark.parametrize("eta", [1.0, 0.3])
def test_samples_have_the_exact_moments_of_the_chain(kit, key, eta):
    model = kit.exact_model(ScheduleConfig(steps=8, eta=eta, sigma_min=0.1))
    condition = jnp.zeros((20_000, 1), jnp.float32)
    chain = jax.jit(lambda key: sample_chain(key, model, kit.PARAMS, condition))(key)
    mean, var = exact_moments(model.schedule, kit.MEAN, kit.STD)
    x = np.asarray(chain.sample, np.float64)
    # 40 000 numbers: the mean within 4 deviations of sqrt(v / n), the variance of v sqrt(2 / n).
    assert abs(x.mean() - mean) < 4 * np.sqrt(var / x.size)
    assert abs(x.var() - var) < 4 * var * np.sqrt(2 / x.size)


def test_with_many_steps_and_no_floor_the_chain_gives_the_data(kit):
    errors = []
    for steps in (100, 400):
        config = ScheduleConfig(steps=steps, kind="linear", sigma_min=1e-4)
        mean, var = exact_moments(kit.exact_model(config).schedule, kit.MEAN, kit.STD)
        errors.append(max(abs(mean - kit.MEAN), abs(np.sqrt(var) - kit.STD)))
    # Of first order in the step: a quarter is left.
    assert errors[1] < 0.3 * errors[0] and errors[1] < 0.01


def test_the_floor_adds_its_own_variance_to_the_last_step(kit):
    without, with_floor = (
        exact_moments(kit.exact_model(ScheduleConfig(sigma_min=s)).schedule, kit.MEAN, kit.STD)
        for s in (1e-6, 0.05)
    )
    # Only the last step lies below 0.05, and it copies x0_hat: variances add.
    assert with_floor[1] - without[1] == pytest.approx(0.05**2, rel=1e-3)


@pytest.fixture(scope="module")
def drawn(kit):
    model = kit.exact_model(ScheduleConfig(steps=6))
    condition = jnp.linspace(-1.0, 1.0, 16, dtype=jnp.float32)[:, None]
    sample = jax.jit(lambda params, key: sample_chain(key, model, params, condition))
    return model, condition, sample(kit.PARAMS, jax.random.key(3))


def test_log_probabilities_agree_with_scipy(drawn, kit):
    model, condition, chain = drawn
    for k in range(6):
        step = jnp.full((16,), k, jnp.int32)
        mean = step_mean(model, kit.PARAMS, chain.path[:, k], step, condition)
        each = stats.norm.logpdf(chain.path[:, k + 1], mean, float(model.schedule.sigma[k]))
        np.testing.assert_allclose(chain.log_prob[:, k], each.sum(axis=-1), rtol=1e-4, atol=1e-4)
        averaged = step_log_prob(
            model._replace(reduce="mean"), kit.PARAMS, chain.path[:, k], chain.path[:, k + 1],
            step, condition,
        )  # fmt: skip
        np.testing.assert_allclose(averaged, each.mean(axis=-1), rtol=1e-4, atol=1e-4)


def test_recomputed_log_probabilities_are_those_of_the_sampler(drawn, kit):
    model, condition, chain = drawn
    again = jax.jit(lambda: chain_log_probs(model, kit.PARAMS, chain.path, condition))()
    # The first ratio of an update is exp(again - sampled): 1 within 1e-5.
    np.testing.assert_allclose(again, chain.log_prob, atol=1e-5)


def test_a_chain_of_another_length_is_refused(drawn, kit):
    model, condition, chain = drawn
    with pytest.raises(AssertionError):
        chain_log_probs(model, kit.PARAMS, chain.path[:, :-1], condition)


def test_no_gradient_flows_through_the_points(drawn, kit):
    model, condition, chain = drawn
    step = jnp.zeros(16, jnp.int32)

    def total(params, x, x_next):
        return jnp.sum(step_log_prob(model, params, x, x_next, step, condition))

    points = chain.path[:, 0], chain.path[:, 1]
    found = jax.grad(total, argnums=(0, 1, 2))(kit.PARAMS, *points)
    assert abs(float(found[0]["mean"])) > 0.0
    assert not np.any(found[1]) and not np.any(found[2])
    # d log p / d mean by central differences.
    high, low = (total({"mean": jnp.float32(kit.MEAN + d)}, *points) for d in (0.05, -0.05))
    np.testing.assert_allclose(found[0]["mean"], (high - low) / 0.1, rtol=1e-2)


def test_guidance_moves_the_mean_along_the_line_through_both_predictions(drawn, kit):
    model, condition, chain = drawn
    x, step = chain.path[:, 2], jnp.full((16,), 2, jnp.int32)
    conditional = step_mean(model, kit.PARAMS, x, step, condition)
    free = step_mean(model, kit.PARAMS, x, step, jnp.zeros_like(condition))
    guided = step_mean(model._replace(guidance=3.0), kit.PARAMS, x, step, condition)
    # The mean is affine in the predicted noise.
    np.testing.assert_allclose(guided, 3.0 * conditional - 2.0 * free, rtol=1e-4, atol=1e-4)
    # And the log-probability is that of the guided mean.
    found = step_log_prob(
        model._replace(guidance=3.0), kit.PARAMS, x, chain.path[:, 3], step, condition
    )
    sigma = float(model.schedule.sigma[2])
    expected = stats.norm.logpdf(chain.path[:, 3], guided, sigma).sum(axis=-1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_the_predicted_clean_sample_can_be_bounded(kit):
    model = kit.exact_model(ScheduleConfig(steps=4), x0_clip=0.2)
    last = jnp.full((1,), 3, jnp.int32)
    far = step_mean(model, kit.PARAMS, jnp.full((1, 2), 9.0), last, jnp.zeros((1, 1)))
    # The last step's mean is x0_hat itself.
    np.testing.assert_allclose(far, 0.2, atol=1e-5)


def test_frozen_parameters_take_the_first_steps_only(kit, key):
    model = kit.exact_model(ScheduleConfig(steps=4))
    other = {"mean": jnp.float32(-5.0)}
    condition = jnp.zeros((3, 1), jnp.float32)
    run = jax.jit(
        lambda own, frozen, n: (
            sample_chain(key, model, own, condition, frozen=Frozen(frozen, n)).path
        )
    )
    own, mixed, theirs = (run(kit.PARAMS, other, n) for n in (0, 2, 4))
    np.testing.assert_allclose(mixed[:, :3], theirs[:, :3], atol=1e-5)
    step = jnp.full((3,), 2, jnp.int32)
    noise = theirs[:, 3] - step_mean(model, other, theirs[:, 2], step, condition)
    expected = step_mean(model, kit.PARAMS, mixed[:, 2], step, condition) + noise
    np.testing.assert_allclose(mixed[:, 3], expected, atol=1e-4)
    assert np.abs(own[:, -1] - theirs[:, -1]).min() > 1.0
