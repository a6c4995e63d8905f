"""Tries every wrong input and writes down what is said, and what it does to the disk.

python -m experiments.bad_input.run
"""

import contextlib
import dataclasses
import hashlib
import io
import os
import shlex
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from experiments.bad_input import damage
from experiments.bad_input.cases import CASES, Case
from hinf_rl import cli
from hinf_rl.errors import UserError
from hinf_rl.training.files import write_json
from hinf_rl.training.provenance import provenance

RESULTS = Path(__file__).parent / "results" / "bad_input.json"
MAX_CHARACTERS = 400
_TIMEOUT_S = 600.0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a wrong input led to.

    Attributes:
      exit_code: of the command; 2 where the public interface raised `UserError`.
      message: the error and what follows it on stderr, the folder's own path left out.
      is_traceback: whether a traceback was shown.
      changed: files and folders that were made, changed or deleted.
    """

    exit_code: int
    message: str
    is_traceback: bool
    changed: list[str]

    def faults(self, case: Case) -> list[str]:
        """What is wrong with how the wrong input was met; empty where nothing is."""
        found = {
            "exit code is not 2": self.exit_code != 2,
            "no error message": not self.message.startswith("error: "),
            "more than two lines": self.message.count("\n") > 1,
            f"more than {MAX_CHARACTERS} characters": len(self.message) > MAX_CHARACTERS,
            f"does not say {case.says!r}": case.says not in self.message,
            "shows a traceback": self.is_traceback,
            f"changed {self.changed}": bool(self.changed),
        }
        return [fault for fault, is_so in found.items() if is_so]


def attempt(case: Case, folder: Path) -> Outcome:
    """Tries one wrong input in `folder`, an empty directory."""
    if case.prepare is not None:
        case.prepare(folder)
    before = snapshot(folder)
    try:
        code, out, err = _try(case, folder)
    finally:
        damage.free_locks()
    after = snapshot(folder)
    start = err.find("error: ")
    return Outcome(
        exit_code=code,
        message=(err if start < 0 else err[start:]).replace(f"{folder}/", "").strip(),
        is_traceback="Traceback" in out + err,
        changed=sorted(name for name in {**before, **after} if before.get(name) != after.get(name)),
    )


def snapshot(folder: Path) -> dict[str, str]:
    """A checksum for each file below `folder`, and "folder" for each folder."""
    return {
        str(path.relative_to(folder)): hashlib.blake2b(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
    }


def _try(case: Case, folder: Path) -> tuple[int, str, str]:
    if not case.in_process:
        done = subprocess.run(
            [sys.executable, "-m", "hinf_rl.cli", *shlex.split(case.text)],
            capture_output=True,
            text=True,
            cwd=folder,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            timeout=_TIMEOUT_S,
        )
        return done.returncode, done.stdout, done.stderr
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = _call(case) if case.call else cli.main(shlex.split(case.text))
    return code, out.getvalue(), err.getvalue()


def _call(case: Case) -> int:
    if case.call is None:
        raise TypeError(f"case {case.text!r} has nothing to call")
    try:
        case.call()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def main() -> int:
    """Tries everything, writes one JSON file, names what was met wrongly."""
    rows: list[dict[str, Any]] = []
    try:
        for case in CASES:
            with tempfile.TemporaryDirectory() as folder:
                outcome = attempt(case, Path(folder))
            faults = outcome.faults(case)
            rows.append(
                {
                    "area": case.area,
                    "input": case.name,
                    "interface": "python" if case.call else "command line",
                    **dataclasses.asdict(outcome),
                    "faults": faults,
                }
            )
            if faults:
                print(f"{case.name}: {faults}: {outcome.message}")
    finally:
        damage.forget_trained()
    wrong = sum(bool(row["faults"]) for row in rows)
    summary = {
        "inputs": len(rows),
        "met_as_they_should": len(rows) - wrong,
        "by_area": dict(Counter(row["area"] for row in rows)),
    }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    write_json(RESULTS, {"provenance": provenance(), "summary": summary, "rows": rows})
    print(f"{summary['met_as_they_should']} of {len(rows)} met as they should be")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
