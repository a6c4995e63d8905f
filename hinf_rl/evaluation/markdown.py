"""The report of a run as text: the table first, then pictures, then where it came from."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_ROWS = (
    ("nominal", "no disturbance"),
    ("randomised", "randomised physics"),
    ("continuous-1", "continuous force, redrawn every 0.2 s"),
    ("sudden-1", "sudden push of 0.2 s, every 3 s"),
    ("deliberate-1", "deliberate, worst trained attacker"),
)
_PICTURES = (
    ("sudden.gif", "The policy under sudden pushes"),
    ("sudden.png", "Key frames: the start, the hardest pushes, the end"),
    ("disturber.gif", "The policy against the disturber that it was trained with"),
    ("beside.gif", "Beside the baseline, under the same pushes from the same start"),
    ("gait.png", "Which foot stands when: its sole is less than 5 mm above the ground"),
    ("survival.png", "Survival over the size of the disturbance"),
    ("attack.png", "Where random and trained forces push, and what survives them (first seed)"),
    ("curves.png", "Training"),
    ("multiplier.png", "Multiplier over the slack of the constraint; it rises left of the line"),
)


def report_text(results: Mapping[str, Any], folder: Path) -> str:
    """Returns the report in Markdown.

    Args:
      results: of `evaluate_run`.
      folder: where the report will lie; pictures that are there are shown.
    """
    return "\n".join(
        [
            f"# {results['task']}: {results['algorithm']}",
            "",
            *_table(results),
            "",
            *_reading(results),
            "",
            *_pictures(folder),
            *_grid(results),
            "",
            *_provenance(results),
            "",
        ]
    )


def _table(results: Mapping[str, Any]) -> Iterator[str]:
    yield "| test | size | survival | task reward / best | tracking error |"
    yield "|---|---|---|---|---|"
    unit = results["protocol"]["unit"]
    for name, meaning in _ROWS:
        cell = results["cells"].get(name)
        if cell is not None:
            yield f"| {meaning} | {_row(cell, unit)} |"


def _row(cell: Mapping[str, Any], unit: str) -> str:
    error = next(iter(cell["tracking"].values()), None)
    parts = (
        f"{cell['magnitude']:g} {unit}" if cell["magnitude"] else "-",
        _estimate(cell["survival"]),
        _estimate(cell["task_reward_fraction"]),
        "-" if error is None else _estimate(error),
    )
    return " | ".join(parts)


def _reading(results: Mapping[str, Any]) -> Iterator[str]:
    protocol, seeds = results["protocol"], results["num_seeds"]
    source = (
        f"over {seeds} training seeds (and their episodes, for survival)"
        if seeds > 1
        else "over the episodes of one training seed: they say nothing about other seeds"
    )
    duration_s = protocol["num_steps"] * protocol["dt_s"]
    yield (
        f"Protocol `{protocol['name']}`: {protocol['num_envs']} episodes of {duration_s:g} s per "
        f"cell and seed, from held-out keys, the policy's mean action. Brackets: 95 % intervals "
        f"{source}. What falls stays down and earns nothing for the rest of the episode."
    )
    errors = list(results["cells"]["nominal"]["tracking"])
    if errors:
        yield f"Tracking error: mean `{errors[0]}` until the end of the episode or the fall."
    gain = results["gain"]["value"]
    if gain is not None:
        yield (
            f"Largest cost per disturbance intensity found by any test: {gain:.3g} (a lower bound "
            f"of the gain; intensity is (|d| / {protocol['intensity_reference']:g} "
            f"{protocol['unit']})^{protocol['intensity_power']:g})."
        )
    lost = sum(cell["num_nonfinite"] for cell in results["cells"].values())
    if lost:
        yield f"**{lost} episodes were lost to numbers that are not finite; they count as falls.**"
    if "deliberate-1" not in results["cells"]:
        yield "No attacker was trained: the row of the deliberate disturbance is missing."
    else:
        yield from _weak_attackers(results["cells"])
    for note in results.get("notes", ()):
        yield f"Note: {note}."


def _weak_attackers(cells: Mapping[str, Any]) -> Iterator[str]:
    """A trained attacker that does less harm than chance has not found the worst case."""
    trained, random = cells["deliberate-1"]["survival"][0], cells["continuous-1"]["survival"][0]
    if trained > random:
        yield (
            f"The attackers left more survivors ({trained:.3f}) than random forces of the same "
            f"size ({random:.3f}): they are no worst case yet; train more of them, or longer."
        )


def _pictures(folder: Path) -> Iterator[str]:
    for name, caption in _PICTURES:
        if (folder / name).exists():
            yield f"![{caption}]({name})"
            yield ""
            yield f"*{caption}.*"
            yield ""


def _grid(results: Mapping[str, Any]) -> Iterator[str]:
    unit = results["protocol"]["unit"]
    yield "## All cells"
    yield ""
    yield "| cell | size | survival | task reward / best | tracking error | non-finite |"
    yield "|---|---|---|---|---|---|"
    for name, cell in results["cells"].items():
        yield f"| {name} | {_row(cell, unit)} | {cell['num_nonfinite']} |"


def _provenance(results: Mapping[str, Any]) -> Iterator[str]:
    yield "## Where this came from"
    yield ""
    for title, part in (("Evaluation", "evaluation"), ("Training", "training")):
        yield f"{title}:"
        yield ""
        yield "```json"
        yield json.dumps(results["provenance"][part], indent=2)
        yield "```"
        yield ""
    yield "The numbers of every seed and attacker: [results.json](results.json)."


def _estimate(interval: list[float]) -> str:
    mean, low, high = interval
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


__all__ = ["report_text"]
