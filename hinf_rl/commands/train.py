"""`hinf-rl train`: a task, an algorithm and a run directory."""

import contextlib
import math
import shlex
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hinf_rl.errors import UserError


class Machine(NamedTuple):
    """What to train on.

    Attributes:
      device: "cpu", "gpu", "tpu", or None for the best there is.
      devices: how many of each process.
      cluster: coordinator, number of processes and this one's id; None where there is one.
    """

    device: str | None = None
    devices: int = 1
    cluster: tuple[str | None, int | None, int | None] = (None, None, None)


def parse_assignments(texts: tuple[str, ...]) -> dict[str, str]:
    """Splits `key=value` texts.

    Raises:
      UserError: a text without "=", an empty key or one that is given twice.
    """
    values: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set wants key=value, got {text!r}; for example agent.gamma=0.98")
        if key.strip() in values:
            raise UserError(f"--set {key.strip()} is given twice; keep one")
        values[key.strip()] = value
    return values


def train_run(
    task: str,
    algorithm: str | None,
    overrides: Mapping[str, str],
    *,
    output: Path | None,
    resume: bool,
    machine: Machine = Machine(),  # noqa: B008 an immutable tuple
    seed_order: Any = None,
    wandb_project: str | None = None,
) -> int:
    """Trains one run; returns the exit code, 128 + signal where a signal ended it."""
    from hinf_rl.tasks import configure
    from hinf_rl.training import devices, loop, processes, progress, run_directory, seeds, sharding
    from hinf_rl.training.wandb_log import WandbLog, check_installed

    if wandb_project is not None:
        check_installed()
    config = configure(task, algorithm, overrides)
    path = output or Path("runs") / f"{task}-{config.algorithm}".replace(":", "-")
    processes.start(processes.Cluster(*machine.cluster))
    devices.select_device(machine.device)
    processes.meet()
    made = run_directory.make_algorithm(config)
    order = seeds.settle(seed_order, run_directory.RunDirectory(path), resume=resume)
    mesh = sharding.make_mesh(
        config.agent,
        devices=machine.devices,
        seeds=1 if order == "sequential" else config.seeds,
    )
    run = processes.on_first(lambda: run_directory.open_run(path, config, resume=resume))
    show = progress.make_progress() if processes.is_first() else progress.SilentProgress()
    show.note(f"{task}, {config.algorithm}, seeds {config.seeds}, output {path}")
    if mesh is not None:
        show.note(sharding.describe(mesh))
    with contextlib.ExitStack() as stack:

        def lock() -> None:
            stack.enter_context(run.lock())

        processes.on_first(lock)
        callbacks = []
        if wandb_project is not None and processes.is_first():
            log = stack.enter_context(WandbLog(wandb_project, run, config))
            callbacks.append(log.write)
        result = loop.train(
            made,
            run,
            iterations=math.ceil(config.total_steps / made.env_steps_per_iteration),
            keys=loop.seed_keys(config.seed, config.seeds),
            log_every=config.log_every,
            checkpoint_every=config.checkpoint_every,
            keep_checkpoints=config.keep_checkpoints,
            resume=resume,
            progress=show,
            callbacks=callbacks,
            mesh=mesh,
            seed_order=order,
        )
    _tell_end(result, path, show)
    return 0 if result.signal is None else 128 + result.signal


def _tell_end(result, path: Path, show) -> None:  # noqa: ANN001 lazily imported types
    summary = result.summary
    wall = f"{summary['wall_s']:.0f} s, {summary['steps_per_s']:.0f} steps/s"
    if result.signal is None:
        show.note(f"trained {summary['env_steps']} steps per seed in {wall}")
        show.note(f"run: {path}  (curves: tensorboard --logdir {shlex.quote(str(path))})")
        show.note(f"next: hinf-rl evaluate {shlex.quote(str(path))}")
        return
    words = [word for word in sys.argv[1:] if word != "--resume"]
    name = signal.Signals(result.signal).name
    show.note(f"stopped by {name} at iteration {summary['iterations']}, saved in {path}")
    show.note(f"go on with: hinf-rl {shlex.join([*words, '--resume'])}")


__all__ = ["Machine", "parse_assignments", "train_run"]
