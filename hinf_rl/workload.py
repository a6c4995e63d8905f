"""What `hinf-rl` needs to know of a task, whatever kind of policy the task is for."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hinf_rl.agents.api import Algorithm


class Workload(NamedTuple):
    """How a family of tasks is trained and measured.

    Attributes:
      name: of the family, for people.
      algorithms: name to one line, of all that its tasks can be trained with.
      default_algorithm: what is meant where none is named.
      apply_algorithm: `(agent_config, name) -> agent_config`, recommended settings made those of
        one algorithm; refuses unknown names.
      make_algorithm: `(task, env_config, agent_config) -> Algorithm`.
      evaluate: `(run, *, quick, baseline) -> path` of the report; measures a finished run. Where
        the environment's settings have a `physics`, it takes that, too: what to test on.
      batched: dotted settings of the algorithm that are numbers of its carry, so that a sweep
        over them trains side by side.
      hyperparameters: `(task, env_config, agent_config) -> PyTree` of those numbers; None where
        `batched` is empty.
      render: `(run, *, beside) -> None`, draws its pictures again, with another run beside it
        unless that is None; None where evaluation draws them all.
    """

    name: str
    algorithms: Mapping[str, str]
    default_algorithm: str
    apply_algorithm: Callable[[Any, str], Any]
    make_algorithm: Callable[[Any, Any, Any], Algorithm]
    evaluate: Callable[..., Path]
    batched: Collection[str] = ()
    hyperparameters: Callable[[Any, Any, Any], Any] | None = None
    render: Callable[..., None] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A task that `hinf-rl train` knows by name.

    Attributes:
      name: what to call it.
      summary: one line.
      workload: what it is trained and measured with.
      env_config: default settings of what is trained in (a frozen dataclass).
      make_env: builds from such settings what the algorithm trains in: the environment of one
        instance, a source of programs, a problem of a diffusion policy.
      agent_config: recommended settings of the default algorithm (a frozen dataclass), with the
        fields or properties `iterations` and `batch_size`.
      total_steps: recommended steps of each seed: environment steps, programs or samples; None
        takes `iterations` batches of the algorithm's settings.
      log_every: iterations per line of the log; small tasks would drown in lines.
      tags: for listing.
    """

    name: str
    summary: str
    workload: Workload
    env_config: Any
    make_env: Callable[[Any], Any]
    agent_config: Any
    total_steps: int | None = None
    log_every: int = 10
    tags: tuple[str, ...] = ()


__all__ = ["Task", "Workload"]
