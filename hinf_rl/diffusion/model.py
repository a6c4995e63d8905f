"""A diffusion model as a policy: each denoising step is a Gaussian with a log-probability."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp

from hinf_rl.diffusion.schedule import Schedule
from hinf_rl.types import Array, PyTree

_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)


class DiffusionModel(NamedTuple):
    """What turns noise into samples.

    Attributes:
      apply: `apply(params, x [M, D], time [M], condition [M, C]) -> [M, D]`, the predicted noise.
      schedule: the chain that samples.
      size: numbers D of a sample; images are flattened.
      guidance: weight w of classifier-free guidance, w e(x, c) + (1 - w) e(x, 0); 1 is none. The
        guided noise defines the mean in sampling and in log-probabilities both.
      x0_clip: bound on each number of the predicted clean sample; None for none.
      reduce: whether the log-probability of a step is the "sum" over the D numbers or their
        "mean". Only the sum is a log-probability; the mean is what large image models train on.
    """

    apply: Callable[[PyTree, Array, Array, Array], Array]
    schedule: Schedule
    size: int
    guidance: float = 1.0
    x0_clip: float | None = None
    reduce: Literal["sum", "mean"] = "sum"


class Chain(NamedTuple):
    """Denoising trajectories.

    Attributes:
      path: [M, T+1, D] from the noise, `path[:, 0]`, to the sample, `path[:, -1]`.
      log_prob: [M, T] log-probability of each step.
    """

    path: Array
    log_prob: Array

    @property
    def sample(self) -> Array:
        """[M, D] the samples."""
        return self.path[:, -1]


class Frozen(NamedTuple):
    """Parameters that take the first steps of each chain instead of those that are trained.

    Attributes:
      params: of the denoiser.
      num_steps: how many steps, from the noisiest on.
    """

    params: PyTree
    num_steps: int


def step_mean(
    model: DiffusionModel, params: PyTree, x: Array, step: Array, condition: Array
) -> Array:
    """Mean of the next point of each chain.

    mu = a x0_hat + b x with x0_hat = (x - sqrt(1 - abar) e) / sqrt(abar), and the schedule's a, b.

    Args:
      model: the model.
      params: of the denoiser.
      x: [M, D] points.
      step: [M] int32 step that each point is at, 0 the noisiest.
      condition: [M, C] what the sample depends on.

    Returns:
      [M, D] means.
    """
    chex.assert_shape(x, (None, model.size))
    chex.assert_equal_shape_prefix([x, step, condition], 1)
    table = model.schedule
    noise = _guided_noise(model, params, x, table.time[step], condition)
    alpha_bar = table.alpha_bar[step][:, None]
    clean = (x - jnp.sqrt(1.0 - alpha_bar) * noise) / jnp.sqrt(alpha_bar)
    if model.x0_clip is not None:
        clean = jnp.clip(clean, -model.x0_clip, model.x0_clip)
    return table.from_clean[step][:, None] * clean + table.from_noisy[step][:, None] * x


def step_log_prob(
    model: DiffusionModel, params: PyTree, x: Array, x_next: Array, step: Array, condition: Array
) -> Array:
    """Log-probability of each denoising step; no gradient flows into `x` or `x_next`.

    log N(x_next; mu(x), sigma^2 I), summed over the D numbers or their mean.

    Args:
      model: the model.
      params: of the denoiser.
      x: [M, D] points.
      x_next: [M, D] what followed them.
      step: [M] int32.
      condition: [M, C].

    Returns:
      [M] log-probabilities.
    """
    x, x_next = jax.lax.stop_gradient((x, x_next))
    mean = step_mean(model, params, x, step, condition)
    return _log_prob(model, mean, x_next, step)


def sample_chain(
    key: Array,
    model: DiffusionModel,
    params: PyTree,
    condition: Array,
    *,
    frozen: Frozen | None = None,
) -> Chain:
    """Draws one sample per condition, with the whole trajectory, in one scan.

    Args:
      key: consumed.
      model: the model.
      params: of the denoiser.
      condition: [M, C].
      frozen: other parameters that take the first steps.
    """
    rows = condition.shape[0]
    key_start, key_steps = jax.random.split(key)
    num_steps = model.schedule.num_steps
    start = jax.random.normal(key_start, (rows, model.size), jnp.float32)

    def advance(x: Array, scanned: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        key, index = scanned
        step = jnp.full((rows,), index)
        mean = step_mean(model, _params_at(params, frozen, index), x, step, condition)
        noise = jax.random.normal(key, x.shape, jnp.float32)
        x_next = mean + model.schedule.sigma[index] * noise
        return x_next, (x_next, _log_prob(model, mean, x_next, step))

    steps = jnp.arange(num_steps, dtype=jnp.int32)
    _, (path, log_prob) = jax.lax.scan(
        advance, start, (jax.random.split(key_steps, num_steps), steps)
    )
    whole = jnp.concatenate([start[None], path])
    return Chain(path=jnp.swapaxes(whole, 0, 1), log_prob=jnp.swapaxes(log_prob, 0, 1))


def chain_log_probs(model: DiffusionModel, params: PyTree, path: Array, condition: Array) -> Array:
    """Log-probabilities of all steps of given trajectories, one step of all of them at a time.

    Args:
      model: the model.
      params: of the denoiser.
      path: [M, T+1, D] trajectories.
      condition: [M, C].

    Returns:
      [M, T] log-probabilities.

    Raises:
      AssertionError: the trajectories are not as long as the model's chain.
    """
    rows, num_steps = path.shape[0], model.schedule.num_steps
    chex.assert_shape(path, (rows, num_steps + 1, model.size))
    moved = jnp.swapaxes(path, 0, 1)

    def one(scanned: tuple[Array, Array, Array]) -> Array:
        x, x_next, index = scanned
        return step_log_prob(model, params, x, x_next, jnp.full((rows,), index), condition)

    steps = jnp.arange(num_steps, dtype=jnp.int32)
    return jnp.swapaxes(jax.lax.map(one, (moved[:-1], moved[1:], steps)), 0, 1)


def _log_prob(model: DiffusionModel, mean: Array, x_next: Array, step: Array) -> Array:
    sigma = model.schedule.sigma[step][:, None]
    each = -0.5 * ((x_next - mean) / sigma) ** 2 - jnp.log(sigma) - _LOG_SQRT_2PI
    return jnp.sum(each, axis=-1) if model.reduce == "sum" else jnp.mean(each, axis=-1)


def _guided_noise(
    model: DiffusionModel, params: PyTree, x: Array, time: Array, condition: Array
) -> Array:
    if model.guidance == 1.0:
        return model.apply(params, x, time, condition)
    # One call on twice the rows; the zero condition stands for none.
    twice_x, twice_time = jnp.concatenate([x, x]), jnp.concatenate([time, time])
    conditions = jnp.concatenate([condition, jnp.zeros_like(condition)])
    both = model.apply(params, twice_x, twice_time, conditions)
    conditional, free = jnp.split(both, 2)
    return model.guidance * conditional + (1.0 - model.guidance) * free


def _params_at(params: PyTree, frozen: Frozen | None, index: Array) -> PyTree:
    if frozen is None:
        return params
    is_frozen = index < frozen.num_steps
    return jax.tree.map(lambda own, other: jnp.where(is_frozen, other, own), params, frozen.params)


__all__ = [
    "Chain",
    "DiffusionModel",
    "Frozen",
    "chain_log_probs",
    "sample_chain",
    "step_log_prob",
    "step_mean",
]
