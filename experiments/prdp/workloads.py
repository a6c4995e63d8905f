"""What the arms train on, and how it is measured."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp

from hinf_rl.diffusion import PretrainConfig, ScheduleConfig
from hinf_rl.diffusion.images import ImagesConfig, make_images
from hinf_rl.diffusion.problem import Problem
from hinf_rl.diffusion.reach import ReachConfig, make_reach
from hinf_rl.diffusion.ring import RingConfig, make_ring
from hinf_rl.diffusion_control import ControlConfig, cart_pole_controller, make_control
from hinf_rl.envs.classic import CartPole
from hinf_rl.types import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """A problem and its measurements.

    Attributes:
      problem: what is trained on.
      num_held_out: held-out contexts per measurement.
      num_shown: samples that are kept for pictures.
      oracle: contexts and samples of each behind the tilted oracle.
      betas: prices of KL that the oracle is computed for; none where it is not.
      context_part: the part of the oracle's rewards that the context alone decides, [C, C'] -> [C].
    """

    problem: Problem
    num_held_out: int = 2048
    num_shown: int = 512
    oracle: tuple[int, int] = (128, 4096)
    betas: tuple[float, ...] = ()
    context_part: Callable[[Array], Array] = lambda context: jnp.zeros(len(context), jnp.float32)


def ring(max_beta: float = ScheduleConfig().max_beta) -> Workload:
    """Task A."""
    config = RingConfig(schedule=ScheduleConfig(max_beta=max_beta))
    return Workload(
        problem=make_ring(config),
        betas=(0.05, 0.25),
        context_part=lambda context: config.difficulty * context[:, 2],
    )


def reach() -> Workload:
    """Task B."""
    return Workload(problem=make_reach(ReachConfig()), num_held_out=1024, num_shown=64)


def images() -> Workload:
    """Task C."""
    return Workload(problem=make_images(ImagesConfig()), num_held_out=512, num_shown=32)


def pictures(reward: str = "quantised") -> Workload:
    """16 x 16 images by a U-Net."""
    config = ImagesConfig(
        side=16,
        shift=2,
        network="unet",
        channels=(8, 16, 32),
        reward=reward,
        schedule=ScheduleConfig(steps=10, sigma_min=0.05),
        pretrain=PretrainConfig(steps=2500, batch=64, learning_rate=3e-3),
    )
    return Workload(problem=make_images(config), num_held_out=128, num_shown=32)


def cartpole(force: float = 0.0) -> Workload:
    """Action chunks on the cart-pole, in training under random forces up to `force` x 0.6 N."""
    env = CartPole()
    problem = make_control(ControlConfig(force=force), env, cart_pole_controller(env))
    return Workload(problem=problem, num_held_out=256, num_shown=1)


WORKLOADS: dict[str, Callable[[], Workload]] = {
    "cartpole": cartpole,
    "cartpole_pushed": lambda: cartpole(force=1.0),
    "images": images,
    "pictures_brightness": lambda: pictures("brightness"),
    "pictures_compressible": lambda: pictures("compressible"),
    "pictures_relabelled": lambda: pictures("relabelled"),
    "reach": reach,
    "ring": ring,
    "steep": lambda: ring(max_beta=0.999),
}
"""Problems by name; those whose names begin alike share their references."""
