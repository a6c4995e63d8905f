"""The groups of a sweep in processes of their own, some at once.

A structural setting needs another compilation anyway; a process of its own gives its memory back,
and one that fails does not take the others along.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hinf_rl.errors import UserError
from hinf_rl.training.interrupt import catch_interrupts

_WORKER = "hinf_rl.commands.sweep_worker"
_POLL_S = 0.2

Note = Callable[[str], None]


class _Running(NamedTuple):
    index: int
    process: "subprocess.Popen[bytes]"


def train_in_processes(
    path: Path,
    count: int,
    *,
    at_once: int,
    device: str | None,
    note: Note,
    finished: Callable[[int], None],
) -> int | None:
    """Trains the groups 0 to `count - 1` of the sweep in `path`; returns a signal that ended it.

    Args:
      path: directory of the sweep; `group-NNN.log` takes what a process says.
      count: number of groups.
      at_once: processes that run at the same time.
      device: where each computes.
      note: receives progress in words.
      finished: called with the number of each group that is done.

    Returns:
      The signal that stopped the sweep, after all processes have saved; else None.

    Raises:
      UserError: some groups failed; the others are done.
    """
    waiting, failed = list(range(count)), []
    running: list[_Running] = []
    is_asked = False
    with catch_interrupts() as interrupt:
        try:
            while (waiting and interrupt.signal is None) or running:
                while waiting and len(running) < at_once and interrupt.signal is None:
                    index = waiting.pop(0)
                    note(f"group {index + 1} of {count}: see {log_path(path, index)}")
                    running.append(_Running(index, start_worker(path, index, device)))
                time.sleep(_POLL_S)
                if interrupt.signal is not None and not is_asked:
                    is_asked = True
                    for one in running:  # once: a second signal would not let it save
                        one.process.terminate()
                for one in [one for one in running if one.process.poll() is not None]:
                    running.remove(one)
                    code = one.process.returncode
                    if code == 0:
                        note(f"group {one.index + 1} of {count}: done")
                        finished(one.index)
                    elif interrupt.signal is None:
                        failed.append(one.index)
                        note(f"group {one.index + 1} of {count}: failed with exit code {code}")
        finally:
            for one in running:  # only after an error or a second signal of ours
                one.process.kill()
    if interrupt.signal is None and failed:
        logs = ", ".join(str(log_path(path, index)) for index in failed)
        raise UserError(
            f"{len(failed)} of {count} groups failed, see {logs}; the same command tries them again"
        )
    return interrupt.signal


def log_path(path: Path, index: int) -> Path:
    """Returns the file that takes what a group's process says."""
    return path / f"group-{index:03d}.log"


def start_worker(path: Path, index: int, device: str | None) -> "subprocess.Popen[bytes]":
    """Starts the process of one group; signals of the terminal do not reach it directly."""
    words = [sys.executable, "-m", _WORKER, str(path), str(index), *([device] if device else [])]
    with log_path(path, index).open("ab") as log:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


__all__ = ["log_path", "start_worker", "train_in_processes"]
