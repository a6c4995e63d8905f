"""Renders results/interpreter.json as report.md.

python -m experiments.interpreter.report
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.interpreter.run import RESULTS
from hinf_rl.training.files import read_json, write_atomic

CLAIMED_BATCH, CLAIMED_RATIO = 4800, 20.0


def interpreter_table(rows: list[dict[str, Any]]) -> list[str]:
    """One line for each task and batch."""
    lines = [
        "| task | programs at once | in jit, 1/s | plain Python, 1/s | ratio | compiling, s |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        ratio = row["ratio"]
        lines.append(
            f"| {row['task']} | {row['batch']} | {row['vectorised_programs_per_s']:,.0f} "
            f"| {row['plain_programs_per_s']:,.0f} "
            f"| {ratio['median']:.0f} ({ratio['smallest']:.0f} to {ratio['largest']:.0f}) "
            f"| {row['compile_s']:.1f} |"
        )
    return lines


def sandbox_table(rows: list[dict[str, Any]]) -> list[str]:
    """One line for each number of workers."""
    lines = [
        "| runs at a time | runs per second | a child: wall clock, ms | CPU, ms |",
        "|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['num_workers']} | {row['runs_per_s']:.1f} "
            f"| {1e3 * row['child_wall_s']:.0f} | {1e3 * row['child_cpu_s']:.0f} |"
        )
    return lines


def verdict(rows: list[dict[str, Any]]) -> str:
    """Whether the claim holds, in one sentence."""
    ratios = {row["task"]: row["ratio"]["median"] for row in rows if row["batch"] == CLAIMED_BATCH}
    if not ratios:
        return f"The claim is about {CLAIMED_BATCH} programs at once, which were not measured."
    holds = all(ratio >= CLAIMED_RATIO for ratio in ratios.values())
    found = ", ".join(f"{task} {ratio:.0f}" for task, ratio in ratios.items())
    return f"The claim {'holds' if holds else 'does not hold'}: {found}."


def markdown(data: Mapping[str, Any]) -> str:
    """The report as text."""
    source, measures = data["provenance"], data["measures"]
    rows = data["interpreters"]
    missing = [f"{name} ({why})" for name, why in measures["missing"].items()]
    lines = [
        "# How fast programs are judged: results",
        "",
        verdict(rows),
        "",
        f"Each program runs on {rows[0]['tests_per_program']} hidden tests. Rates are medians of "
        f"{data['repeats']} turns; the ratio is taken turn by turn: median (smallest to largest).",
        "",
        *interpreter_table(rows),
        "",
        "## Python programs in the sandbox",
        "",
        f"Active: {', '.join(measures['active'])}. Missing: {', '.join(missing) or 'nothing'}.",
        "",
        *sandbox_table(data["sandbox"]),
        "",
        f"`{source['command']}`, commit `{source['git']['commit']}`, {source['date_utc']}, jax "
        f"{source['versions']['jax']}, Python {source['versions']['python']}, "
        f"{source['device']['kind']} with {source['device']['cpu_count']} cores.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Writes report.md beside this file."""
    write_atomic(Path(__file__).parent / "report.md", markdown(read_json(RESULTS)))


if __name__ == "__main__":
    main()
