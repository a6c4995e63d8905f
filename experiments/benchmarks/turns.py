"""Sides of a comparison in processes of their own, which compute only when it is their turn.

Two trainers that need different libraries cannot share a process, and what a side costs before its
first result can only be seen in a fresh one. A side is sent a word on a line and answers with one
line of JSON. Both ends are here; this file imports nothing that takes time.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_COMPILATION = "/jax/core/compile/backend_compile_duration"
_SHOWN_LINES = 3


class Unmeasured(Exception):
    """A side that gave no answer; the text says why."""


class Side:
    """The parent's end of a process that takes turns.

    Args:
      command: what to run, without the interpreter's environment.
      limit_s: seconds that an answer may take; the process is killed after that.
      environment: variables beside this process's own.

    Attributes:
      started_s: when the process was started, by `time.perf_counter`.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        limit_s: float,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._limit_s = limit_s
        self._errors = tempfile.TemporaryFile(mode="w+", errors="replace")  # noqa: SIM115 (close() does)
        self.started_s = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            bufsize=1,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        )

    def read(self) -> str:
        """Waits for the next line.

        Raises:
          Unmeasured: none came in time, or the process ended.
        """
        expired = threading.Event()

        def stop() -> None:
            expired.set()
            self._process.kill()

        timer = threading.Timer(self._limit_s, stop)
        timer.start()
        try:
            assert self._process.stdout is not None
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if expired.is_set():
            raise Unmeasured(f"no answer within {self._limit_s:.0f} s")
        if not line:
            raise Unmeasured(f"the process ended: {self._last_words()}")
        return line.rstrip("\n")

    def ask(self, word: str) -> str:
        """Sends a word and waits for the line that answers it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{word}\n")
        except BrokenPipeError:
            raise Unmeasured(f"the process ended: {self._last_words()}") from None
        return self.read()

    def read_json(self) -> dict[str, Any]:
        """Waits for the next line, which is JSON."""
        return json.loads(self.read())

    def ask_json(self, word: str) -> dict[str, Any]:
        """Sends a word and waits for an answer in JSON."""
        return json.loads(self.ask(word))

    def close(self) -> None:
        """Lets the process end, or ends it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def _last_words(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().splitlines() if line.strip()]
        return " / ".join(lines[-_SHOWN_LINES:]) or f"exit code {self._process.returncode}"


@contextlib.contextmanager
def side(
    command: Sequence[str], *, limit_s: float, environment: Mapping[str, str] | None = None
) -> Iterator[Side]:
    """A `Side` that is closed at the end of the block."""
    opened = Side(command, limit_s=limit_s, environment=environment)
    try:
        yield opened
    finally:
        opened.close()


class Turns:
    """The process's own end: answers go where standard output went, everything else to errors."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)

    def answer(self, **values: Any) -> None:
        """Sends one line of JSON."""
        self._answers.write(json.dumps(values) + "\n")

    def wait(self) -> str:
        """The next word; the process ends where there is none."""
        line = sys.stdin.readline()
        if not line:
            sys.exit(0)
        return line.strip()

    def serve(self, commands: Mapping[str, Callable[[], dict[str, Any]]]) -> None:
        """Answers words by what `commands` return, until there are none."""
        while True:
            word = self.wait()
            self.answer(**commands[word]())


class Compilations:
    """Counts what this process has XLA compile from now on, until it ends.

    Attributes:
      names, seconds: of each program, in order.
    """

    def __init__(self) -> None:
        import jax

        self.names: list[str] = []
        self.seconds: list[float] = []
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, duration_secs: float, **details: Any) -> None:
        if event == _COMPILATION:
            self.names.append(str(details.get("fun_name", "unnamed")))
            self.seconds.append(duration_secs)

    def summary(self, least_s: float = 0.5) -> dict[str, Any]:
        """Counts and seconds, and the programs that took longer than `least_s`."""
        pairs = list(zip(self.names, self.seconds, strict=True))
        return {
            "programs": len(pairs),
            "seconds": sum(self.seconds),
            "long": [[name, seconds] for name, seconds in pairs if seconds >= least_s],
        }
