"""`hinf-rl sweep`: a grid of settings, batched where they are mere numbers of the algorithm."""

import dataclasses
import itertools
import json
import math
import shlex
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hinf_rl.commands import sweep_processes
from hinf_rl.errors import UserError
from hinf_rl.training.progress import headline

_TAIL = 0.1
"""Share of the log, from its end, that the table averages over."""


@dataclasses.dataclass(frozen=True)
class Group:
    """Points that train as one batch: they differ in nothing but swept numbers.

    Attributes:
      points: the settings of each point, as text by dotted key.
      configs: the whole settings of each point.
    """

    points: list[dict[str, str]]
    configs: list[Any]


def sweep(
    task: str,
    algorithm: str | None,
    axes_text: Mapping[str, str],
    *,
    fixed: Mapping[str, str],
    seeds: int,
    output: Path | None,
    device: str | None,
    processes: int = 1,
) -> int:
    """Trains every combination and writes the table and its picture; returns the exit code.

    Points that differ in numbers only are one group and train as one batch. Several groups train
    in processes of their own.

    Args:
      task: name of the task.
      algorithm: name of the algorithm; None takes the task's default.
      axes_text: dotted key to values joined by commas.
      fixed: settings of every point.
      seeds: seeds of each point; the same ones at every point.
      output: directory; each group of points has a run directory in it.
      device: where to compute.
      processes: how many groups train at once.
    """
    from hinf_rl.training import devices, progress

    if not axes_text:
        raise UserError("a sweep needs --set KEY=A,B,C; for example --set agent.gamma=0.98,0.99")
    if seeds < 1:
        raise UserError(f"seeds must be at least 1, got {seeds}")
    if processes < 1:
        raise UserError(f"processes must be at least 1, got {processes}")
    points = grid({key: split_values(text) for key, text in axes_text.items()})
    groups = group_points(task, algorithm, points, fixed)
    algorithm = groups[0].configs[0].algorithm
    path = output or Path("runs") / f"sweep-{task}-{algorithm}".replace(":", "-")
    specification = {"task": task, "algorithm": algorithm, "seeds": seeds, "fixed": dict(fixed)}
    _open(path, {**specification, "points": points})
    devices.select_device(device)
    show = progress.make_progress()
    show.note(f"{len(points)} points x {seeds} seeds, groups: {len(groups)}, output {path}")
    done: dict[int, list[dict[str, Any]]] = {}

    def finished(index: int) -> None:
        done[index] = _rows(groups[index], group_folder(path, index), seeds)
        # In the order of the groups, whichever is first to finish.
        rows = [row for number in sorted(done) for row in done[number]]
        _write_table(path, specification, rows)

    if len(groups) == 1:
        stopped_by = train_group(groups[0], group_folder(path, 0), seeds, show)
        if stopped_by is None:
            finished(0)
    else:
        stopped_by = sweep_processes.train_in_processes(
            path,
            len(groups),
            at_once=processes,
            device=device,
            note=show.note,
            finished=finished,
        )
    if stopped_by is not None:
        show.note("stopped and saved; the same command goes on")
        return 128 + stopped_by
    show.note(f"table: {path / 'table.md'}")
    rows = [row for number in sorted(done) for row in done[number]]
    best = shlex.join(f"{key}={value}" for key, value in best_settings(rows).items())
    show.note(f"best: hinf-rl train {task} --algorithm {algorithm} --set {best}")
    return 0


def group_folder(path: Path, index: int) -> Path:
    """Returns the run directory of a group."""
    return path / f"group-{index:03d}"


def _write_table(path: Path, specification: Mapping[str, Any], rows: list[dict[str, Any]]) -> None:
    """Writes what is known so far, as JSON, Markdown and, from two points on, a picture."""
    from hinf_rl.evaluation.parallel import parallel_coordinates
    from hinf_rl.training import files

    files.write_json(path / "table.json", {**specification, "rows": rows})
    files.write_atomic(path / "table.md", render_table(rows))
    if len(rows) > 1:
        parallel_coordinates(rows, path / "parallel.png")


def split_values(text: str) -> list[str]:
    """Splits at the commas outside brackets: `(64,64),(128,)` has two values."""
    values, depth, start = [], 0, 0
    for i, character in enumerate(text):
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            values.append(text[start:i].strip())
            start = i + 1
    values.append(text[start:].strip())
    if depth or any(not value for value in values):
        raise UserError(f"cannot split {text!r} into values; write a,b,c or (1,2),(3,4)")
    return values


def grid(axes: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Returns every combination; the last axis runs fastest."""
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def group_points(
    task: str, algorithm: str | None, points: list[dict[str, str]], fixed: Mapping[str, str]
) -> list[Group]:
    """Puts points together that differ only in numbers which the algorithm takes as leaves."""
    from hinf_rl.tasks import configure, get_task

    swept = get_task(task).workload.batched
    groups: dict[tuple[tuple[str, str], ...], Group] = {}
    for point in points:
        rest = tuple((key, value) for key, value in point.items() if key not in swept)
        config = configure(task, algorithm, {**fixed, **point})
        group = groups.setdefault(rest, Group([], []))
        group.points.append(point)
        group.configs.append(config)
    return list(groups.values())


def render_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the headline metrics as Markdown, mean ± standard deviation over the seeds."""
    keys = list(rows[0]["settings"])
    names = headline(rows[0]["metrics"])
    lines = [_cells([*keys, *names]), _cells(["---"] * (len(keys) + len(names)))]
    for row in rows:
        metrics = [_spread(row["metrics"].get(name, [])) for name in names]
        lines.append(_cells([*(str(row["settings"][key]) for key in keys), *metrics]))
    return "\n".join(lines) + "\n"


def best_settings(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, str]:
    """Returns the settings of the row with the highest first headline metric, mean over seeds."""
    name = next(iter(headline(rows[0]["metrics"])), None)

    def score(row: Mapping[str, Any]) -> float:
        known = [value for value in row["metrics"].get(name, []) if value is not None]
        return statistics.fmean(known) if known else -math.inf

    return max(rows, key=score)["settings"]


def _cells(values: Sequence[str]) -> str:
    return "| " + " | ".join(values) + " |"


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "none"
    spread = f" ± {statistics.stdev(known):.2g}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.4g}{spread}"


def _open(path: Path, specification: Mapping[str, Any]) -> None:
    """Makes the directory, or checks that it holds the same sweep."""
    from hinf_rl.training import files

    stored = path / "sweep.json"
    if stored.exists():
        if files.read_json(stored) != specification:
            raise UserError(f"{path} holds another sweep; choose another --output")
        return
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} exists and is not empty; choose another --output")
    with files.disk_errors(f"make {path}"):
        path.mkdir(parents=True, exist_ok=True)
    files.write_json(stored, specification)


def train_group(group: Group, folder: Path, seeds: int, show: Any) -> int | None:
    """Trains the members of a group side by side; returns the signal that ended it early.

    Args:
      group: the points.
      folder: their run directory; training goes on where it was stopped or killed.
      seeds: seeds of each point.
      show: receives progress.
    """
    import jax
    import jax.numpy as jnp

    from hinf_rl.training import loop, run_directory

    members = len(group.configs) * seeds
    config = dataclasses.replace(group.configs[0], seeds=members)
    made = run_directory.make_algorithm(config)
    # Common random numbers: every point sees the same seeds, so differences are the setting's.
    data = jnp.atleast_1d(loop.seed_keys(config.seed, seeds))
    keys = jnp.tile(data, len(group.configs))
    numbers = [point for point in map(_hyperparameters, group.configs) for _ in range(seeds)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *numbers)
    run = run_directory.open_run(folder, config, resume=True)
    with run.lock():
        result = loop.train(
            made,
            run,
            iterations=math.ceil(config.total_steps / made.env_steps_per_iteration),
            keys=keys if members > 1 else keys[0],
            hyperparameters=stacked if members > 1 else numbers[0],
            log_every=config.log_every,
            checkpoint_every=config.checkpoint_every,
            keep_checkpoints=config.keep_checkpoints,
            resume=True,
            progress=show,
        )
    return result.signal


def _hyperparameters(config: Any) -> Any:
    """The numbers of the carry that `config` sets; None where its algorithm takes none."""
    from hinf_rl.tasks import get_task

    task = get_task(config.task)
    take = task.workload.hyperparameters
    return None if take is None else take(task, config.env, config.agent)


def _rows(group: Group, folder: Path, seeds: int) -> list[dict[str, Any]]:
    """Returns one row per point: its settings and the last tenth of the log per seed."""
    from hinf_rl.training.logging import read_metrics

    records = read_metrics(folder / "metrics.jsonl")
    tail = records[-max(1, round(_TAIL * len(records))) :]
    names = [name for name, value in tail[-1].items() if isinstance(value, list)]
    rows = []
    for index, point in enumerate(group.points):
        members = range(index * seeds, (index + 1) * seeds)
        metrics = {name: [_mean_of(tail, name, member) for member in members] for name in names}
        rows.append({"settings": point, "run": folder.name, "metrics": metrics})
    # Through JSON once, so that a table read back equals the one written.
    return json.loads(json.dumps(rows))


def _mean_of(tail: Sequence[Mapping[str, Any]], name: str, member: int) -> float | None:
    values = [record[name][member] for record in tail if record.get(name)]
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


__all__ = [
    "Group",
    "best_settings",
    "grid",
    "group_folder",
    "group_points",
    "render_table",
    "split_values",
    "sweep",
    "train_group",
]
