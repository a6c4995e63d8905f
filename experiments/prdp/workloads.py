"""What the arms train on, and how it is measured."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp

from hinf_rl.diffusion.images import ImagesConfig, make_images
from hinf_rl.diffusion.problem import Problem
from hinf_rl.diffusion.reach import ReachConfig, make_reach
from hinf_rl.diffusion.ring import RingConfig, make_ring
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


def ring() -> Workload:
    """Task A."""
    config = RingConfig()
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


WORKLOADS: dict[str, Callable[[], Workload]] = {"images": images, "reach": reach, "ring": ring}
