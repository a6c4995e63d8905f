"""Small pictures of four classes, and rewards that know nothing of the classes."""

import dataclasses
import io
from collections.abc import Callable
from typing import Literal, cast

import jax
import jax.numpy as jnp
import numpy as np

from hinf_rl.diffusion.black_box import host_reward
from hinf_rl.diffusion.model import DiffusionModel
from hinf_rl.diffusion.pretrain import Apply, PretrainConfig, pretrain
from hinf_rl.diffusion.problem import Problem, sample_rollout
from hinf_rl.diffusion.schedule import ScheduleConfig, make_schedule, training_schedule
from hinf_rl.errors import UserError, unknown_name
from hinf_rl.networks.denoiser import MLPDenoiser, UNetDenoiser
from hinf_rl.types import Array, PyTree

CLASSES = ("horizontal", "vertical", "diagonal", "ring")
"""Kinds of pictures, in the order of their numbers."""
_CONTRAST = 0.8
_BRIGHTNESS_STD = 0.25
_PIXEL_STD = 0.1
_JPEG_QUALITY = 75
# A JPEG of 16 x 16 pixels takes some 300 bytes of tables before the first pixel.
_JPEG_UNIT = 100.0

Reward = Callable[[dict[str, Array], Array], Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImagesConfig:
    """The pictures.

    Attributes:
      side: pixels of a side.
      shift: pixels by which a picture is rolled at random, in each direction.
      reward: "quantised" brightness (rounded to quarters, no gradient), "brightness",
        "compressible" (minus the size of its JPEG, on the host) or "relabelled" (what a small
        learned classifier gives to the class after the picture's own).
      network: "mlp" or "unet".
      hidden: widths of the perceptron.
      channels: of the U-Net, the finest resolution first.
      schedule, pretrain: see there.
    """

    side: int = 8
    shift: int = 0
    reward: Literal["quantised", "brightness", "compressible", "relabelled"] = "quantised"
    network: Literal["mlp", "unet"] = "mlp"
    hidden: tuple[int, ...] = (256, 256, 256)
    channels: tuple[int, ...] = (8, 16)
    schedule: ScheduleConfig = dataclasses.field(
        default_factory=lambda: ScheduleConfig(steps=20, sigma_min=0.05)
    )
    pretrain: PretrainConfig = dataclasses.field(
        default_factory=lambda: PretrainConfig(batch=256, learning_rate=1e-3)
    )

    def __post_init__(self) -> None:
        if self.reward not in _REWARDS:
            raise unknown_name("reward", self.reward, _REWARDS)
        if self.network not in ("mlp", "unet"):
            raise unknown_name("network", self.network, ("mlp", "unet"))
        halvings = 2 ** (len(self.channels) - 1)
        if self.side < 8 or (self.network == "unet" and self.side % halvings):
            raise UserError(
                f"side must be at least 8 and divide by {halvings} for {len(self.channels)} "
                f"resolutions, got {self.side}"
            )
        if not 0 <= self.shift < self.side // 2:
            raise UserError(f"shift must lie in [0, side / 2), got {self.shift}")


def make_images(config: ImagesConfig) -> Problem:
    """Builds the problem; the context is the one-hot class.

    Measures: `class_accuracy`, whether the nearest template (over all shifts, both centred) is of
    the asked class; `likeness`, the best cosine with a template of the asked class; `brightness`.

    Args:
      config: the settings.
    """
    size = config.side**2
    if config.network == "mlp":
        network = MLPDenoiser(size=size, hidden=config.hidden)
    else:
        network = UNetDenoiser(shape=(config.side, config.side, 1), widths=config.channels)
    apply = cast(Apply, network.apply)
    model = DiffusionModel(apply, make_schedule(config.schedule), size=size)
    template = jnp.asarray(shifted_templates(config))  # [classes, shifts, D]

    def draw(key: Array, count: int) -> tuple[Array, Array]:
        key_class, *keys = jax.random.split(key, 4)
        context = draw_contexts(key_class, count)
        shift = jax.random.randint(keys[0], (count,), 0, template.shape[1], jnp.int32)
        picture = template[jnp.argmax(context, axis=-1), shift]
        brightness = _BRIGHTNESS_STD * jax.random.normal(keys[1], (count, 1), jnp.float32)
        noise = _PIXEL_STD * jax.random.normal(keys[2], picture.shape, jnp.float32)
        return picture + brightness + noise, context

    def draw_contexts(key: Array, count: int) -> Array:
        label = jax.random.randint(key, (count,), 0, len(CLASSES), jnp.int32)
        return jax.nn.one_hot(label, len(CLASSES), dtype=jnp.float32)

    def measure(outcome: dict[str, Array], context: Array) -> dict[str, Array]:
        likeness = jnp.max(_cosines(outcome["sample"], template), axis=-1)
        own = jnp.sum(likeness * context, axis=-1)
        is_right = jnp.argmax(likeness, axis=-1) == jnp.argmax(context, axis=-1)
        return {
            "class_accuracy": is_right.astype(jnp.float32),
            "likeness": own,
            "brightness": jnp.mean(jnp.clip(outcome["sample"], -1.0, 1.0), axis=-1),
        }

    def train_reference(key: Array) -> PyTree:
        key_draw, key_init, key_train = jax.random.split(key, 3)
        x, context = draw(key_draw, 1)
        params = network.init(key_init, x, jnp.zeros(1, jnp.float32), context)
        levels = training_schedule(config.schedule)
        return pretrain(key_train, apply, params, draw, levels, config.pretrain).params

    return Problem(
        name="images",
        model=model,
        num_decisions=config.schedule.steps,
        context_size=len(CLASSES),
        draw_contexts=draw_contexts,
        rollout=sample_rollout(model),
        reward=_REWARDS[config.reward](config, draw),
        measure=measure,
        pretrain=train_reference,
        context_ids=lambda context: jnp.argmax(context, axis=-1).astype(jnp.int32),
        num_context_ids=len(CLASSES),
    )


def shifted_templates(config: ImagesConfig) -> np.ndarray:
    """[classes, shifts, D] noise-free pictures, every roll of each class."""
    rolls = range(-config.shift, config.shift + 1)
    return np.stack(
        [
            [np.roll(one, (dy, dx), (0, 1)).ravel() for dy in rolls for dx in rolls]
            for one in _templates(config.side)
        ]
    ).astype(np.float32)


def jpeg_size(samples: np.ndarray, context: np.ndarray) -> np.ndarray:
    """Minus the size in 100 bytes of each picture's JPEG at quality 75.

    Args:
      samples: [M, side^2] with grey from -1 to 1.
      context: ignored.
    """
    from PIL import Image

    del context
    side = round(samples.shape[1] ** 0.5)
    grey = np.round(127.5 * (np.clip(np.nan_to_num(samples), -1.0, 1.0) + 1.0)).astype(np.uint8)
    sizes = np.empty(len(samples), np.float32)
    for i, one in enumerate(grey):
        file = io.BytesIO()
        Image.fromarray(one.reshape(side, side)).save(file, "JPEG", quality=_JPEG_QUALITY)
        sizes[i] = file.tell()
    return -sizes / _JPEG_UNIT


def _templates(side: int) -> np.ndarray:
    """[classes, side, side] binary pictures of +-0.8."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    thick, radius = side / 8, np.hypot(x, y)
    marks = (
        np.abs(y) <= thick,
        np.abs(x) <= thick,
        np.abs(x - y) <= thick,
        np.abs(radius - 0.36 * side) <= 0.75 * thick,
    )
    return np.where(np.stack(marks), _CONTRAST, -_CONTRAST)


def _cosines(sample: Array, template: Array) -> Array:
    """[M, classes, shifts] cosines of centred pictures."""

    def unit(x: Array) -> Array:
        centred = x - jnp.mean(x, axis=-1, keepdims=True)
        return centred / jnp.maximum(jnp.linalg.norm(centred, axis=-1, keepdims=True), 1e-6)

    return jnp.einsum("md,csd->mcs", unit(sample), unit(template))


def _quantised(config: ImagesConfig, draw: Callable) -> Reward:
    del config, draw
    return lambda outcome, context: jnp.mean(
        jnp.clip(jnp.round(4.0 * outcome["sample"]) / 4.0, -1.0, 1.0), axis=-1
    )


def _brightness(config: ImagesConfig, draw: Callable) -> Reward:
    del config, draw
    return lambda outcome, context: jnp.mean(jnp.clip(outcome["sample"], -1.0, 1.0), axis=-1)


def _compressible(config: ImagesConfig, draw: Callable) -> Reward:
    del config, draw
    return host_reward(jpeg_size, name="compressible")


def _relabelled(config: ImagesConfig, draw: Callable) -> Reward:
    """Log-probability, at least -5, of the next class under a classifier of clean pictures."""
    weights = _linear_classifier(draw)

    def reward(outcome: dict[str, Array], context: Array) -> Array:
        log_prob = jax.nn.log_softmax(outcome["sample"] @ weights)
        return jnp.maximum(jnp.sum(log_prob * jnp.roll(context, 1, axis=-1), axis=-1), -5.0)

    del config
    return reward


def _linear_classifier(draw: Callable) -> Array:
    """[D, classes] weights of a ridge regression on the classes, as logits."""
    x, label = draw(jax.random.key(7), 4096)
    gram = x.T @ x + 10.0 * jnp.eye(x.shape[1], dtype=jnp.float32)
    # Least squares gives scores in [0, 1]; ten times that are confident logits.
    return 10.0 * jnp.linalg.solve(gram, x.T @ label)


_REWARDS: dict[str, Callable[[ImagesConfig, Callable], Reward]] = {
    "quantised": _quantised,
    "brightness": _brightness,
    "compressible": _compressible,
    "relabelled": _relabelled,
}

__all__ = ["CLASSES", "ImagesConfig", "jpeg_size", "make_images", "shifted_templates"]
