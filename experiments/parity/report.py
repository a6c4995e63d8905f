"""Renders results/parity.json as report.md.

python -m experiments.parity.report
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.parity.run import PARTED_RAD_S, RESULTS
from hinf_rl.training.files import read_json, write_atomic

QUANTITIES = ("qpos", "qvel", "observation", "reward")


def _cell(found: Mapping[str, float]) -> str:
    return f"{found['median']:.1e} / {found['p95']:.1e} / {found['worst']:.1e}"


def divergence_table(rows: list[dict[str, Any]], start: str) -> list[str]:
    """One line for each physics and horizon."""
    lines = [
        "| against native physics | steps | " + " | ".join(QUANTITIES) + " |",
        "|---|---|" + "---|" * len(QUANTITIES),
    ]
    for row in rows:
        if row["start"] == start:
            cells = " | ".join(_cell(row[name]) for name in QUANTITIES)
            lines.append(f"| {row['physics']} | {row['steps']} | {cells} |")
    return lines


def knob_table(rows: list[dict[str, Any]]) -> list[str]:
    """One line for each setting."""
    slowest = max(row["seconds"] for row in rows)
    lines = [
        "| iterations / of the line search | qvel | observation | reward | time |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        cells = " | ".join(_cell(row[name]) for name in QUANTITIES[1:])
        lines.append(f"| {row['settings']} | {cells} | {row['seconds'] / slowest:.2f} |")
    return lines


def fall_table(rows: list[dict[str, Any]]) -> list[str]:
    """One line for each class of robots."""
    lines = ["| after | trunk | robots or steps | parted | qvel |", "|---|---|---|---|---|"]
    for row in rows:
        found = row["qvel"]
        lines.append(
            f"| {row['after']} | {'on the floor' if row['trunk_on_floor'] else 'never down'} | "
            f"{row['count']} | {row['parted']} | {_cell(found) if found else ''} |"
        )
    return lines


def contact_table(rows: list[dict[str, Any]]) -> list[str]:
    """One line for each depth."""
    lines = [
        "| sunk in by | contacts, native | `jax` | as many | acceleration apart |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        count = row["contacts"]
        lines.append(
            f"| {1000 * row['depth_m']:g} mm | {count['native']:.1f} | {count['mjx']:.1f} | "
            f"{100 * row['same_count']:.0f} % | {_cell(row['acceleration'])} |"
        )
    return lines


def origin(stage: Mapping[str, Any]) -> str:
    """Where a stage's numbers come from, one line."""
    source, versions = stage["provenance"], stage["versions"]
    warp = versions["warp-lang"]
    return (
        f"{stage['num_envs']} instances; `{source['command']}`, commit "
        f"`{source['git']['commit']}`, {source['date_utc']}, jax {source['versions']['jax']}, "
        f"mujoco {source['versions']['mujoco']}, mujoco-mjx {versions['mujoco-mjx']}, "
        f"{f'warp {warp}' if warp else 'no warp'}, {source['device']['kind']}."
    )


def markdown(data: Mapping[str, Any]) -> str:
    """The report as text."""
    lines = [
        "# MJX against native physics: results",
        "",
        "Each cell: median / 95th percentile / worst robot of the largest absolute difference over "
        "the components (m, rad; m/s, rad/s; observations and rewards as the task gives them).",
    ]
    for stage, found in data.items():
        kind, robot = stage.split()
        if kind == "divergence":
            for start, title in (("air", "in the air"), ("ground", "on the ground")):
                lines += ["", f"## {robot}, {title}", "", *divergence_table(found["rows"], start)]
        elif kind == "falls":
            lines += ["", f"## Where {robot} parts from native physics with `jax`", ""]
            lines += [f"Parted: more than {PARTED_RAD_S} rad/s (m/s) apart.", ""]
            lines += fall_table(found["rows"])
        elif kind == "contacts":
            lines += ["", "## A ball that has sunk into a slope of a height field", ""]
            lines += ["At random places; acceleration as a share of native physics'.", ""]
            lines += contact_table(found["rows"])
        else:
            lines += ["", f"## Settings of MJX: one step of {robot} on the ground", ""]
            lines += ["Time is relative to the slowest, on this CPU.", ""]
            lines += knob_table(found["rows"])
        lines += ["", origin(found)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Writes report.md beside this file."""
    write_atomic(Path(__file__).parent / "report.md", markdown(read_json(RESULTS)))


if __name__ == "__main__":
    main()
