"""Runs untrusted Python programs, each in a process that can reach next to nothing."""

import concurrent.futures
import contextlib
import dataclasses
import enum
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hinf_rl.errors import UserError

_WORKER = Path(__file__).with_name("worker.py")
_ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "PATH": "/usr/bin:/bin",
    # Sets of strings are walked in the same order by every run, so that verdicts repeat.
    "PYTHONHASHSEED": "0",
}
_GRACE_S = 10.0
"""What a worker may take beyond the wall-clock limit before it is ended itself."""
MEASURES = (
    "seccomp",
    "landlock",
    "own_tree",
    "own_user",
    "user_namespace",
    "network_namespace",
    "process_namespace",
    "ipc_namespace",
)
"""Measures that a machine may grant or not; limits and clean environment are always there."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What one run of a program may use."""

    cpu_s: float = 4.0  # of all threads, looked at every 20 ms
    wall_s: float = 10.0
    memory_bytes: int = 512 * 2**20  # address space, about 30 MB of which Python itself takes
    output_bytes: int = 2**20
    file_bytes: int = 2**20  # of each file
    disk_bytes: int = 8 * 2**20  # of all files, where `own_tree` is active
    open_files: int = 64
    threads: int = 16  # where `own_user` or `user_namespace` is active

    def __post_init__(self) -> None:
        """Checks that a Python program can start at all under the limits."""
        least = {"memory_bytes": 64 * 2**20, "open_files": 16}
        for name, value in dataclasses.asdict(self).items():
            bound = least.get(name, 0)
            if not (value >= bound and value > 0):
                raise UserError(f"{name} must be {f'>= {bound}' if bound else '> 0'}, got {value}")


class Call(NamedTuple):
    """A function to call once the program has run.

    Attributes:
      function: its name in the module, or that of a method of a class `Solution`.
      arguments: JSON values.
    """

    function: str
    arguments: Sequence[Any]


class Job(NamedTuple):
    """One program on one input."""

    program: str
    stdin: str = ""
    call: Call | None = None


class Ending(enum.Enum):
    """How a run ended."""

    FINISHED = "finished"
    ERROR = "error"  # an exception, or an exit code other than 0
    KILLED = "killed"  # by a signal
    COMPILE_ERROR = "compile_error"
    CPU_LIMIT = "cpu_limit"
    WALL_LIMIT = "wall_limit"
    OUTPUT_LIMIT = "output_limit"
    LOST = "lost"  # the worker itself failed or was ended


class Execution(NamedTuple):
    """What a run left behind; all text comes from the program and proves nothing by itself."""

    ending: Ending
    reason: str  # one line; empty if finished
    stdout: str  # cut to `Limits.output_bytes`
    stderr: str  # its end
    value: str  # JSON of what the called function returned, or empty
    wall_s: float
    cpu_s: float
    max_rss_bytes: int


@dataclasses.dataclass(frozen=True)
class Capabilities:
    """What holds a program on this machine.

    Attributes:
      missing: of each measure that is not active, why.
      active: measures that are.
    """

    active: frozenset[str]
    missing: dict[str, str]

    @property
    def blocks_network(self) -> bool:
        """No socket can be made, or none leads anywhere."""
        return bool(self.active & {"seccomp", "network_namespace"})

    @property
    def blocks_processes(self) -> bool:
        """A program stays one process, and signals none but itself."""
        return "seccomp" in self.active

    @property
    def hides_files(self) -> bool:
        """Files outside the libraries and the working directory cannot be opened."""
        return bool(self.active & {"landlock", "own_tree"})

    @property
    def bounds_disk(self) -> bool:
        """All files together are bounded, not only each."""
        return "own_tree" in self.active

    @property
    def bounds_threads(self) -> bool:
        """Threads are counted; otherwise only memory bounds them."""
        return bool(self.active & {"own_user", "user_namespace"})

    def __str__(self) -> str:
        """One line per measure."""
        lines = [f"{name}: active" for name in sorted(self.active)]
        return "\n".join(lines + [f"{name}: {why}" for name, why in sorted(self.missing.items())])


@dataclasses.dataclass(frozen=True)
class Sandbox:
    """Runs Python programs that nobody has read.

    Promised on Linux with x86-64 or AArch64, where `capabilities()` names the measures: a run ends
    within its limits, and with it all that it started; it opens no connection, starts no program
    and no process, signals no other process, reads no file but the standard library and the
    system's libraries, sees none of the caller's environment, and leaves nothing on the disk. Its
    output is cut; whatever it does, the caller gets an `Execution`.

    Not promised: the kernel, the C library and the interpreter are shared with the machine, and an
    exploit of the kernel breaks out. Time is measured, not hidden: programs can slow each other
    down through shared caches and cores. Without `own_tree` only the size of each file is bounded,
    not their number, and metadata of files outside (names, sizes) may be seen. Programs have the
    standard library only. Who runs code of hostile origin, and not only of a model in training,
    should put a virtual machine around it.

    Attributes:
      limits: of each run.
      required: measures without which nothing is run. The filter of system calls alone denies
        processes, sockets and signals, for root as for anybody.
      without: measures to leave out, for a machine on which one does harm.
    """

    limits: Limits = dataclasses.field(default_factory=Limits)
    required: frozenset[str] = frozenset({"seccomp"})
    without: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Checks the names of measures."""
        for field in ("required", "without"):
            unknown = getattr(self, field) - set(MEASURES)
            if unknown:
                raise UserError(
                    f"{field} names unknown measures {sorted(unknown)} (known: {sorted(MEASURES)})"
                )

    def capabilities(self) -> Capabilities:
        """Tells which measures are active on this machine, by a run of an empty program."""
        return _probe(self.without)

    def run(self, job: Job) -> Execution:
        """Runs one program on one input.

        Raises:
          UserError: a required measure is not active on this machine.
        """
        self._check_required()
        return _execution(self._run_worker(job, self.limits))

    def run_many(self, jobs: Iterable[Job], num_workers: int | None = None) -> list[Execution]:
        """Runs jobs side by side; results keep their order.

        Args:
          jobs: programs and inputs.
          num_workers: most runs at a time; None is one for each usable core.

        Raises:
          UserError: no worker, or a required measure is not active on this machine.
        """
        if num_workers is None:
            num_workers = len(os.sched_getaffinity(0))
        if num_workers < 1:
            raise UserError(f"num_workers must be at least 1, got {num_workers}")
        self._check_required()
        with concurrent.futures.ThreadPoolExecutor(num_workers) as pool:
            try:
                return list(pool.map(self.run, jobs))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _check_required(self) -> None:
        capabilities = self.capabilities()
        for name in sorted(self.required - capabilities.active):
            why = capabilities.missing.get(name, "not available")
            raise UserError(
                f"the sandbox requires {name}, which is not active here ({why}); run elsewhere, or "
                "trust the programs and take it out of Sandbox.required"
            )

    def _run_worker(self, job: Job, limits: Limits) -> dict[str, Any]:
        """Runs a worker for one job and returns its answer, of whatever kind."""
        directory = tempfile.mkdtemp(prefix="hinf-rl-sandbox-")
        try:
            request = {
                "program": job.program,
                "stdin": job.stdin,
                "call": None if job.call is None else job.call._asdict(),
                "limits": dataclasses.asdict(limits),
                "without": sorted(self.without),
                "work_directory": directory,
            }
            return _ask(json.dumps(request).encode(), directory, limits.wall_s + _GRACE_S)
        finally:
            _remove(directory)


def _ask(request: bytes, directory: str, timeout_s: float) -> dict[str, Any]:
    """Gives the request to a new worker and reads its answer."""
    # A session of its own: Ctrl-C reaches the caller only, which then ends the worker's group.
    worker = subprocess.Popen(
        [sys.executable, "-s", "-S", "-P", "-B", str(_WORKER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_ENVIRONMENT,
        cwd=directory,
        start_new_session=True,
    )
    try:
        answer, errors = worker.communicate(request, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return {"ending": "lost", "reason": f"the worker did not end within {timeout_s:g} s"}
    finally:
        if worker.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
            worker.communicate()
    try:
        return json.loads(answer)
    except ValueError:
        last = (errors.decode("utf-8", "replace").strip().splitlines() or ["no message"])[-1]
        return {"ending": "lost", "reason": f"the worker ended by itself: {last}"}


def _execution(answer: dict[str, Any]) -> Execution:
    text = {name: answer.get(name, "") for name in ("reason", "stdout", "stderr", "value")}
    numbers = {name: answer.get(name, 0) for name in ("wall_s", "cpu_s", "max_rss_bytes")}
    return Execution(Ending(answer["ending"]), **text, **numbers)


def _remove(directory: str) -> None:
    """Deletes what a program left in its directory, however deep, whatever its permissions."""
    try:
        shutil.rmtree(directory)
    except (OSError, RecursionError):
        for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
            subprocess.run([*command, "--", directory], capture_output=True, check=False)


@functools.cache
def _probe(without: frozenset[str]) -> Capabilities:
    if not sys.platform.startswith("linux"):
        raise UserError(f"the sandbox needs Linux, this is {sys.platform}")
    sandbox = Sandbox(without=without)
    answer = sandbox._run_worker(Job(""), sandbox.limits)
    if answer["ending"] != Ending.FINISHED.value:
        raise UserError(f"the sandbox does not work on this machine: {answer['reason']}")
    measures = answer["measures"]
    active = frozenset(name for name, why in measures.items() if not why)
    return Capabilities(active, {name: why for name, why in measures.items() if why})


__all__ = ["MEASURES", "Call", "Capabilities", "Ending", "Execution", "Job", "Limits", "Sandbox"]
