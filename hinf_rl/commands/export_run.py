"""`hinf-rl export` and `hinf-rl verify`: a policy leaves, and is looked at from outside."""

import sys
from pathlib import Path
from typing import Any

from hinf_rl.training import devices, run_directory


def export(
    run: Path, format: Any, *, seed_index: int, output: Path | None, unfinished: bool
) -> int:
    """Writes a run's policy to a file; returns the exit code."""
    run_directory.read_config(run)  # a wrong path is said before anything heavy is imported
    devices.select_device("cpu")
    from hinf_rl.export import export_run

    made = export_run(run, format, seed_index=seed_index, output=output, unfinished=unfinished)
    checked = made.metadata["checked"]
    worst = checked["max_abs_difference"]
    print(
        f"{made.metadata['task']}, {made.metadata['algorithm']}, seed {seed_index}, iteration "
        f"{made.metadata['iterations']}"
    )
    print(
        f"checked against {checked['against']} on {checked['observations']} recorded observations: "
        f"actions differ by at most {worst['action']:.2g}, outputs by {worst['output']:.2g}"
    )
    print(f"policy: {made.path}")
    return 0


def verify(path: Path, *, task: str | None, run: Path | None, episodes: int, motor: Any) -> int:
    """Runs an exported policy in plain MuJoCo; returns the exit code, 1 where it disagrees."""
    if run is not None:
        run_directory.read_config(run)
    devices.select_device("cpu")
    from hinf_rl.export import verify as verification

    found = verification.verify(
        path, task=task, run=run, episodes=episodes, motor=motor, tell=_to_stderr
    )
    for cell in found.cells:
        print(cell.describe())
    if found.action_difference is not None:
        print(f"actions differ from the trained policy's by at most {found.action_difference:.2g}")
    for line in found.disagreements:
        print(f"disagree: {line}")
    if found.disagreements:
        return 1
    is_compared = any(cell.trained is not None for cell in found.cells)
    print("agree" if is_compared else "nothing to compare with; give --run, or evaluate and export")
    return 0


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


__all__ = ["export", "verify"]
