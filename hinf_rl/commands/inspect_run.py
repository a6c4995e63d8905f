"""`hinf-rl evaluate` and `hinf-rl render`: what a finished run can do."""

from pathlib import Path

from hinf_rl.training import devices, run_directory


def evaluate(run: Path, *, quick: bool, baseline: Path | None, device: str | None) -> int:
    """Runs the robustness protocol and writes the report; returns the exit code."""
    run_directory.read_config(run)  # a wrong path is said before anything heavy is imported
    devices.select_device(device)
    from hinf_rl.evaluation.report import evaluate_run

    evaluate_run(run, quick=quick, baseline=baseline)
    print(f"report: {run / 'report' / 'report.md'}")
    return 0


def render(run: Path, *, device: str | None) -> int:
    """Draws the policy; returns the exit code."""
    run_directory.read_config(run)
    devices.select_device(device)
    from hinf_rl.evaluation.report import render_run

    render_run(run)
    print(f"pictures: {run / 'report'}")
    return 0


__all__ = ["evaluate", "render"]
