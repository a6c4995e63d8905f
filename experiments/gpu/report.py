"""Renders results/gpu.json as results/gpu.md.

python -m experiments.gpu.report [--results FILE]
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.gpu.run import RESULTS
from experiments.parity.report import divergence_table
from experiments.quadruped import report as quadruped
from hinf_rl.training.files import read_json, write_atomic

ROBUSTNESS = RESULTS.parent / "robustness"
_VERDICT = {True: "met", False: "**missed**", None: "not measured"}


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def aims_table(aims: list[dict[str, Any]]) -> list[str]:
    """Each aim beside what was measured."""
    return [
        "| aim | bound | measured | |",
        "|---|---|---|---|",
        *(
            f"| {row['aim']} | {row['relation']} {_number(row['bound'])} | "
            f"{_number(row['measured'])} | {_VERDICT[row['met']]} |"
            for row in aims
        ),
    ]


def stage_table(stages: Mapping[str, Any]) -> list[str]:
    """What ran, what did not, and why."""
    lines = ["| stage | | seconds | |", "|---|---|---|---|"]
    for name, entry in stages.items():
        why = entry.get("reason") or entry.get("error") or ""
        why = why.replace("|", "\\|")
        lines.append(f"| {name} | {entry['status']} | {_number(entry.get('seconds'))} | {why} |")
    return lines


def speed_table(stages: Mapping[str, Any]) -> list[str]:
    """Control steps/s of simulation and training, compile time and memory."""
    lines = [
        "| MJX | environments x seeds | side | control steps/s | share of simulation | compiled in "
        "(s) | peak memory (MB) |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in stages.values():
        found = entry.get("result") or {}
        sides = found.get("sides", {})
        for name, side in sides.items():
            share = side["env_steps_per_s"] / sides["simulation"]["env_steps_per_s"]
            lines.append(
                f"| {found['impl']} | {found['num_envs']} x {found['seeds']} | {name} | "
                f"{_number(side['env_steps_per_s'])} | {share:.2f} | {side['compile_s']:.0f} | "
                f"{_number(side['peak_memory_mb'])} |"
            )
    return lines


def training_lines(stages: Mapping[str, Any]) -> list[str]:
    """How far each training came, beside the committed main job."""
    lines = []
    for entry in stages.values():
        found = entry.get("result") if entry["kind"] == "train" else None
        if not found:
            continue
        seeds = found["seeds"]
        lines.append(
            f"`{found['task']}`, `{found['algorithm']}`, {seeds} seeds of {found['num_envs']} "
            f"environments, MJX {found['impl']}: {seeds * found['env_steps'] / 1e6:.1f} M steps in "
            f"{found['wall_s']:.0f} s of training. {_reached(found)}"
        )
    for name in ("evaluate mjx", "evaluate native"):
        evaluated = (stages.get(name) or {}).get("result")
        if evaluated:
            cell, other = evaluated["cells"]["nominal"], evaluated["reference"]
            lines.append(
                f"Tested on {evaluated['physics']} physics: survival {cell['survival'][0]:.2f} "
                f"(main job {other['survival']:.2f}), velocity error "
                f"{cell['tracking']['velocity_error'][0]:.2f} m/s ({other['velocity_error']:.2f}),"
                f" task reward / best {cell['task_reward_fraction'][0]:.2f} "
                f"({other['task_reward_fraction']:.2f})."
            )
    return lines


def _reached(found: Mapping[str, Any]) -> str:
    if found["reference"] is None:
        return f"Share of the task reward at the end, under force: {found['task_share']:.2f}."
    reached, wanted = found["to_reference"], found["reference"]["training_task_share"]
    begin = f"The main job's best share of the task reward in training, {wanted:.2f}, "
    if reached is None:
        return begin + "was not reached under these forces."
    return begin + (
        f"was reached after {reached['wall_s']:.0f} s and "
        f"{reached['env_steps'] / 1e6:.1f} M steps of each seed."
    )


def readme_section() -> list[str]:
    """The part of README that these results support."""
    data = read_json(RESULTS)
    return [
        "### On an accelerator",
        "",
        f"{data['device']['count']} x {data['device']['kind']}, Aliengo in MJX, against aims that "
        "were set beforehand. What failed there, and how to read the rest: "
        "[experiments/gpu](experiments/gpu/README.md).",
        "",
        *aims_table(data["aims"]),
        "",
        *speed_table(data["stages"]),
        "",
        "The robots that it trained, tested on native physics: survival of 20 s, mean with 95 % "
        "interval over seeds and episodes, and the worst seed.",
        "",
        *quadruped.survival_table(quadruped.load(ROBUSTNESS)),
    ]


def markdown(data: Mapping[str, Any]) -> str:
    """The report as text."""
    device, stages = data["device"], data["stages"]
    lines = ["# On an accelerator: results", ""]
    lines.append(f"{device['count']} x {device['kind']} ({device['platform']}).")
    if device["smoke"]:
        lines += ["", "A smoke run with tiny sizes: it shows that the stages run, not how fast."]
    for note in data.get("notes", ()):
        lines += ["", note]
    lines += ["", *aims_table(data["aims"]), "", *stage_table(stages)]
    lines += ["", "## Speed", "", *speed_table(stages)]
    training = training_lines(stages)
    if training:
        lines += ["", "## Training", "", *(f"- {line}" for line in training)]
    rows = ((stages.get("parity") or {}).get("result") or {}).get("rows")
    for start, title in (("air", "in the air"), ("ground", "on the ground")) if rows else ():
        lines += ["", f"## Parity, {title}", "", "Median / 95th percentile / worst robot.", ""]
        lines += divergence_table(rows, start)
    lines += ["", *_origins(stages)]
    return "\n".join(lines) + "\n"


def _origins(stages: Mapping[str, Any]) -> list[str]:
    """Where the numbers come from, one line for each set of versions and commit."""
    lines = []
    for name, entry in stages.items():
        if "provenance" in entry:
            made = entry["provenance"]
            lines.append(
                f"- {name}: commit `{made['git']['commit']}`, {made['date_utc']}, "
                f"jax {made['versions']['jax']}, mujoco {made['versions']['mujoco']}, matrix "
                f"products in {made['matmul_precision']}, {made['device']['kind']}."
            )
    return lines


def main() -> None:
    """Writes the report beside the results, under the same name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    write_atomic(options.results.with_suffix(".md"), markdown(read_json(options.results)))


if __name__ == "__main__":
    main()
