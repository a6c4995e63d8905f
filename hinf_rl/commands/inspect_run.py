"""`hinf-rl evaluate` and `hinf-rl render`: what a finished run can do."""

import shlex
import sys
from pathlib import Path

from hinf_rl.errors import UserError
from hinf_rl.training import devices, run_directory
from hinf_rl.workload import Workload


def evaluate(
    run: Path,
    *,
    quick: bool,
    baseline: Path | None,
    device: str | None,
    physics: str | None = None,
) -> int:
    """Measures the run as its task asks and writes the report; returns the exit code."""
    workload = _workload(run)
    options = {"quick": quick, "baseline": baseline}
    if physics is not None:
        config = run_directory.read_config(run)
        if not hasattr(config.env, "physics"):
            raise UserError(
                f"--physics {physics}: task {config.task!r} has no engine to choose; leave the "
                "option out"
            )
        options["physics"] = physics
    devices.select_device(device)
    print(f"report: {workload.evaluate(run, **options)}")
    name = shlex.quote(str(run))
    if quick:
        _suggest(f"hinf-rl evaluate {name}  (all conditions, stronger attackers)")
    # What acts in a simulation can leave for a robot.
    leave = "" if workload.render is None else f", or hinf-rl export {name}"
    _suggest(f"hinf-rl compare {name} OTHER_RUN{leave}")
    return 0


def render(run: Path, *, beside: Path | None, device: str | None) -> int:
    """Draws the policy, and another one beside it; returns the exit code."""
    workload = _workload(run)
    if beside is not None:
        run_directory.read_config(beside)
    if workload.render is None:
        raise UserError(f"{run} has no films; `hinf-rl evaluate {run}` draws all its pictures")
    devices.select_device(device)
    workload.render(run, beside=beside)
    print(f"pictures: {run / 'report'}")
    if beside is None:
        _suggest(f"hinf-rl render {shlex.quote(str(run))} --beside OTHER_RUN")
    return 0


def _suggest(command: str) -> None:
    print(f"next: {command}", file=sys.stderr)


def _workload(run: Path) -> Workload:
    """Reads what the run is of: a wrong path is said before anything heavy is imported."""
    from hinf_rl.tasks import get_task

    return get_task(run_directory.read_config(run).task).workload


__all__ = ["evaluate", "render"]
