"""A model whose denoiser is exact: Gaussian data."""

import jax.numpy as jnp
import pytest

from hinf_rl.diffusion import DiffusionModel, make_schedule

MEAN, STD = 0.7, 0.5


def exact_model(config, **changes):
    """The optimal noise predictor of data ~ N(MEAN + condition, STD^2) in each dimension."""
    schedule = make_schedule(config)

    def apply(params, x, time, condition):
        row = jnp.argmin(jnp.abs(time[:, None] - schedule.time[None, :]), axis=1)
        alpha_bar = schedule.alpha_bar[row][:, None]
        mean = params["mean"] + condition[:, :1]
        var = alpha_bar * STD**2 + 1.0 - alpha_bar
        # E[noise | x] of a joint Gaussian: covariance sqrt(1 - abar) over variance.
        return jnp.sqrt(1.0 - alpha_bar) / var * (x - jnp.sqrt(alpha_bar) * mean)

    return DiffusionModel(apply, schedule, **{"size": 2, **changes})


@pytest.fixture(scope="session")
def kit():
    """The helpers above."""

    class Kit:
        MEAN = 0.7
        STD = 0.5
        PARAMS = {"mean": jnp.float32(0.7)}  # noqa: RUF012
        exact_model = staticmethod(exact_model)

    return Kit
