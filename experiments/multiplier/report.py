"""Renders the tables and the figure from results/multiplier.json.

Usage: python -m experiments.multiplier.report
"""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from experiments.multiplier.run import PUBLISHED, RESULTS
from hinf_rl.training.files import read_json, write_atomic

FOLDER = Path(__file__).parent
NAMES = {"none": "without disturber", "learned": "with disturber"}


def origin(source: dict[str, Any]) -> str:
    """Where a stage's numbers come from, one line."""
    versions, device = source["versions"], source["device"]
    return (
        f"`{source['command']}`, commit `{source['git']['commit']}`, {source['date_utc']}, "
        f"jax {versions['jax']}, Python {versions['python']}, {device['kind']} "
        f"({device['cpu_count']} cores, shared with other jobs)."
    )


def acceptance_table(data: dict[str, Any]) -> list[str]:
    """Promise, measured value, verdict."""
    lines = ["| promise | measured | met |", "|---|---|---|"]
    for row in data["acceptance"]:
        value = row["value"]
        if isinstance(value, list):
            measured = "ends at " + ", ".join(f"{end:.3g}" for end in value)
        else:
            measured = "" if value is None else f"worst error {value:.2%}"
        lines.append(f"| {row['claim']} | {measured} | {'yes' if row['passed'] else '**no**'} |")
    return lines


def fixed_table(rows: list[dict[str, Any]]) -> list[str]:
    """One line per disturber and multiplier."""
    lines = [
        "| disturber | multiplier | learned gain, per seed | oracle, undiscounted | "
        "oracle, discounted | error to undiscounted | error to discounted | s per seed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {NAMES[row['disturber']]} | {row['multiplier']:g} | "
        f"{' '.join(f'{gain:.5f}' for gain in row['gain'])} | {row['published']:.5f} | "
        f"{row['exact_discounted']:.5f} | {max(row['error_to_published']):.2%} | "
        f"{max(row['error_to_exact']):.1e} | {row['wall_s_per_seed']:.0f} |"
        for row in rows
    ]
    return lines


def free_table(rows: list[dict[str, Any]]) -> list[str]:
    """One line per arm of the free multiplier."""
    lines = [
        "| set-up | eta | multiplier at the end, per seed | mean slack, first iteration | "
        "mean slack, last tenth | squared gain at the end |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        slack = np.asarray(row["slack"])
        tail = slack[:, -slack.shape[1] // 10 :]
        lines.append(
            f"| {row['name']} | {row['eta']:g} | "
            f"{' '.join(f'{one[-1]:.3g}' for one in row['multiplier'])} | "
            f"{slack[:, 0].mean():+.3g} | {tail.mean():+.3g} | "
            f"{' '.join(f'{gain**2:.3g}' for gain in row['gain'])} |"
        )
    return lines


def markdown(data: dict[str, Any]) -> str:
    """The report as text."""
    lines = ["# Multiplier: results", "", *acceptance_table(data), ""]
    lines += ["![gain against multiplier, and multipliers over training](multiplier.png)"]
    for stage, title, table in (
        ("fixed", "Fixed multiplier", fixed_table),
        ("free", "Free multiplier, from 1, cap 20", free_table),
    ):
        if data.get(stage):
            lines += ["", f"## {title}", "", origin(data["provenance"][stage]), ""]
            lines += table(data[stage])
    return "\n".join(lines) + "\n"


def figure(data: dict[str, Any], path: Path) -> None:
    """Left: gain against multiplier. Right: free multipliers over training."""
    figure_, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
    draw_gains(left, data.get("fixed", []))
    draw_trajectories(right, data.get("free", []))
    figure_.savefig(path, dpi=110)
    plt.close(figure_)


def draw_gains(axis: Any, rows: list[dict[str, Any]]) -> None:
    """Learned points on the oracle's lines."""
    for color, marker, (source, table) in zip(("C0", "C1"), "os", PUBLISHED.items(), strict=True):
        axis.plot(
            list(table), list(table.values()), "--", color=color, lw=1.0,
            label=f"oracle, {NAMES[source]}",
        )  # fmt: skip
        found = [(row["multiplier"], gain) for row in rows for gain in row["gain"]
                 if row["disturber"] == source]  # fmt: skip
        if found:
            axis.plot(
                *zip(*found, strict=True), marker, color=color, ms=5, mfc="none",
                label=f"learned, {NAMES[source]}",
            )  # fmt: skip
    axis.set(
        xlabel="fixed multiplier",
        ylabel="gain from w to Q^(1/2) x",
        xscale="symlog",
        title="what the multiplier buys",
        ylim=(0.0, None),
    )
    axis.set_xticks([0, 1, 5, 20], ["0", "1", "5", "20"])
    axis.minorticks_off()
    axis.legend(fontsize=8)


def draw_trajectories(axis: Any, rows: list[dict[str, Any]]) -> None:
    """One colour per arm, one line per seed."""
    for index, row in enumerate(rows):
        for seed, one in enumerate(row["multiplier"]):
            label = f"{row['name']} ({row['eta']:g})" if seed == 0 else None
            axis.plot(one, color=f"C{index}", lw=1.3, label=label)
    axis.axhline(1.0, color="0.7", lw=0.8)
    axis.set(xlabel="iteration", ylabel="multiplier", title="the multiplier set free")
    axis.set_yscale("symlog", linthresh=1.0)
    axis.set_yticks([0, 0.5, 1, 2, 5, 10, 20], ["0", "0.5", "1", "2", "5", "10", "20"])
    axis.minorticks_off()
    if rows:
        axis.legend(fontsize=8)


def main() -> None:
    """Writes report.md and multiplier.png beside this file."""
    data = read_json(RESULTS)
    write_atomic(FOLDER / "report.md", markdown(data))
    figure(data, FOLDER / "multiplier.png")


if __name__ == "__main__":
    main()
