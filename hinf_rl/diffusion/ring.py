"""Eight Gaussians on a circle, and a reward for going where the context points."""

import dataclasses
from typing import cast

import jax
import jax.numpy as jnp

from hinf_rl.diffusion.model import DiffusionModel
from hinf_rl.diffusion.pretrain import Apply, PretrainConfig, pretrain
from hinf_rl.diffusion.problem import Problem, sample_rollout
from hinf_rl.diffusion.schedule import ScheduleConfig, make_schedule, training_schedule
from hinf_rl.errors import UserError
from hinf_rl.networks.denoiser import MLPDenoiser
from hinf_rl.types import Array, PyTree

_CONTEXT_SIZE = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class RingConfig:
    """The ring.

    Attributes:
      modes: Gaussians on the unit circle.
      std: their deviation.
      difficulty: weight of the part of the reward that depends on the context alone: variance
        that a baseline per context removes and one per batch does not.
      hidden: widths of the denoiser.
      schedule, pretrain: see there.
    """

    modes: int = 8
    std: float = 0.1
    difficulty: float = 3.0
    hidden: tuple[int, ...] = (64, 64, 64)
    schedule: ScheduleConfig = dataclasses.field(default_factory=ScheduleConfig)
    pretrain: PretrainConfig = dataclasses.field(default_factory=PretrainConfig)

    def __post_init__(self) -> None:
        if self.modes < 1 or not self.std > 0:
            raise UserError(
                f"modes must be at least 1 and std positive, got {self.modes} and {self.std}"
            )


def make_ring(config: RingConfig) -> Problem:
    """Builds the problem: r = <x, u> + difficulty c_3 with u the direction of (c_1, c_2).

    Contexts c ~ N(0, I) in four numbers never return; the data do not depend on them. The reward
    is unbounded: measures are `alignment`, <x, u>, and `off_ring`, | |x| - 1 |.

    Args:
      config: the settings.
    """
    network = MLPDenoiser(size=2, hidden=config.hidden)
    apply = cast(Apply, network.apply)
    model = DiffusionModel(apply, make_schedule(config.schedule), size=2)

    def draw(key: Array, count: int) -> tuple[Array, Array]:
        key_mode, key_noise, key_context = jax.random.split(key, 3)
        mode = jax.random.randint(key_mode, (count,), 0, config.modes, jnp.int32)
        angle = mode.astype(jnp.float32) * jnp.float32(2.0 * jnp.pi / config.modes)
        centre = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
        x = centre + config.std * jax.random.normal(key_noise, (count, 2), jnp.float32)
        return x, draw_contexts(key_context, count)

    def draw_contexts(key: Array, count: int) -> Array:
        return jax.random.normal(key, (count, _CONTEXT_SIZE), jnp.float32)

    def reward(outcome: dict[str, Array], context: Array) -> Array:
        return _alignment(outcome["sample"], context) + config.difficulty * context[:, 2]

    def measure(outcome: dict[str, Array], context: Array) -> dict[str, Array]:
        radius = jnp.linalg.norm(outcome["sample"], axis=-1)
        return {
            "alignment": _alignment(outcome["sample"], context),
            "off_ring": jnp.abs(radius - 1.0),
        }

    def train_reference(key: Array) -> PyTree:
        key_init, key_train = jax.random.split(key)
        zeros = jnp.zeros((1, 2), jnp.float32)
        context = jnp.zeros((1, _CONTEXT_SIZE), jnp.float32)
        params = network.init(key_init, zeros, jnp.zeros(1, jnp.float32), context)
        levels = training_schedule(config.schedule)
        return pretrain(key_train, apply, params, draw, levels, config.pretrain).params

    return Problem(
        name="ring",
        model=model,
        num_decisions=config.schedule.steps,
        context_size=_CONTEXT_SIZE,
        draw_contexts=draw_contexts,
        rollout=sample_rollout(model),
        reward=reward,
        measure=measure,
        pretrain=train_reference,
    )


def _alignment(x: Array, context: Array) -> Array:
    direction = context[:, :2]
    length = jnp.maximum(jnp.linalg.norm(direction, axis=-1), 1e-6)
    return jnp.sum(x * direction, axis=-1) / length


__all__ = ["RingConfig", "make_ring"]
