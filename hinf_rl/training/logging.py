"""Metrics as JSON lines and TensorBoard events, without duplicates after a resume.

One line per logged call: `iteration`, `env_steps` (per seed), `wall_s`, `steps_per_s` (all
seeds together), and every metric as a list with one value per seed; a value that is not finite
is null, since JSON has no NaN.
"""

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hinf_rl.errors import UserError
from hinf_rl.training import files


def make_record(
    *,
    iteration: int,
    env_steps: int,
    wall_s: float,
    steps_per_s: float,
    metrics: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """Returns one line of the log as a JSON-ready dictionary.

    Args:
      iteration: iterations done.
      env_steps: environment steps done, per seed.
      wall_s: seconds of training so far, over all sessions, without compilation.
      steps_per_s: environment steps per second of the last call, all seeds together.
      metrics: [] or [S] values by name.
    """
    values = {name: np.atleast_1d(value).tolist() for name, value in sorted(metrics.items())}
    return {
        "iteration": iteration,
        "env_steps": env_steps,
        "wall_s": round(wall_s, 3),
        "steps_per_s": round(steps_per_s, 1),
        **{name: [v if math.isfinite(v) else None for v in row] for name, row in values.items()},
    }


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Returns the records of a metrics file; a last line that was cut off is left out.

    Raises:
      UserError: a line in the middle is damaged.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    records = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number == len(lines):  # no newline: the writer was killed in it
                break
            raise UserError(f"{path} line {number} is damaged ({error}); delete it") from error
    return records


class MetricsLog:
    """Appends records to `metrics.jsonl` and TensorBoard, one flush per line."""

    def __init__(self, path: Path, *, tensorboard: Path | None = None, iteration: int = 0) -> None:
        """Opens the log behind iteration `iteration`; later lines are dropped.

        Args:
          path: the JSON lines file.
          tensorboard: folder of event files; None writes none.
          iteration: the iteration that training goes on from, 0 for a new run.
        """
        kept = [record for record in read_metrics(path) if record["iteration"] <= iteration]
        files.write_atomic(path, "".join(_line(record) for record in kept))
        self.last = kept[-1] if kept else None
        self._path = path
        with files.disk_errors(f"write {path}"):
            self._file = path.open("a", encoding="utf-8", newline="\n")
            self._events = _event_writer(tensorboard, iteration, kept)

    def write(self, record: Mapping[str, Any]) -> None:
        """Appends one record.

        Raises:
          UserError: the disk is full.
        """
        with files.disk_errors(f"write {self._path}"):
            self._file.write(_line(record))
            self._file.flush()
            if self._events is not None:
                _add_events(self._events, record)

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        if self._events is not None:
            self._events.close()


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, allow_nan=False, separators=(",", ":")) + "\n"


def _event_writer(folder: Path | None, iteration: int, kept: list[dict[str, Any]]) -> Any:
    if folder is None:
        return None
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        return None
    # TensorBoard cannot be cut back, so the events are made anew from the kept records.
    if iteration == 0 or kept:
        shutil.rmtree(folder, ignore_errors=True)
    writer = SummaryWriter(str(folder), flush_secs=30)
    for record in kept:
        _add_events(writer, record)
    return writer


def _add_events(writer: Any, record: Mapping[str, Any]) -> None:
    step = record["env_steps"]
    writer.add_scalar("speed/steps_per_s", record["steps_per_s"], step)
    for name, row in record.items():
        if not isinstance(row, list):
            continue
        for seed, value in enumerate(row):
            if value is not None:
                tag = name if len(row) == 1 else f"{name}/seed_{seed}"
                writer.add_scalar(tag, value, step)


__all__ = ["MetricsLog", "make_record", "read_metrics"]
