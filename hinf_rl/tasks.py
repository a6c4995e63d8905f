"""The tasks that there are, by name, and the settings of a run on one of them."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from hinf_rl.config import with_overrides
from hinf_rl.control_tasks import CONTROL_TASKS
from hinf_rl.diffusion_tasks import DIFFUSION_TASKS
from hinf_rl.errors import unknown_name
from hinf_rl.program_tasks import PROGRAM_TASKS
from hinf_rl.training.run_directory import RunConfig
from hinf_rl.workload import Task

TASKS = {task.name: task for task in (*CONTROL_TASKS, *PROGRAM_TASKS, *DIFFUSION_TASKS)}
"""Every task with a name of its own; those of other packages are made when asked for."""


def get_task(name: str) -> Task:
    """Returns the task called `name`; `brax:NAME` and the like are those of other packages.

    Raises:
      UserError: there is no such task; the nearest name is suggested.
    """
    if ":" in name:
        # Other packages load only where they are asked for.
        from hinf_rl.adapted_tasks import adapted_task

        return adapted_task(name)
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    return TASKS[name]


def configure(
    task: str, algorithm: str | None = None, overrides: Mapping[str, Any] | None = None
) -> RunConfig:
    """Settings of a run: the task's recommended ones, the algorithm's, then the overrides.

    `agent.iterations` follows from `total_steps` and the batch, unless it is overridden itself.

    Args:
      task: name of a task.
      algorithm: name of an algorithm; None takes the task's default.
      overrides: dotted keys such as "agent.gamma", with values or their text.

    Raises:
      UserError: unknown names or keys, values out of range.
    """
    overrides = dict(overrides or {})
    entry = get_task(task)
    workload = entry.workload
    algorithm = algorithm or workload.default_algorithm
    agent = workload.apply_algorithm(entry.agent_config, algorithm)
    config = RunConfig(
        task=task,
        algorithm=algorithm,
        total_steps=entry.total_steps or agent.iterations * agent.batch_size,
        log_every=entry.log_every,
        env=entry.env_config,
        agent=agent,
    )
    config = with_overrides(config, overrides)
    batch = config.agent.batch_size
    if "agent.iterations" in overrides:
        return dataclasses.replace(config, total_steps=config.agent.iterations * batch)
    iterations = math.ceil(config.total_steps / batch)
    agent = dataclasses.replace(config.agent, iterations=iterations)
    return dataclasses.replace(config, agent=agent)


__all__ = ["TASKS", "configure", "get_task"]
