"""Diffusion policies as named tasks: what `hinf-rl train prdp-ring` and the like are made from.

Like `hinf_rl.tasks` this knows problems and agents both.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hinf_rl.agents.api import Algorithm
from hinf_rl.agents.prdp.config import FinetuneConfig
from hinf_rl.diffusion.images import ImagesConfig, make_images
from hinf_rl.diffusion.problem import Problem
from hinf_rl.diffusion.reach import ReachConfig, make_reach
from hinf_rl.diffusion.ring import RingConfig, make_ring
from hinf_rl.errors import unknown_name

ALGORITHMS = {
    "ddpo": "clipped policy gradient over denoising steps, advantage over the whole batch",
    "ddpo_group": "as ddpo, advantage over the samples of one context",
    "ddpo_group_kl": "as ddpo_group, with PRDP's price of KL taken off the reward",
    "prdp": "reward differences predicted by log-ratios, clipped per step, own samples",
    "prdp_offline": "as prdp, on samples of the reference",
    "reinforce": "score function over denoising steps, one update per batch",
    "sdpo": "reward differences predicted step by step, no price of KL",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffusionTask:
    """A diffusion task that the command line knows by name.

    Attributes:
      name: what to call it.
      summary: one line.
      env_config: default settings of the problem.
      make_problem: builds it from such settings.
      agent_config: recommended settings of PRDP.
      total_steps: recommended samples, and reward queries, of each seed.
      draw: fills a matplotlib axis with an outcome; imported where it is called.
      log_every: iterations per line of the log.
      tags: for listing.
    """

    name: str
    summary: str
    env_config: Any
    make_problem: Callable[[Any], Problem]
    agent_config: FinetuneConfig
    total_steps: int
    draw: Callable[[Any, Any], None]
    log_every: int = 5
    tags: tuple[str, ...] = ("diffusion", "pure JAX")

    @property
    def algorithms(self) -> dict[str, str]:
        """Names and summaries of the algorithms."""
        return ALGORITHMS

    def apply_algorithm(self, config: FinetuneConfig, algorithm: str) -> FinetuneConfig:
        """Turns recommended settings of PRDP into those of one algorithm."""
        return apply_algorithm(config, algorithm)

    def make_algorithm(self, env_config: Any, agent_config: FinetuneConfig) -> Algorithm:
        """Builds the training algorithm."""
        from hinf_rl.agents.prdp.algorithm import make

        return make(agent_config, self.make_problem(env_config))

    def evaluate(
        self, run_path: Path | str, *, tell: Callable[[str], None] | None = None
    ) -> dict[str, Any]:
        """Measures a run beside its reference and writes `report/report.md` with pictures."""
        from hinf_rl.evaluation.finetuning import evaluate_finetuning
        from hinf_rl.training.run_directory import load_run

        config, _, carry = load_run(run_path)
        problem = self.make_problem(config.env)
        return evaluate_finetuning(
            run_path, config.agent, problem, carry, draw=self.draw, tell=tell
        )


def apply_algorithm(config: FinetuneConfig, algorithm: str) -> FinetuneConfig:
    """Turns recommended settings of PRDP into those of one algorithm.

    Raises:
      UserError: there is no such algorithm.
    """
    if algorithm not in ALGORITHMS:
        raise unknown_name("algorithm", algorithm, ALGORITHMS)
    changes: dict[str, dict[str, Any]] = {
        "ddpo": {"objective": "ddpo", "advantage": "batch"},
        "ddpo_group": {"objective": "ddpo", "advantage": "group"},
        "ddpo_group_kl": {
            "objective": "ddpo",
            "advantage": "group",
            "kl_penalty": config.beta,
        },
        "prdp": {},
        "prdp_offline": {"source": "offline"},
        "reinforce": {"objective": "reinforce", "advantage": "group", "num_epochs": 1},
        "sdpo": {"objective": "sdpo"},
    }
    return dataclasses.replace(config, **changes[algorithm])


def _draw(name: str) -> Callable[[Any, Any], None]:
    def draw(axis: Any, outcome: Any) -> None:
        from hinf_rl.evaluation import diffusion_pictures

        getattr(diffusion_pictures, name)(axis, outcome)

    return draw


_RING_AGENT = FinetuneConfig()
_REACH_AGENT = FinetuneConfig(iterations=60, num_epochs=4, learning_rate=3e-4)
_IMAGES_AGENT = FinetuneConfig(
    iterations=100,
    num_contexts=8,
    num_epochs=4,
    learning_rate=3e-4,
    clip_eps=0.1,
    beta=0.003,
)

DIFFUSION_TASKS = {
    task.name: task
    for task in (
        DiffusionTask(
            name="prdp-ring",
            summary="eight Gaussians in the plane, paid for going where a fresh context points",
            env_config=RingConfig(),
            make_problem=make_ring,
            agent_config=_RING_AGENT,
            total_steps=_RING_AGENT.iterations * _RING_AGENT.batch_size,
            draw=_draw("draw_ring"),
        ),
        DiffusionTask(
            name="prdp-reach",
            summary="a point robot's action chunks around a disc, cloned from noisy demonstrations",
            env_config=ReachConfig(),
            make_problem=make_reach,
            agent_config=_REACH_AGENT,
            total_steps=_REACH_AGENT.iterations * _REACH_AGENT.batch_size,
            draw=_draw("draw_reach"),
        ),
        DiffusionTask(
            name="prdp-images",
            summary="8 x 8 pictures of four classes, paid by a black box that ignores the class",
            env_config=ImagesConfig(),
            make_problem=make_images,
            agent_config=_IMAGES_AGENT,
            total_steps=_IMAGES_AGENT.iterations * _IMAGES_AGENT.batch_size,
            draw=_draw("draw_images"),
        ),
    )
}

__all__ = ["ALGORITHMS", "DIFFUSION_TASKS", "DiffusionTask", "apply_algorithm"]
