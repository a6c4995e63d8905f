"""Trains one group of a sweep: `python -m hinf_rl.commands.sweep_worker SWEEP INDEX [DEVICE]`."""

import sys
from pathlib import Path


def main(path: Path, index: int, device: str | None) -> int:
    """Trains group `index` of the sweep in `path`; returns the exit code.

    Args:
      path: directory with the `sweep.json` that `hinf-rl sweep` wrote.
      index: number of the group.
      device: where to compute.
    """
    from hinf_rl.commands.sweep import group_folder, group_points, train_group
    from hinf_rl.training import devices, files, progress

    asked = files.read_json(path / "sweep.json")
    groups = group_points(asked["task"], asked["algorithm"], asked["points"], asked["fixed"])
    devices.select_device(device)
    show = progress.PlainProgress()
    signal = train_group(groups[index], group_folder(path, index), asked["seeds"], show)
    return 0 if signal is None else 128 + signal


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), (*sys.argv[3:], None)[0]))
