"""Diffusion policies as named tasks: what `hinf-rl train prdp-ring` and the like are made from.

Like `hinf_rl.tasks` this knows problems and agents both.
"""

import dataclasses
from pathlib import Path
from typing import Any

from hinf_rl.agents.api import Algorithm
from hinf_rl.agents.prdp.config import FinetuneConfig
from hinf_rl.diffusion.images import ImagesConfig, make_images
from hinf_rl.diffusion.reach import ReachConfig, make_reach
from hinf_rl.diffusion.ring import RingConfig, make_ring
from hinf_rl.errors import UserError, unknown_name
from hinf_rl.workload import Task, Workload

ALGORITHMS = {
    "ddpo": "clipped policy gradient over denoising steps, advantage over the whole batch",
    "ddpo_group": "as ddpo, advantage over the samples of one context",
    "ddpo_group_kl": "as ddpo_group, with PRDP's price of KL taken off the reward",
    "prdp": "reward differences predicted by log-ratios, clipped per step, own samples",
    "prdp_offline": "as prdp, on samples of the reference",
    "reinforce": "score function over denoising steps, one update per batch",
    "sdpo": "reward differences predicted step by step, no price of KL",
}
"""Name to one line of what it changes."""


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


def _make_algorithm(task: Task, env_config: Any, agent_config: FinetuneConfig) -> Algorithm:
    from hinf_rl.agents.prdp.algorithm import make

    return make(agent_config, task.make_env(env_config))


def _evaluate(run: Path, *, quick: bool, baseline: Path | None) -> Path:
    """Measures a run beside its reference and writes `report/report.md` with pictures."""
    if baseline is not None:
        raise UserError(
            "--baseline compares robustness; a diffusion task is always compared with its own "
            "reference: leave the option out"
        )
    from hinf_rl.evaluation import diffusion_pictures
    from hinf_rl.evaluation.finetuning import evaluate_finetuning
    from hinf_rl.training.run_directory import RunDirectory, load_run

    config, _, carry = load_run(run)
    task = next(task for task in DIFFUSION_TASKS if task.name == config.task)
    evaluate_finetuning(
        run,
        config.agent,
        task.make_env(config.env),
        carry,
        draw=getattr(diffusion_pictures, _PICTURES[config.task]),
        num_samples=_QUICK_SAMPLES if quick else _SAMPLES,
    )
    return RunDirectory(run).report / "report.md"


FINE_TUNING = Workload(
    name="diffusion policies",
    algorithms=ALGORITHMS,
    default_algorithm="prdp",
    apply_algorithm=apply_algorithm,
    make_algorithm=_make_algorithm,
    evaluate=_evaluate,
)
"""Fine-tuning of a diffusion model on a reward, beside its reference."""

_PICTURES = {
    "prdp-images": "draw_images",
    "prdp-reach": "draw_reach",
    "prdp-ring": "draw_ring",
}
_SAMPLES, _QUICK_SAMPLES = 2048, 256
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

DIFFUSION_TASKS = (
    Task(
        name="prdp-ring",
        summary="eight Gaussians in the plane, paid for going where a fresh context points",
        env_config=RingConfig(),
        workload=FINE_TUNING,
        make_env=make_ring,
        agent_config=_RING_AGENT,
        log_every=5,
        tags=("diffusion", "pure JAX"),
    ),
    Task(
        name="prdp-reach",
        summary="a point robot's action chunks around a disc, cloned from noisy demonstrations",
        env_config=ReachConfig(),
        workload=FINE_TUNING,
        make_env=make_reach,
        agent_config=_REACH_AGENT,
        log_every=5,
        tags=("diffusion", "pure JAX"),
    ),
    Task(
        name="prdp-images",
        summary="8 x 8 pictures of four classes, paid by a black box that ignores the class",
        env_config=ImagesConfig(),
        workload=FINE_TUNING,
        make_env=make_images,
        agent_config=_IMAGES_AGENT,
        log_every=5,
        tags=("diffusion", "pure JAX"),
    ),
)
"""The tasks of diffusion policies."""

__all__ = ["ALGORITHMS", "DIFFUSION_TASKS", "FINE_TUNING", "apply_algorithm"]
