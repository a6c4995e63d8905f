"""Noise schedules and the Gaussian denoising step that they define.

Everything is in sampling order: row 0 is the noisiest step, row T-1 the one that yields the
sample. One deviation per step serves sampling and log-probabilities both: a floor in only one of
them would make the first ratio of a policy update differ from 1.
"""

import dataclasses
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from hinf_rl.errors import UserError
from hinf_rl.types import Array

_KINDS = ("cosine", "linear")
# Nichol and Dhariwal's offset keeps the first noise from vanishing.
_COSINE_OFFSET = 0.008


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Settings of a diffusion chain.

    Attributes:
      steps: denoising steps T of a sample.
      kind: "cosine" (Nichol and Dhariwal 2021, eq. 17) or "linear" (Ho et al. 2020, its 1000
        steps compressed into `train_steps`).
      train_steps: noise levels of the grid that the denoiser is trained on, of which `steps` are
        used; None for `steps` themselves.
      max_beta: largest variance of the noise that a training step adds. The published 0.999 leaves
        almost no signal in the noisiest level: with few steps the first mean then multiplies what
        the predicted noise is off by sqrt(abar_p / abar), some 30, and fine-tuning pays for that
        in KL (`experiments/prdp`, task A under both).
      eta: share of the posterior's noise that a step adds: 1 is DDPM, below is DDIM.
      sigma_min: least deviation of a step, > 0: the last step would have none, and a step
        without noise has no log-probability.
    """

    steps: int = 10
    kind: Literal["cosine", "linear"] = "cosine"
    train_steps: int | None = None
    max_beta: float = 0.95
    eta: float = 1.0
    sigma_min: float = 0.1

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UserError(f"steps must be at least 1, got {self.steps}")
        if self.kind not in _KINDS:
            raise UserError(f"kind must be one of {_KINDS}, got {self.kind!r}")
        if self.train_steps is not None and self.train_steps < self.steps:
            raise UserError(
                f"train_steps must be at least steps = {self.steps} or none, got {self.train_steps}"
            )
        if not 0.0 < self.max_beta < 1.0:
            raise UserError(f"max_beta must lie in (0, 1), got {self.max_beta}")
        if not 0.0 <= self.eta <= 1.0:
            raise UserError(f"eta must lie in [0, 1], got {self.eta}")
        if not 0.0 < self.sigma_min < float("inf"):
            raise UserError(
                f"sigma_min must be positive, got {self.sigma_min}: a step without noise has no "
                "log-probability"
            )


class Schedule(NamedTuple):
    """A chain of T denoising steps x_t -> x_p ~ N(a x0_hat + b x_t, sigma^2), in sampling order."""

    time: Array  # [T] in (0, 1], what the denoiser is told
    alpha_bar: Array  # [T] share of the signal's variance left in x_t
    from_clean: Array  # [T] a, weight of the predicted clean sample
    from_noisy: Array  # [T] b, weight of x_t
    sigma: Array  # [T] deviation of the step, floored

    @property
    def num_steps(self) -> int:
        """T."""
        return self.sigma.shape[0]


def make_schedule(config: ScheduleConfig) -> Schedule:
    """Builds the chain that samples.

    With abar of x_t, abar_p of the next point (1 at the last) and
    s^2 = eta^2 (1 - abar_p) / (1 - abar) (1 - abar / abar_p), the mean is
    sqrt(abar_p) x0_hat + sqrt(1 - abar_p - s^2) e with e = (x_t - sqrt(abar) x0_hat) /
    sqrt(1 - abar). Source: Song et al. 2021 (DDIM), eq. 12 and 16; eta = 1 is the posterior of
    Ho et al. 2020 (DDPM), eq. 6 and 7. The floor changes sigma alone, not the mean.

    Args:
      config: the settings.
    """
    grid = config.train_steps or config.steps
    alpha_bar_grid = np.cumprod(1.0 - np.minimum(_betas(config.kind, grid), config.max_beta))
    # Evenly spaced and ending at the noisiest level, which is where a chain must start.
    chosen = np.round(np.linspace(grid / config.steps, grid, config.steps)).astype(int) - 1
    alpha_bar = alpha_bar_grid[chosen]
    following = np.concatenate([[1.0], alpha_bar[:-1]])
    noise_var = (1.0 - following) / (1.0 - alpha_bar) * (1.0 - alpha_bar / following)
    sigma = config.eta * np.sqrt(noise_var)
    # At eta = 1 on the last step the argument is 0 up to rounding.
    direction = np.sqrt(np.maximum(1.0 - following - sigma**2, 0.0))
    from_noisy = direction / np.sqrt(1.0 - alpha_bar)
    columns = (
        (chosen + 1) / grid,
        alpha_bar,
        np.sqrt(following) - from_noisy * np.sqrt(alpha_bar),
        from_noisy,
        np.maximum(sigma, config.sigma_min),
    )
    return Schedule(*(jnp.asarray(column[::-1], jnp.float32) for column in columns))


def training_schedule(config: ScheduleConfig) -> Schedule:
    """Builds the chain over all noise levels that the denoiser is trained on."""
    return make_schedule(dataclasses.replace(config, steps=config.train_steps or config.steps))


def _betas(kind: str, steps: int) -> np.ndarray:
    """[T] variance of the noise that each step adds, from the cleanest to the noisiest."""
    if kind == "linear":
        return np.linspace(1e-4, 0.02, steps) * 1000.0 / steps
    t = np.linspace(0.0, 1.0, steps + 1)
    signal = np.cos((t + _COSINE_OFFSET) / (1.0 + _COSINE_OFFSET) * np.pi / 2.0) ** 2
    return 1.0 - signal[1:] / signal[:-1]


__all__ = ["Schedule", "ScheduleConfig", "make_schedule", "training_schedule"]
