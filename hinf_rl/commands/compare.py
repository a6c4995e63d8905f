"""`hinf-rl compare`: evaluated runs of one task against each other."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hinf_rl import config as configs
from hinf_rl.errors import UserError


def compare_runs(runs: Sequence[Path], *, output: Path | None) -> int:
    """Compares runs and writes the report; returns the exit code.

    Args:
      runs: run directories; the first is what the others are compared with.
      output: Markdown file; a name made of the runs', beside the first, if None.

    Raises:
      UserError: fewer than two runs, different tasks, one that has not been evaluated, or
        results that hold nothing to compare.
    """
    from hinf_rl.training.run_directory import read_config

    if len(runs) < 2:
        raise UserError("a comparison needs at least two runs: hinf-rl compare RUN RUN ...")
    settings = [read_config(run) for run in runs]
    _check_tasks(runs, settings)
    results = [_read_results(run) for run in runs]
    path = _output(runs, output)

    from hinf_rl.evaluation.comparison import compare
    from hinf_rl.evaluation.comparison_report import write_comparison
    from hinf_rl.evaluation.measured import measured_of
    from hinf_rl.training.logging import read_metrics

    labels = distinct_labels(runs)
    logs = {
        label: read_metrics(run / "metrics.jsonl") for label, run in zip(labels, runs, strict=True)
    }
    arms = [
        measured_of(label, result, algorithm=config.algorithm)
        for label, result, config in zip(labels, results, settings, strict=True)
    ]
    comparison = compare(arms)
    comparison["notes"] += _different_settings(labels, settings)
    comparison["provenance"] = {
        label: _source(run, result, logs[label])
        for label, run, result in zip(labels, runs, results, strict=True)
    }
    if len({source["env_steps"] for source in comparison["provenance"].values()}) > 1:
        comparison["notes"].append("the runs were trained for different numbers of steps")
    by_label = dict(zip(labels, results, strict=True))
    write_comparison(path, comparison, results=by_label, logs=logs)
    _tell(comparison)
    print(f"report: {path}")
    return 0


def distinct_labels(runs: Sequence[Path]) -> list[str]:
    """Returns the shortest ends of the runs' paths that tell them apart.

    A run that is given twice is numbered.
    """
    parts = [run.resolve().parts for run in runs]
    length = 1
    while len({p[-length:] for p in parts}) < len(set(parts)):
        length += 1
    labels: list[str] = []
    for part in parts:
        label = "/".join(part[-length:])
        count = sum(known.split(" (")[0] == label for known in labels)
        labels.append(f"{label} ({count + 1})" if count else label)
    return labels


def _check_tasks(runs: Sequence[Path], settings: Sequence[Any]) -> None:
    for run, config in zip(runs, settings, strict=True):
        if config.task != settings[0].task:
            raise UserError(
                f"{run} is of task {config.task!r}, {runs[0]} of {settings[0].task!r}; compare "
                "runs of one task"
            )


def _read_results(run: Path) -> dict[str, Any]:
    from hinf_rl.training.files import read_json

    path = run / "report" / "results.json"
    if not path.exists():
        raise UserError(f"{run} has not been evaluated; run `hinf-rl evaluate {run}` first")
    return read_json(path)


def _output(runs: Sequence[Path], output: Path | None) -> Path:
    if output is None:
        names = "-".join(dict.fromkeys(run.resolve().name for run in runs))
        # As the user wrote it, unless that names no folder of its own (".").
        first = runs[0] if runs[0].name not in ("", "..") else runs[0].resolve()
        return first.parent / f"compare-{names}.md"
    if output.is_dir():
        raise UserError(f"{output} is a directory; --output names the Markdown file to write")
    return output if output.suffix == ".md" else output.with_name(f"{output.name}.md")


def _different_settings(labels: Sequence[str], settings: Sequence[Any]) -> list[str]:
    """Says which settings of the environment differ, since then the tasks do."""
    flat = [configs.flatten(configs.to_dict(config.env)) for config in settings]
    notes = []
    for label, other in zip(labels[1:], flat[1:], strict=True):
        names = sorted(name for name in {*flat[0], *other} if flat[0].get(name) != other.get(name))
        if names:
            shown = ", ".join(f"env.{name}" for name in names)
            notes.append(f"{label} was trained and measured with other settings: {shown}")
    return notes


def _source(
    run: Path, result: Mapping[str, Any], log: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    from hinf_rl.training.files import read_json

    path = run / "manifest.json"
    manifest = read_json(path) if path.exists() else {}
    last = log[-1] if log else {}
    return {
        "path": str(run),
        "command": manifest.get("command"),
        "commit": (manifest.get("git") or {}).get("commit"),
        "evaluated": result.get("provenance", {}).get("evaluation", {}).get("date_utc"),
        "env_steps": last.get("env_steps"),
        "wall_s": last.get("wall_s"),
    }


def _tell(comparison: Mapping[str, Any]) -> None:
    """Prints the one table that says who is better."""
    from rich.console import Console
    from rich.table import Table

    labels = [run["label"] for run in comparison["runs"]]
    table = Table("over all conditions", *labels)
    for measure, by_run in comparison["overall"].items():
        chances = comparison["improvement"].get(measure, {})
        cells = []
        for label in labels:
            chance = chances.get(label)
            beats = "" if chance is None else f"\nbeats first: {chance['value']:.2f}"
            cells.append(f"{by_run[label][0]:.3f}{beats}")
        table.add_row(measure, *cells)
    Console().print(table)
    for note in comparison["notes"]:
        print(f"note: {note}")


__all__ = ["compare_runs", "distinct_labels"]
