"""`hinf-rl train`: a task, an algorithm and a run directory."""

import math
import shlex
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from hinf_rl.errors import UserError


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
    algorithm: str,
    overrides: Mapping[str, str],
    *,
    output: Path | None,
    resume: bool,
    device: str | None,
) -> int:
    """Trains one run; returns the exit code, 128 + signal where a signal ended it."""
    from hinf_rl.tasks import configure
    from hinf_rl.training import devices, loop, progress, run_directory

    config = configure(task, algorithm, overrides)
    path = output or Path("runs") / f"{task}-{algorithm}".replace(":", "-")
    devices.select_device(device)
    made = run_directory.make_algorithm(config)
    run = run_directory.open_run(path, config, resume=resume)
    show = progress.make_progress()
    show.note(f"{task}, {algorithm}, seeds {config.seeds}, output {path}")
    with run.lock():
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
        )
    _tell_end(result, path, show)
    return 0 if result.signal is None else 128 + result.signal


def _tell_end(result, path: Path, show) -> None:  # noqa: ANN001 lazily imported types
    summary = result.summary
    wall = f"{summary['wall_s']:.0f} s, {summary['steps_per_s']:.0f} steps/s"
    if result.signal is None:
        show.note(f"trained {summary['env_steps']} steps per seed in {wall}")
        show.note(f"next: hinf-rl evaluate {shlex.quote(str(path))}")
        return
    words = [word for word in sys.argv[1:] if word != "--resume"]
    name = signal.Signals(result.signal).name
    show.note(f"stopped by {name} at iteration {summary['iterations']}, saved in {path}")
    show.note(f"go on with: hinf-rl {shlex.join([*words, '--resume'])}")


__all__ = ["parse_assignments", "train_run"]
