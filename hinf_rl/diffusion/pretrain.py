"""Pre-training of a denoiser by denoising score matching, in one compiled scan."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from hinf_rl.diffusion.schedule import Schedule
from hinf_rl.errors import UserError
from hinf_rl.types import Array, PyTree

Apply = Callable[[PyTree, Array, Array, Array], Array]
"""The denoiser: (params, x [N, D], noise level [N], condition [N, C]) to [N, D]."""
Draw = Callable[[Array, int], tuple[Array, Array]]
"""`draw(key, count) -> (samples [count, D], conditions [count, C])`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Settings of the pre-training.

    Attributes:
      steps: Adam steps.
      batch: samples of each.
      learning_rate: falls to 0 along half a cosine.
      ema_decay: decay of the average of the parameters that sampling uses.
      condition_dropout: share of samples that lose their condition, which classifier-free
        guidance needs.
    """

    steps: int = 3000
    batch: int = 512
    learning_rate: float = 2e-3
    ema_decay: float = 0.995
    condition_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch"):
            if getattr(self, name) < 1:
                raise UserError(f"pretrain.{name} must be at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise UserError(f"pretrain.learning_rate must be positive, got {self.learning_rate}")
        for name in ("ema_decay", "condition_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise UserError(f"pretrain.{name} must lie in [0, 1), got {getattr(self, name)}")


class Pretrained(NamedTuple):
    """What pre-training leaves.

    Attributes:
      params: averaged parameters of the denoiser.
      loss: [steps] loss of each step.
    """

    params: PyTree
    loss: Array


def denoising_loss(
    apply: Apply, params: PyTree, schedule: Schedule, key: Array, sample: Array, condition: Array
) -> Array:
    """Squared error of the predicted noise at a random noise level per sample.

    |e - e_hat(sqrt(abar) x + sqrt(1 - abar) e, t)|^2 / D. Source: Ho et al. 2020, eq. 14.

    Args:
      apply: the denoiser.
      params: its parameters.
      schedule: the noise levels.
      key: consumed.
      sample: [M, D] clean samples.
      condition: [M, C].

    Returns:
      [M] loss.
    """
    key_step, key_noise = jax.random.split(key)
    rows = sample.shape[0]
    step = jax.random.randint(key_step, (rows,), 0, schedule.num_steps, jnp.int32)
    noise = jax.random.normal(key_noise, sample.shape, jnp.float32)
    alpha_bar = schedule.alpha_bar[step][:, None]
    noisy = jnp.sqrt(alpha_bar) * sample + jnp.sqrt(1.0 - alpha_bar) * noise
    return jnp.mean((noise - apply(params, noisy, schedule.time[step], condition)) ** 2, axis=-1)


def ema_update(average: PyTree, params: PyTree, decay: float, count: Array) -> PyTree:
    """Moves an exponential average of parameters; early on the plain mean, free of the start.

    Args:
      average: so far.
      params: newest.
      decay: weight of the past, in [0, 1).
      count: [] int32 parameters that were averaged before.
    """
    seen = count.astype(jnp.float32)
    weight = jnp.minimum(decay, seen / (seen + 1.0))
    return jax.tree.map(lambda old, new: weight * old + (1.0 - weight) * new, average, params)


def pretrain(
    key: Array,
    apply: Apply,
    params: PyTree,
    draw: Draw,
    schedule: Schedule,
    config: PretrainConfig,
) -> Pretrained:
    """Trains a denoiser on fresh batches.

    Args:
      key: consumed.
      apply: the denoiser.
      params: its first parameters.
      draw: gives a batch of data.
      schedule: the noise levels to train on, of `training_schedule`.
      config: the settings.
    """
    decayed = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())

    def loss_of(params: PyTree, key: Array) -> Array:
        key_draw, key_drop, key_noise = jax.random.split(key, 3)
        sample, condition = draw(key_draw, config.batch)
        if config.condition_dropout > 0.0:
            kept = jax.random.uniform(key_drop, (config.batch, 1)) >= config.condition_dropout
            condition = jnp.where(kept, condition, 0.0)
        return jnp.mean(denoising_loss(apply, params, schedule, key_noise, sample, condition))

    def step(carry: tuple, scanned: tuple[Array, Array]) -> tuple[tuple, Array]:
        params, average, state = carry
        key, index = scanned
        loss, gradient = jax.value_and_grad(loss_of)(params, key)
        # optax raises a float to its int32 step count, which strict promotion forbids.
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(gradient, state)
            rate = jnp.asarray(decayed(index), jnp.float32)
        params = jax.tree.map(lambda p, u: p - rate * u, params, updates)
        return (params, ema_update(average, params, config.ema_decay, index), state), loss

    keys = jax.random.split(key, config.steps)
    start = (params, params, optimizer.init(params))
    index = jnp.arange(config.steps, dtype=jnp.int32)
    (_, average, _), loss = jax.lax.scan(step, start, (keys, index))
    return Pretrained(average, loss)


__all__ = [
    "Apply",
    "Draw",
    "PretrainConfig",
    "Pretrained",
    "denoising_loss",
    "ema_update",
    "pretrain",
]
