"""The confined process: holds itself fast, then compiles and runs the program.

Its descriptors are 0 input, 1 output, 2 errors, 3 the returned value, 4 the report, which is
closed before the program runs. Imported by the worker script.
"""

import builtins
import json
import os
import sys
import traceback
import types
from typing import Any

import confinement
import seccomp

_VALUE, _REPORT = 3, 4
_FILE_NAME = "<program>"


def run(job: dict[str, Any], measures: dict[str, str]) -> int:
    """Runs the program of a job and returns the exit code; threads go on until they end.

    Args:
      job: as the worker received it.
      measures: those that were taken before, by name, with what prevented them.
    """
    _confine(job, measures)
    _report({"measures": measures})
    try:
        code = compile(job["program"], _FILE_NAME, "exec", dont_inherit=True)
    except BaseException as error:
        # NUL bytes and lone surrogates are ValueErrors, deep nesting is a MemoryError.
        _report({"compile_error": f"{type(error).__name__}: {error}"[:500]})
        return 1
    _report({"started": True})
    os.close(_REPORT)
    _renew_streams()
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    sys.argv = [_FILE_NAME]
    try:
        exec(code, module.__dict__)
        if job["call"] is not None:
            _return_value(module, job["call"])
    except SystemExit:
        raise
    except BaseException as error:
        # Without the frame of this function, which is none of the program's.
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
        traceback.print_exception(error)
        return 1
    return 0


def _confine(job: dict[str, Any], measures: dict[str, str]) -> None:
    """Takes every measure that is left, the filter of system calls last."""
    without, limits = frozenset(job["without"]), job["limits"]
    work_directory = job["work_directory"]

    def attempt(name: str, action: Any, *, is_possible: bool = True) -> bool:
        if name in without:
            measures[name] = "switched off"
        elif not is_possible:
            measures[name] = "another measure that it needs is not active"
        else:
            measures[name] = confinement.attempt(action)
        return not measures[name]

    confinement.set_death_signal()
    is_root = os.geteuid() == 0
    # Not in a tree of its own, another user might not reach the standard library.
    if attempt(
        "own_tree",
        lambda: confinement.enter_own_tree(work_directory, limits["disk_bytes"]),
        is_possible=is_root or not measures["user_namespace"],
    ):
        work_directory = "/tmp"
    if is_root:
        has_own_user = attempt(
            "own_user",
            lambda: confinement.change_user(job["number"], work_directory),
            is_possible=not measures["own_tree"],
        )
    else:
        has_own_user = not measures["user_namespace"]
    os.chdir(work_directory)
    confinement.drop_capabilities()
    # A change of user takes the wish to die with the parent back.
    confinement.set_death_signal()
    attempt("landlock", lambda: confinement.restrict_files(work_directory))
    confinement.set_no_new_privileges()
    os.environ.update(HOME=work_directory, TMPDIR=work_directory)
    confinement.set_limits(limits, has_own_user=has_own_user)
    attempt("seccomp", seccomp.install)


def _renew_streams() -> None:
    """Opens the standard streams as if Python had just been started on these descriptors."""
    for handle, name, errors in (
        (0, "stdin", "surrogateescape"),
        (1, "stdout", "surrogateescape"),
        (2, "stderr", "backslashreplace"),
    ):
        mode = "r" if handle == 0 else "w"
        stream = os.fdopen(handle, mode, encoding="utf-8", errors=errors, closefd=False)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _return_value(module: types.ModuleType, call: dict[str, Any]) -> None:
    """Calls the function, of the module or of a class `Solution`, and writes what it returns."""
    name = call["function"]
    solution: Any = getattr(module, "Solution", None)
    function = getattr(solution(), name) if hasattr(solution, name) else getattr(module, name)
    data = json.dumps(function(*call["arguments"])).encode()
    while data:
        data = data[os.write(_VALUE, data) :]


def _report(line: dict[str, Any]) -> None:
    os.write(_REPORT, json.dumps(line).encode() + b"\n")


__all__ = ["run"]
