"""Schedules against the posterior of DDPM written out, and their errors."""

import numpy as np
import pytest

from hinf_rl.diffusion import ScheduleConfig, make_schedule, training_schedule
from hinf_rl.errors import UserError


def betas(kind, steps):
    """Independent: the published formulas, from the cleanest to the noisiest."""
    if kind == "linear":
        return np.clip(1000.0 / steps * np.linspace(1e-4, 0.02, steps), None, 0.999)
    f = [np.cos((t / steps + 0.008) / 1.008 * np.pi / 2) ** 2 for t in range(steps + 1)]
    return np.array([min(1 - f[t + 1] / f[t], 0.999) for t in range(steps)])


@pytest.mark.parametrize("kind", ["cosine", "linear"])
@pytest.mark.parametrize("steps", [1, 10, 50])
def test_eta_one_is_the_ddpm_posterior(kind, steps):
    beta = betas(kind, steps)
    alpha_bar = np.cumprod(1 - beta)
    previous = np.append(1.0, alpha_bar[:-1])
    config = ScheduleConfig(steps=steps, kind=kind, sigma_min=1e-6, max_beta=0.999)
    found = make_schedule(config)
    np.testing.assert_allclose(found.alpha_bar[::-1], alpha_bar, rtol=1e-5)
    from_clean = beta * np.sqrt(previous) / (1 - alpha_bar)
    from_noisy = np.sqrt(1 - beta) * (1 - previous) / (1 - alpha_bar)
    sigma = np.sqrt(beta * (1 - previous) / (1 - alpha_bar))
    np.testing.assert_allclose(found.from_clean[::-1], from_clean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.from_noisy[::-1], from_noisy, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.sigma[::-1], np.maximum(sigma, 1e-6), rtol=1e-4)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_a_step_keeps_the_marginal_whatever_eta(eta):
    # With x_t = sqrt(abar) x0 + sqrt(1 - abar) e and x0_hat = x0 the next point must have signal
    # sqrt(abar_p) and noise variance 1 - abar_p: b^2 (1 - abar) + sigma^2 before the floor.
    s = make_schedule(ScheduleConfig(steps=20, eta=eta, sigma_min=1e-4))
    alpha_bar = np.asarray(s.alpha_bar, np.float64)
    following = np.append(alpha_bar[1:], 1.0)
    signal = s.from_clean + s.from_noisy * np.sqrt(alpha_bar)
    np.testing.assert_allclose(signal, np.sqrt(following), rtol=1e-5)
    variance = np.asarray(s.from_noisy) ** 2 * (1 - alpha_bar) + np.asarray(s.sigma) ** 2
    np.testing.assert_allclose(variance, 1 - following, atol=1e-5)


def test_the_floor_is_the_only_thing_that_it_changes():
    low = make_schedule(ScheduleConfig(sigma_min=1e-3))
    high = make_schedule(ScheduleConfig(sigma_min=0.3))
    for name in ("time", "alpha_bar", "from_clean", "from_noisy"):
        np.testing.assert_array_equal(getattr(low, name), getattr(high, name))
    np.testing.assert_allclose(high.sigma, np.maximum(low.sigma, 0.3))
    assert float(high.sigma[-1]) == pytest.approx(0.3)


def test_a_smaller_first_beta_leaves_signal_in_the_noisiest_level():
    steep, mild = (make_schedule(ScheduleConfig(max_beta=b)) for b in (0.999, 0.95))
    np.testing.assert_array_equal(steep.alpha_bar[1:], mild.alpha_bar[1:])
    np.testing.assert_allclose(mild.alpha_bar[0] / mild.alpha_bar[1], 0.05, rtol=1e-5)
    # d mean / d noise of the first step: a sqrt(1 - abar) / sqrt(abar).
    gains = [
        float(s.from_clean[0] * np.sqrt((1 - s.alpha_bar[0]) / s.alpha_bar[0]))
        for s in (steep, mild)
    ]
    assert gains[0] > 30.0 and gains[1] < 5.0


def test_fewer_steps_use_levels_of_the_training_grid():
    config = ScheduleConfig(steps=5, train_steps=100, eta=0.5)
    grid, used = training_schedule(config), make_schedule(config)
    rows = [0, 20, 40, 60, 80]
    np.testing.assert_allclose(used.time, [1.0, 0.8, 0.6, 0.4, 0.2], rtol=1e-6)
    np.testing.assert_array_equal(used.alpha_bar, grid.alpha_bar[np.array(rows)])
    assert used.num_steps == 5 and grid.num_steps == 100


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"kind": "square"}, "kind must be one of"),
        ({"train_steps": 5}, "train_steps must be at least steps = 10"),
        ({"max_beta": 1.0}, r"max_beta must lie in \(0, 1\)"),
        ({"eta": 1.5}, r"eta must lie in \[0, 1\], got 1.5"),
        ({"sigma_min": 0.0}, "a step without noise has no log-probability"),
    ],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        ScheduleConfig(**changes)
