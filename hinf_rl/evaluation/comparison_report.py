"""A comparison as Markdown, pictures and JSON."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hinf_rl.evaluation import plots, style
from hinf_rl.evaluation.measured import is_higher_better
from hinf_rl.training.progress import headline

_PICTURES = (
    ("survival", "Survival over the size of the disturbance"),
    ("curves", "Training"),
    ("improvement", "Chance of beating the first run"),
)


def write_comparison(
    path: Path,
    comparison: Mapping[str, Any],
    *,
    results: Mapping[str, Mapping[str, Any]],
    logs: Mapping[str, Sequence[Mapping[str, Any]]],
) -> None:
    """Writes the report, its pictures and the numbers, all beside each other.

    Args:
      path: the Markdown file; `STEM.json` and `STEM-NAME.png` go beside it.
      comparison: of `compare`, with `provenance` of the runs.
      results: run's label to content of its `results.json`.
      logs: run's label to its training log.
    """
    from hinf_rl.training.files import write_atomic, write_json

    stem = path.with_suffix("")
    for name, _ in _PICTURES:
        file = _picture(stem, name)
        # An older picture must not pass for this comparison's.
        file.unlink(missing_ok=True)
        try:
            _draw(name, file, comparison, results, logs)
        except plots.NothingToDrawError:
            continue
    write_json(stem.with_suffix(".json"), comparison)
    write_atomic(path, comparison_text(comparison, stem))


def comparison_text(comparison: Mapping[str, Any], stem: Path) -> str:
    """Returns the report in Markdown.

    Args:
      comparison: of `compare`, with `provenance` of the runs.
      stem: path of the report without its ending; pictures that are beside it are shown.
    """
    return "\n".join(
        [
            f"# {comparison['task']}: {len(comparison['runs'])} runs",
            "",
            *_runs(comparison),
            "",
            *_improvement(comparison),
            *_pictures(stem),
            *_measures(comparison),
            *_reading(comparison),
            *_provenance(comparison["provenance"]),
            "",
        ]
    )


def draw_improvement(comparison: Mapping[str, Any], path: Path) -> Path:
    """Draws the chance of each run to beat the first one, with intervals, for each measure.

    Args:
      comparison: of `compare`.
      path: PNG to write.

    Raises:
      NothingToDrawError: no measure tells better from worse.
    """
    chances = comparison["improvement"]
    if not chances:
        raise plots.NothingToDrawError("no measure of these runs tells better from worse")
    labels = [run["label"] for run in comparison["runs"][1:]]
    rows = [(measure, label) for measure in chances for label in labels]
    figure, (panel,) = style.panels(1, inches=(7.0, 0.9 + 0.32 * len(rows)))
    for row, (measure, label) in enumerate(rows):
        found, line = chances[measure][label], style.line(labels.index(label) + 1)
        if found["low"] is not None:
            panel.plot([found["low"], found["high"]], [row, row], color=line["color"], linewidth=4)
        panel.plot([found["value"]], [row], color="black", marker=line["marker"], ms=6)
    panel.axvline(0.5, color="black", linewidth=0.8, linestyle="--")
    style.finish(panel, x=f"chance of beating {comparison['runs'][0]['label']}", y="")
    panel.set_yticks(range(len(rows)), [f"{label}: {measure}" for measure, label in rows])
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.set_xlim(-0.02, 1.02)
    return style.save(figure, path)


def _draw(
    name: str,
    file: Path,
    comparison: Mapping[str, Any],
    results: Mapping[str, Mapping[str, Any]],
    logs: Mapping[str, Sequence[Mapping[str, Any]]],
) -> None:
    if name == "improvement":
        draw_improvement(comparison, file)
    elif name == "survival":
        if comparison["family"] != "protocol":
            raise plots.NothingToDrawError("these results hold no disturbed conditions")
        # What is not comparable is left out of the tables, and so of the picture.
        names = comparison["measures"]["survival"]
        shared = {
            label: {**result, "cells": {name: result["cells"][name] for name in names}}
            for label, result in results.items()
        }
        plots.survival_against_force(shared, file)
    else:
        # The robust family's curves are chosen; others show what their progress line shows.
        names = plots.CURVES
        if comparison["family"] != "protocol":
            names = tuple(headline(next((log[-1] for log in logs.values() if log), {})))
        plots.learning_curves({label: [log] for label, log in logs.items()}, file, names=names)


def _runs(comparison: Mapping[str, Any]) -> Iterator[str]:
    yield "| run | algorithm | seeds | steps per seed | training (s) |"
    yield "|---|---|---|---|---|"
    for run in comparison["runs"]:
        source = comparison["provenance"][run["label"]]
        yield (
            f"| {run['label']} | {run['algorithm']} | {run['seeds']} | "
            f"{_or_dash(source['env_steps'], ',')} | {_or_dash(source['wall_s'], '.0f')} |"
        )


def _improvement(comparison: Mapping[str, Any]) -> Iterator[str]:
    chances = comparison["improvement"]
    if not chances:
        return
    others = [run["label"] for run in comparison["runs"][1:]]
    yield f"| chance of beating {comparison['runs'][0]['label']} | {' | '.join(others)} |"
    yield "|---" * (len(others) + 1) + "|"
    for measure, by_run in chances.items():
        cells = [_chance(by_run[label]) for label in others]
        yield f"| {measure} ({_direction(measure)}) | {' | '.join(cells)} |"
    yield ""


def _pictures(stem: Path) -> Iterator[str]:
    for name, caption in _PICTURES:
        file = _picture(stem, name)
        if file.exists():
            yield from (f"![{caption}]({file.name})", "", f"*{caption}.*", "")


def _measures(comparison: Mapping[str, Any]) -> Iterator[str]:
    labels = [run["label"] for run in comparison["runs"]]
    for measure, conditions in comparison["measures"].items():
        direction = _direction(measure)
        yield f"## {measure[0].upper()}{measure[1:]}" + (f" ({direction})" if direction else "")
        yield ""
        yield f"| condition | {' | '.join(labels)} |"
        yield "|---" * (len(labels) + 1) + "|"
        for condition, by_run in conditions.items():
            yield f"| {condition} | {' | '.join(_cell(by_run[label]) for label in labels)} |"
        if len(conditions) > 1:
            overall = comparison["overall"][measure]
            yield f"| **all** | {' | '.join(_cell(overall[label]) for label in labels)} |"
        yield ""


def _reading(comparison: Mapping[str, Any]) -> Iterator[str]:
    one_seed = [run["label"] for run in comparison["runs"] if run["seeds"] == 1]
    yield "## How to read this"
    yield ""
    yield (
        f"Numbers are the {comparison['statistic']} over training seeds with 95 % bootstrap "
        "intervals: seeds are resampled, and for survival the episodes of each. The row of all "
        "conditions takes the seeds of all conditions at once."
    )
    if one_seed:
        yield (
            f"One training seed ({', '.join(one_seed)}) has intervals over episodes at most: they "
            "say nothing about other seeds."
        )
    if comparison["improvement"]:
        yield (
            "The chance of beating is P(X > Y) + P(X = Y) / 2 of a random seed of each, averaged "
            "over the conditions (Agarwal et al. 2021); 0.5 is a draw. A seed is resampled with "
            "all its conditions. An interval needs two seeds in both runs."
        )
    for note in comparison["notes"]:
        yield f"Note: {note}."
    yield ""


def _provenance(sources: Mapping[str, Any]) -> Iterator[str]:
    yield "## Where this came from"
    yield ""
    yield "| run | directory | trained by | commit | evaluated |"
    yield "|---|---|---|---|---|"
    for label, source in sources.items():
        yield (
            f"| {label} | `{source['path']}` | `{source['command'] or '-'}` | "
            f"{(source['commit'] or '-')[:10]} | {source['evaluated'] or '-'} |"
        )


def _picture(stem: Path, name: str) -> Path:
    return stem.with_name(f"{stem.name}-{name}.png")


def _direction(measure: str) -> str:
    better = is_higher_better(measure)
    return "" if better is None else ("higher is better" if better else "lower is better")


def _cell(interval: Sequence[float]) -> str:
    value, low, high = interval
    return f"{value:.3f}" if low == high == value else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _chance(found: Mapping[str, Any]) -> str:
    if found["low"] is None:
        return f"{found['value']:.2f}"
    return f"{found['value']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def _or_dash(value: Any, form: str) -> str:
    return "-" if value is None else format(value, form)


__all__ = ["comparison_text", "draw_improvement", "write_comparison"]
