"""Runs one untrusted program: `worker.py`, a script in a process of its own, job on stdin.

The worker makes a child, which confines itself, compiles and runs the program; the worker watches
it, ends it with all that it may have left behind, and writes one JSON result. Nothing that the
program can reach is trusted: a verdict rests on the bytes that it wrote and on how the kernel says
it ended. What the right answers are, neither the child nor the worker ever learns.
"""

import contextlib
import fcntl
import json
import os
import selectors
import signal
import sys
import time
from typing import Any

# Run with -P, which leaves the script's folder out of the path: programs shall not import it.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import child
import confinement

del sys.path[0]

_POLL_S, _LAST_POLL_S = 0.02, 0.001
_CHUNK = 65536
_STDERR_BYTES = 8192  # of its end
_REPORT_BYTES = 65536
_CLEANUP_S = 2.0


class _Watch:
    """One child: what it wrote, and why it was stopped."""

    def __init__(self, pid: int, readers: dict[str, int], limits: dict[str, Any]) -> None:
        self.pid = pid
        self.limits = limits
        self.received = {name: bytearray() for name in readers}
        self.stopped = ""
        self.start_s = time.monotonic()
        self._selector = selectors.DefaultSelector()
        for name, handle in readers.items():
            os.set_blocking(handle, False)
            self._selector.register(handle, selectors.EVENT_READ, name)

    def until_end(self) -> tuple[int, Any]:
        """Waits for the child, or stops it; returns its wait status and resource usage."""
        while True:
            # Its pipes close when it dies, which wakes the selector at once.
            has_pipes = bool(self._selector.get_map())
            for key, _ in self._selector.select(_POLL_S if has_pipes else _LAST_POLL_S):
                self._receive(key.fd, key.data)
            done, status, usage = os.wait4(self.pid, os.WNOHANG)
            if done != 0:
                return status, usage
            self.stopped = self._excess()
            if self.stopped:
                os.kill(self.pid, signal.SIGKILL)
                return os.wait4(self.pid, 0)[1:]

    def drain(self) -> None:
        """Takes what the pipes still hold, now that nobody writes to them."""
        for key in list(self._selector.get_map().values()):
            while self._receive(key.fd, key.data):
                pass
        self.stopped = self.stopped or self._excess_output()

    def _receive(self, handle: int, name: str) -> bool:
        """Takes what a pipe holds; returns whether there may be more."""
        try:
            part = os.read(handle, _CHUNK)
        except BlockingIOError:
            return False
        if not part:
            self._selector.unregister(handle)
            return False
        buffer = self.received[name]
        buffer += part
        if name == "stderr":
            del buffer[:-_STDERR_BYTES]
        bound = _REPORT_BYTES if name == "report" else self.limits["output_bytes"]
        return len(buffer) <= bound

    def _excess(self) -> str:
        """The limit that the child has passed, if any."""
        if excess := self._excess_output():
            return excess
        if time.monotonic() - self.start_s > self.limits["wall_s"]:
            return "wall_limit"
        with contextlib.suppress(OSError):
            # The clock of another process's CPU time, as clock_getcpuclockid(3) makes it.
            if time.clock_gettime((~self.pid << 3) | 2) > self.limits["cpu_s"]:
                return "cpu_limit"
        return ""

    def _excess_output(self) -> str:
        bound = self.limits["output_bytes"]
        is_over = any(len(self.received[name]) > bound for name in ("stdout", "value"))
        return "output_limit" if is_over else ""


def main() -> None:
    """Reads the job, runs it, writes the result."""
    # A worker whose caller is gone has nobody to tell.
    confinement.set_death_signal()
    confinement.become_subreaper()
    job = json.loads(_read_all(0))
    job["number"] = os.getpid()
    measures = _isolate(frozenset(job["without"]))
    readers, writers = {}, {}
    for name in ("stdout", "stderr", "value", "report"):
        readers[name], writers[name] = os.pipe()
    stdin = os.memfd_create("stdin")
    _write_all(stdin, job["stdin"].encode("utf-8", "surrogatepass"))
    os.lseek(stdin, 0, os.SEEK_SET)
    pid = os.fork()
    if pid == 0:
        _arrange([stdin, *(writers[name] for name in ("stdout", "stderr", "value", "report"))])
        sys.exit(child.run(job, measures))
    for handle in (*writers.values(), stdin):
        os.close(handle)
    watch = _Watch(pid, readers, job["limits"])
    status, usage = watch.until_end()
    wall_s = time.monotonic() - watch.start_s
    if measures["process_namespace"]:
        _end_survivors()
    watch.drain()
    result = _result(watch, status)
    result |= {
        "wall_s": wall_s,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "max_rss_bytes": usage.ru_maxrss * 1024,
    }
    _write_all(1, json.dumps(result).encode())


def _isolate(without: frozenset[str]) -> dict[str, str]:
    """Leaves the namespaces that a child inherits; says of each what prevented it."""
    measures = {}
    if os.geteuid() != 0:
        measures["user_namespace"] = _attempt(
            "user_namespace", without, confinement.enter_user_namespace
        )
    for name, flags in confinement.NAMESPACES.items():
        measures[name] = _attempt(name, without, lambda flags=flags: confinement.unshare(flags))
    return measures


def _attempt(name: str, without: frozenset[str], action: Any) -> str:
    return "switched off" if name in without else confinement.attempt(action)


def _arrange(handles: list[int]) -> None:
    """Makes `handles` the descriptors 0, 1, ... of this process, and closes all others."""
    # Above all targets first: one of them may be the number of another.
    high = [fcntl.fcntl(handle, fcntl.F_DUPFD, 64) for handle in handles]
    for target, handle in enumerate(high):
        os.dup2(handle, target)
    os.closerange(len(handles), 256)


def _result(watch: _Watch, status: int) -> dict[str, Any]:
    """What happened, from the report before the program and the kernel's word after it."""
    text = {name: bytes(part).decode("utf-8", "replace") for name, part in watch.received.items()}
    report: dict[str, Any] = {}
    for line in text["report"].splitlines():
        report |= json.loads(line)
    code = os.waitstatus_to_exitcode(status)
    last = (text["stderr"].strip().splitlines() or [""])[-1]
    if "compile_error" in report:
        ending, reason = "compile_error", report["compile_error"]
    elif "measures" not in report:
        ending, reason = "lost", f"the child could not be confined: {last or code}"
    elif "started" not in report:
        ending, reason = "compile_error", f"the compiler ended: {watch.stopped or code}"
    elif watch.stopped:
        ending, reason = watch.stopped, watch.stopped.replace("_", " ")
    elif code < 0:
        ending, reason = "killed", f"signal {-code}: {signal.strsignal(-code)}"
    elif code > 0:
        ending, reason = "error", last or f"exit code {code}"
    else:
        ending, reason = "finished", ""
    return {
        "ending": ending,
        "reason": reason,
        "stdout": text["stdout"][: watch.limits["output_bytes"]],
        "stderr": text["stderr"],
        "value": text["value"][: watch.limits["output_bytes"]],
        "measures": report.get("measures", {}),
    }


def _end_survivors() -> None:
    """Kills what the child left behind, where no namespace of processes ends it.

    As subreaper the worker is the parent of every orphan among its descendants.
    """
    deadline_s = time.monotonic() + _CLEANUP_S
    while time.monotonic() < deadline_s:
        for pid in _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return
        time.sleep(_LAST_POLL_S)


def _children() -> list[int]:
    """Numbers of the processes whose parent this one is."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            if int(fields[1]) == os.getpid():
                found.append(int(name))
    return found


def _read_all(handle: int) -> bytes:
    parts = []
    while part := os.read(handle, _CHUNK):
        parts.append(part)
    return b"".join(parts)


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


if __name__ == "__main__":
    main()
