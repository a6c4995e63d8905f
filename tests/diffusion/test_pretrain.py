"""Score matching finds the exact denoiser of Gaussian data; averages; settings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.diffusion import (
    PretrainConfig,
    ScheduleConfig,
    denoising_loss,
    ema_update,
    make_schedule,
    pretrain,
    sample_chain,
)
from hinf_rl.diffusion.model import DiffusionModel
from hinf_rl.errors import UserError
from hinf_rl.networks.denoiser import MLPDenoiser, UNetDenoiser, time_embedding


def test_the_exact_denoiser_has_the_bayes_risk(kit, key):
    model = kit.exact_model(ScheduleConfig(steps=5))
    x = kit.MEAN + kit.STD * jax.random.normal(key, (40_000, 2), jnp.float32)
    zeros = jnp.zeros((40_000, 1), jnp.float32)

    def risk(params):
        return jnp.mean(
            denoising_loss(model.apply, params, model.schedule, jax.random.key(1), x, zeros)
        )

    # Var[e | x_t] = abar s^2 / (abar s^2 + 1 - abar), averaged over the levels.
    alpha_bar = np.asarray(model.schedule.alpha_bar, np.float64)
    bayes = np.mean(alpha_bar * kit.STD**2 / (alpha_bar * kit.STD**2 + 1 - alpha_bar))
    assert float(risk(kit.PARAMS)) == pytest.approx(bayes, rel=0.02)
    assert float(risk({"mean": jnp.float32(1.2)})) > 1.02 * bayes


def test_a_trained_network_samples_the_data(kit, key):
    config = ScheduleConfig(steps=8, sigma_min=0.05, max_beta=0.95)
    schedule = make_schedule(config)
    network = MLPDenoiser(size=1, hidden=(64, 64))

    def draw(key, count):
        key_side, key_noise = jax.random.split(key)
        side = jnp.where(jax.random.bernoulli(key_side, 0.5, (count, 1)), 1.0, -1.0)
        return side + 0.1 * jax.random.normal(key_noise, (count, 1), jnp.float32), side

    zeros = jnp.zeros((1, 1), jnp.float32)
    params = network.init(key, zeros, jnp.zeros(1, jnp.float32), zeros)
    trained = jax.jit(
        lambda: pretrain(
            key, network.apply, params, draw, schedule,
            PretrainConfig(steps=3000, batch=128, learning_rate=5e-3, condition_dropout=0.2),
        )
    )()  # fmt: skip
    assert trained.loss[-50:].mean() < 0.5 * trained.loss[:10].mean()
    model = DiffusionModel(network.apply, schedule, size=1)
    side = jnp.array([-1.0, 1.0, 0.0], jnp.float32).repeat(300)[:, None]
    x = np.asarray(jax.jit(lambda: sample_chain(key, model, trained.params, side).sample)())
    means = x.reshape(3, 300).mean(axis=1)
    np.testing.assert_allclose(means[:2], [-1.0, 1.0], atol=0.15)
    # Without a condition, both modes.
    share = np.mean(x[600:] > 0)
    assert 0.3 < share < 0.7 and np.abs(np.abs(x[600:]) - 1.0).mean() < 0.3


def test_the_average_starts_as_a_plain_mean_and_then_forgets():
    average = jnp.float32(99.0)  # what it starts from has no weight
    for count, value in enumerate([1.0, 2.0, 3.0]):
        average = ema_update(average, jnp.float32(value), 0.9, jnp.int32(count))
    assert float(average) == pytest.approx(2.0)
    late = ema_update(jnp.float32(0.0), jnp.float32(1.0), 0.9, jnp.int32(1000))
    assert float(late) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "pretrain.steps must be at least 1"),
        ({"learning_rate": 0.0}, "pretrain.learning_rate must be positive"),
        ({"ema_decay": 1.0}, r"pretrain.ema_decay must lie in \[0, 1\)"),
        ({"condition_dropout": -0.1}, "pretrain.condition_dropout must lie in"),
    ],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        PretrainConfig(**changes)


@pytest.mark.slow
def test_the_u_net_sees_time_condition_and_place(key):
    network = UNetDenoiser(shape=(8, 8, 1), widths=(4, 8), time_size=8)
    x = jax.random.normal(key, (3, 64), jnp.float32)
    time, condition = jnp.full(3, 0.5, jnp.float32), jnp.eye(3, 2, dtype=jnp.float32)
    params = network.init(key, x, time, condition)
    apply = jax.jit(network.apply)
    out = apply(params, x, time, condition)
    assert out.shape == x.shape and out.dtype == jnp.float32
    assert np.abs(apply(params, x, time + 0.3, condition) - out).max() > 1e-4
    assert np.abs(apply(params, x, time, -condition) - out).max() > 1e-4
    # Rows do not see each other, and a corner reaches far through the coarse level.
    moved = apply(params, x.at[0, 0].add(3.0), time, condition)
    np.testing.assert_allclose(moved[1:], out[1:], atol=1e-5)
    assert np.count_nonzero(np.abs(moved[0] - out[0]) > 1e-6) > 32


def test_time_embedding_is_bounded_and_tells_levels_apart():
    features = np.asarray(time_embedding(jnp.linspace(0.001, 1.0, 1000, dtype=jnp.float32), 16))
    assert np.abs(features).max() <= 1.0
    assert np.linalg.norm(np.diff(features, axis=0), axis=1).min() > 0.01
