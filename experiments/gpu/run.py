"""One script for a machine with an accelerator: parity, speed, training, within a time budget.

python -m experiments.gpu.run --minutes 25
python -m experiments.gpu.run --wheels                  # what to install there
python -m experiments.gpu.run --device cpu --smoke      # every stage, tiny, anywhere

Each stage is a process of its own with a time limit, and the results are written after each: one
that dies or runs out of memory costs itself alone. What no longer fits is skipped, and the results
say so. Given again with the same file, stages that it holds complete are not run again.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarks.mjx import SCHEDULER_OFF
from experiments.gpu import wheels
from experiments.gpu.plan import (
    TRAINING_STEPS,
    Stage,
    fastest,
    full_plan,
    measured_aims,
    smoke_plan,
)
from hinf_rl.errors import UserError
from hinf_rl.training.files import read_json, write_json

RESULTS = Path(__file__).parent / "results" / "gpu.json"
SAVING_S = 45.0
"""From the polite signal to the other: a training writes its checkpoint then."""

Tell = Callable[[str], None]


class Session:
    """The stages of one call, and the file that holds what they gave.

    Args:
      output: the results.
      budget_s: seconds from now.
      found: of `wheels.probe`.
      environment: added to that of each process.
      runs: where the training keeps its run directory.
      tell: receives progress in words.
    """

    def __init__(
        self,
        output: Path,
        budget_s: float,
        found: dict[str, Any],
        *,
        environment: dict[str, str],
        runs: Path,
        tell: Tell,
    ) -> None:
        self._end = time.monotonic() + budget_s
        self._output, self._found, self._runs, self._tell = output, found, runs, tell
        self._environment = environment
        self.data = read_json(output) if output.exists() else {"device": found, "stages": {}}
        if self.data["device"] != found:
            raise UserError(
                f"{output} holds results of another device ({self.data['device']['kind']}, here "
                f"{found['kind']}); give another --output"
            )

    def run(self, stages: Sequence[Stage]) -> None:
        """Runs what is not yet complete, as far as the budget goes."""
        for index, stage in enumerate(stages):
            if self._status(stage.name) == "ok":
                self._tell(f"{stage.name}: kept")
                continue
            reason = self._reason_to_skip(stage)
            if reason:
                self._tell(f"{stage.name}: skipped, {reason}")
                self._keep(stage, {"status": "skipped", "reason": reason})
                continue
            reserve = sum(later.estimate_s for later in stages[index:] if later.needs == stage.name)
            limit_s = min(stage.limit_s, max(self._left_s() - SAVING_S - reserve, 1.0))
            self._tell(f"{stage.name}: at most {limit_s:.0f} s, {self._left_s():.0f} s are left")
            self._keep(stage, self._measure(stage, limit_s))

    def _measure(self, stage: Stage, limit_s: float) -> dict[str, Any]:
        settings = {**stage.settings}
        if stage.kind == "train":
            run = self._folder(stage.name)
            settings |= {"impl": fastest(self.data["stages"]), "run": str(run)}
            shutil.rmtree(run, ignore_errors=True)
        if stage.kind == "evaluate":
            settings["run"] = str(self._folder(stage.needs or ""))
        platform = {} if stage.platform is None else {"JAX_PLATFORMS": stage.platform}
        with tempfile.TemporaryDirectory() as folder:
            part = Path(folder) / "part.json"
            command = [sys.executable, "-m", "experiments.gpu.stages", stage.kind]
            command += ["--settings", json.dumps(settings), "--output", str(part)]
            begin = time.monotonic()
            status, error = run_limited(
                command, limit_s, {**os.environ, **self._environment, **platform}
            )
            held = read_json(part) if part.exists() else {}
        return {
            "status": status,
            "seconds": time.monotonic() - begin,
            "limit_s": limit_s,
            **({"error": error} if error else {}),
            "settings": {key: value for key, value in settings.items() if key != "run"},
            **held,
        }

    def _folder(self, trained: str) -> Path:
        """Run directory of a training stage."""
        return self._runs / trained.removeprefix("train ").replace(" ", "/")

    def _keep(self, stage: Stage, entry: dict[str, Any]) -> None:
        self.data["stages"][stage.name] = {"kind": stage.kind, **entry}
        self.data["aims"] = measured_aims(self.data["stages"])
        self._output.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._output, self.data)
        if entry["status"] != "skipped":
            words = f"{stage.name}: {entry['status']} after {entry['seconds']:.0f} s"
            self._tell(f"{words}, {entry['error']}" if "error" in entry else words)

    def _reason_to_skip(self, stage: Stage) -> str | None:
        if stage.settings.get("impl") == "warp" and not self._found["warp"]:
            return "warp-lang is not installed"
        if stage.needs and not self.data["stages"].get(stage.needs, {}).get("result"):
            return f"{stage.needs!r} left no result"
        expected = self._estimate(stage)
        if expected > self._left_s():
            return f"about {expected:.0f} s expected, {self._left_s():.0f} s are left"
        return None

    def _estimate(self, stage: Stage) -> float:
        """What the last complete stage of the same kind and implementation took, or the plan's."""
        for entry in reversed(self.data["stages"].values()):
            alike = entry.get("settings", {}).get("impl") == stage.settings.get("impl")
            if entry["status"] == "ok" and entry["kind"] == stage.kind and alike:
                return entry["seconds"]
        return stage.estimate_s

    def _status(self, name: str) -> str | None:
        return self.data["stages"].get(name, {}).get("status")

    def _left_s(self) -> float:
        return self._end - time.monotonic()


def run_limited(
    command: Sequence[str], limit_s: float, environment: dict[str, str], saving_s: float = SAVING_S
) -> tuple[str, str | None]:
    """Runs a command; past its time it is told to end, and then made to.

    Returns:
      ("ok", None), ("failed", last line that it wrote), or ("stopped", why).
    """
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True
        )
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return "stopped", f"at its limit of {limit_s:.0f} s{_end(process, saving_s)}"
        finally:
            _kill(process)
        log.seek(0)
        lines = [line.strip() for line in log if line.strip()]
    if code == 0:
        return "ok", None
    return "failed", _portable(lines[-1] if lines else f"exit code {code} without a word")


def _end(process: subprocess.Popen, saving_s: float) -> str:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(saving_s)
    except subprocess.TimeoutExpired:
        return ", killed"
    return ""


def _kill(process: subprocess.Popen) -> None:
    """Ends the process and what it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _portable(line: str) -> str:
    """A message without the machine's paths, of bounded length."""
    return line.replace(str(Path.cwd()), ".").replace(str(Path.home()), "~")[:300]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=25.0, help="budget of the whole call")
    parser.add_argument("--device", choices=("accelerator", "cpu"), default="accelerator")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, through every stage")
    parser.add_argument(
        "--steps", type=float, default=TRAINING_STEPS, help="of each training, all seeds together"
    )
    parser.add_argument("--stages", nargs="+", help="only stages whose names begin so")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--runs", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--wheels", action="store_true", help="print what to install, and end")
    options = parser.parse_args(argv)
    if options.wheels:
        print(wheels.described())
        return 0
    try:
        session(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def session(options: argparse.Namespace) -> None:
    """Checks the machine and runs the plan.

    Raises:
      UserError: no accelerator, or options that do not go together.
    """
    if options.minutes <= 0:
        raise UserError(f"--minutes must be positive, got {options.minutes}")
    on_cpu = options.device == "cpu"
    if on_cpu and not options.smoke:
        raise UserError("--device cpu goes with --smoke: the full sizes would take days there")
    if options.smoke and options.output == RESULTS:
        raise UserError("--smoke measures nothing worth keeping there; give another --output")
    begin = time.monotonic()
    environment = {}
    if on_cpu:
        flags = f"{os.environ.get('XLA_FLAGS', '')} {SCHEDULER_OFF}".strip()
        environment = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    found = wheels.probe(environment)
    if not on_cpu:
        wheels.check(found)
    stages = smoke_plan() if options.smoke else full_plan(round(options.steps))
    if options.stages:
        stages = [stage for stage in stages if stage.name.startswith(tuple(options.stages))]
    Session(
        options.output,
        60.0 * options.minutes - (time.monotonic() - begin),
        {**found, "smoke": options.smoke},
        environment=environment,
        runs=options.runs,
        tell=lambda text: print(text, file=sys.stderr, flush=True),
    ).run(stages)


if __name__ == "__main__":
    sys.exit(main())
