"""The arms of the PRDP experiments: one compiled program each, for all members and seeds."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from hinf_rl.agents.prdp import DPPOConfig, FinetuneConfig

SEEDS = 3
NO_CLIP = math.inf


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """One program: settings that shape it, and numbers that its members differ in.

    Attributes:
      name: of the arm, and of its file of results.
      task: key of `workloads.WORKLOADS`.
      config: the settings.
      members: label to the hyperparameters that differ from `config`'s.
      every: iterations between two measurements on held-out contexts.
    """

    name: str
    task: str
    config: FinetuneConfig | DPPOConfig
    members: Mapping[str, Mapping[str, float]]
    every: int

    @property
    def keeps_params(self) -> bool:
        """Whether the trained parameters are kept, for evaluations to come."""
        return self.task.startswith("cartpole")


def _ring(name: str, members: Mapping[str, Mapping[str, float]], **changes: Any) -> Arm:
    config = FinetuneConfig(**{"iterations": 80, **changes})
    return Arm(name=name, task="ring", config=config, members=members, every=20)


_FAST: dict[str, Any] = {"num_epochs": 10, "learning_rate": 1e-3, "clip_eps": 0.02}
_SLOW: dict[str, Any] = {"num_epochs": 4, "learning_rate": 3e-4, "clip_eps": 0.1}
_BATCH: dict[str, Any] = {"objective": "ddpo", "advantage": "batch"}
_GROUP: dict[str, Any] = {"objective": "ddpo", "advantage": "group"}

RING = (
    _ring("ring_a1", {"beta 0.05": {"beta": 0.05}, "beta 0.25": {"beta": 0.25}}, **_FAST),
    _ring(
        "ring_a1_control",
        {
            "beta 0.05, clip 0.2": {"beta": 0.05, "kl_penalty": 0.05, "clip_eps": 0.2},
            "beta 0.05, clip 0.02": {"beta": 0.05, "kl_penalty": 0.05, "clip_eps": 0.02},
            "beta 0.25, clip 0.02": {"beta": 0.25, "kl_penalty": 0.25, "clip_eps": 0.02},
        },
        **_GROUP,
        **_FAST,
    ),
    _ring(
        "ring_a2",
        {
            "clipped": {"beta": 0.005, "clip_eps": 0.02},
            "not clipped": {"beta": 0.005, "clip_eps": NO_CLIP},
        },
        **_FAST,
    ),
    _ring("ring_a3_prdp", {"": {}}, **_SLOW),
    _ring("ring_a3_ddpo_batch", {"": {}}, **_BATCH, **_SLOW),
    _ring("ring_a3_ddpo_group", {"": {}}, **_GROUP, **_SLOW),
    _ring("ring_a3_ddpo_batch_fast", {"": {}}, **_BATCH, **_FAST),
    _ring("ring_a4_offline", {"": {}}, source="offline", **_SLOW),
    _ring("ring_a4_offline_fixed", {"": {}}, source="offline", offline_batches=20, **_SLOW),
)
# The same under the published bound on a training step's noise.
STEEP = (
    dataclasses.replace(RING[0], name="steep_a1", task="steep"),
    dataclasses.replace(RING[1], name="steep_a1_control", task="steep"),
)


def _reach(name: str, members: Mapping[str, Mapping[str, float]], **changes: Any) -> Arm:
    config = FinetuneConfig(**{"iterations": 60, **changes})
    return Arm(name=name, task="reach", config=config, members=members, every=5)


_CAREFUL: dict[str, Any] = {"num_epochs": 4, "learning_rate": 3e-4, "clip_eps": 0.02}

REACH = (
    _reach("reach_prdp", {"": {"beta": 0.05}}, **_CAREFUL),
    _reach("reach_ddpo_batch", {"": {}}, **_BATCH, **_SLOW),
    _reach("reach_ddpo_group", {"": {}}, **_GROUP, **_SLOW),
    _reach(
        "reach_clip",
        {
            "clipped": {"beta": 0.005, "clip_eps": 0.02},
            "not clipped": {"beta": 0.005, "clip_eps": NO_CLIP},
        },
        **_FAST,
    ),
)


def _images(name: str, members: Mapping[str, Mapping[str, float]], **changes: Any) -> Arm:
    config = FinetuneConfig(
        **{"iterations": 100, "num_contexts": 8, "group_size": 8, **_SLOW, **changes}
    )
    return Arm(name=name, task="images", config=config, members=members, every=25)


IMAGES = (
    _images("images_prdp_near", {"beta 0.1": {"beta": 0.1}, "beta 0.02": {"beta": 0.02}}),
    _images("images_prdp_far", {"beta 0.003": {"beta": 0.003}, "beta 0.0003": {"beta": 0.0003}}),
    _images("images_ddpo_group", {"": {}}, **_GROUP),
)


def _dppo(name: str, task: str, **changes: Any) -> Arm:
    config = DPPOConfig(**{"clip_eps": 0.05, "clip_base": 0.02, **changes})
    return Arm(name=name, task=task, config=config, members={"": {}}, every=config.iterations // 4)


def _pictures(reward: str, label: str, **changes: Any) -> Arm:
    config = FinetuneConfig(
        **{
            "iterations": 40,
            "num_contexts": 4,
            "group_size": 8,
            **_SLOW,
            "num_epochs": 2,
            "learning_rate": 2e-4,
            **changes,
        }
    )
    return Arm(
        name=f"pictures_{reward}_{label}",
        task=f"pictures_{reward}",
        config=config,
        members={"": {}},
        every=20,
    )


_PICTURES_BETA = {"compressible": 0.005, "brightness": 0.003, "relabelled": 0.02}
# The control pays the same price of KL.
PICTURES = (
    *(_pictures(name, "prdp", beta=beta) for name, beta in _PICTURES_BETA.items()),
    *(
        _pictures(name, "ddpo_group", beta=beta, kl_penalty=beta, **_GROUP)
        for name, beta in _PICTURES_BETA.items()
    ),
)


def _cartpole(
    name: str, task: str, members: Mapping[str, Mapping[str, float]], **changes: Any
) -> Arm:
    config = FinetuneConfig(**{"iterations": 40, "clip_eps": 0.02, "num_epochs": 4,
                               "learning_rate": 3e-4, **changes})  # fmt: skip
    return Arm(name=name, task=task, config=config, members=members, every=10)


CARTPOLE = (
    _cartpole("cartpole_prdp", "cartpole", {"": {"beta": 0.002}}),
    _cartpole("cartpole_pushed_prdp", "cartpole_pushed", {"": {"beta": 0.002}}),
    _dppo("cartpole_pushed_dppo", "cartpole_pushed", iterations=40, tuned_steps=5),
)

REACH_DPPO = (_dppo("reach_dppo", "reach", iterations=60, tuned_steps=10),)

ARMS = {
    arm.name: arm for arm in (*RING, *STEEP, *REACH, *REACH_DPPO, *IMAGES, *PICTURES, *CARTPOLE)
}
