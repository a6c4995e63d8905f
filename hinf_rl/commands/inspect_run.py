"""`hinf-rl evaluate` and `hinf-rl render`: what a finished run can do."""

from pathlib import Path

from hinf_rl.errors import UserError
from hinf_rl.training import devices, run_directory
from hinf_rl.workload import Workload


def evaluate(run: Path, *, quick: bool, baseline: Path | None, device: str | None) -> int:
    """Measures the run as its task asks and writes the report; returns the exit code."""
    workload = _workload(run)
    devices.select_device(device)
    print(f"report: {workload.evaluate(run, quick=quick, baseline=baseline)}")
    return 0


def render(run: Path, *, device: str | None) -> int:
    """Draws the policy; returns the exit code."""
    workload = _workload(run)
    if workload.render is None:
        raise UserError(f"{run} has no films; `hinf-rl evaluate {run}` draws all its pictures")
    devices.select_device(device)
    workload.render(run)
    print(f"pictures: {run / 'report'}")
    return 0


def _workload(run: Path) -> Workload:
    """Reads what the run is of: a wrong path is said before anything heavy is imported."""
    from hinf_rl.tasks import get_task

    return get_task(run_directory.read_config(run).task).workload


__all__ = ["evaluate", "render"]
