"""What a person sees while training runs: a live line, or plain lines in a log file."""

import statistics
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TextIO

# Shown in this order when an algorithm reports them: last part of the metric's name, and label.
_SHOWN = {
    "return": "return",
    "task_share": "task",
    "survival": "survival",
    "tracking_error": "error",
    "falls_per_1000_steps": "falls/1000",
    "multiplier": "multiplier",
}
_PLAIN_EVERY_S = 10.0


class Progress(Protocol):
    """Receives what happens during training."""

    def start(self, *, done: int, total: int) -> None:
        """Training goes on from iteration `done` of `total`."""
        ...

    def note(self, text: str) -> None:
        """Shows one line."""
        ...

    def update(self, record: Mapping[str, Any]) -> None:
        """Shows a record of the metrics log."""
        ...

    def close(self) -> None:
        """Training has ended."""
        ...


class SilentProgress:
    """Shows nothing."""

    def start(self, *, done: int, total: int) -> None:
        """Shows nothing."""

    def note(self, text: str) -> None:
        """Shows nothing."""

    def update(self, record: Mapping[str, Any]) -> None:
        """Shows nothing."""

    def close(self) -> None:
        """Shows nothing."""


class PlainProgress:
    """Lines of text, the first at once and then at most one every ten seconds."""

    def __init__(self, stream: TextIO | None = None, *, every_s: float = _PLAIN_EVERY_S) -> None:
        self._stream = stream or sys.stderr
        self._every_s = every_s
        self._last_s = -float("inf")
        self._clock = _Clock()

    def start(self, *, done: int, total: int) -> None:
        """Starts the clock of the time left."""
        self._clock.start(done, total)

    def note(self, text: str) -> None:
        """Writes one line."""
        print(text, file=self._stream, flush=True)

    def update(self, record: Mapping[str, Any]) -> None:
        """Writes one line, unless the last one is recent."""
        is_last = record["iteration"] >= self._clock.total
        now_s = time.monotonic()
        if is_last or now_s - self._last_s >= self._every_s:
            self._last_s = now_s
            done, total = record["iteration"], self._clock.total
            left = format_duration(self._clock.left_s(done))
            self.note(f"{done}/{total}  {describe(record)}  {left} left")

    def close(self) -> None:
        """Has nothing to close."""


class RichProgress:
    """A live progress bar on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        columns = (
            MofNCompleteColumn(),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}"),
            TextColumn("{task.fields[left]} left"),
        )
        self._bar = Bar(*columns, console=Console(stderr=True), auto_refresh=True)
        self._clock = _Clock()
        self._task: Any = None

    def start(self, *, done: int, total: int) -> None:
        """Draws the bar."""
        self._clock.start(done, total)
        self._bar.start()
        self._task = self._bar.add_task("", total=total, completed=done, text="", left="?")

    def note(self, text: str) -> None:
        """Prints one line above the bar."""
        self._bar.console.print(text, markup=False, highlight=False)

    def update(self, record: Mapping[str, Any]) -> None:
        """Moves the bar."""
        done = record["iteration"]
        left = format_duration(self._clock.left_s(done))
        self._bar.update(self._task, completed=done, text=describe(record), left=left)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        self._bar.stop()


class _Clock:
    def __init__(self) -> None:
        self.total = 0
        self._done = 0
        self._start_s = time.monotonic()

    def start(self, done: int, total: int) -> None:
        self.total, self._done, self._start_s = total, done, time.monotonic()

    def left_s(self, done: int) -> float:
        if done <= self._done:
            return float("nan")
        return (time.monotonic() - self._start_s) / (done - self._done) * (self.total - done)


def make_progress(stream: TextIO | None = None) -> Progress:
    """Returns a live bar on a terminal and plain lines anywhere else."""
    return RichProgress() if (stream or sys.stderr).isatty() else PlainProgress(stream)


def describe(record: Mapping[str, Any]) -> str:
    """Returns steps, speed and the telling metrics of a record as one short text.

    Values are means over the seeds; non-finite updates are named only where there are any.
    """
    parts = [
        f"{_short(record['env_steps'])} steps",
        f"{_short(record['steps_per_s'])} steps/s",
    ]
    for name, label in headline(record).items():
        values = [value for value in record[name] if value is not None]
        if values:
            parts.append(f"{label} {statistics.fmean(values):.3g}")
    skipped = record.get("nonfinite_total", 0)
    if skipped:
        parts.append(f"{skipped:.0f} non-finite left out")
    return "  ".join(parts)


def headline(names: Iterable[str]) -> dict[str, str]:
    """Returns the few metrics that tell how training goes: name to short label, in order."""
    found: dict[str, str] = {}
    for name in names:
        found.setdefault(name.rpartition("/")[2], name)
    return {found[last]: label for last, label in _SHOWN.items() if last in found}


def format_duration(seconds: float) -> str:
    """Returns seconds as `42 s`, `3 min` or `1 h 20 min`; `?` where unknown."""
    if not seconds < float("inf"):
        return "?"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _short(number: float) -> str:
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g} {suffix}"
    return f"{number:.3g}"


__all__ = [
    "PlainProgress",
    "Progress",
    "RichProgress",
    "SilentProgress",
    "describe",
    "format_duration",
    "headline",
    "make_progress",
]
