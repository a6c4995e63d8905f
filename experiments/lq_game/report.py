"""Renders the tables and the figure from results/lq_game.json.

Usage: python -m experiments.lq_game.report
"""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D

from experiments.lq_game.run import RESULTS
from hinf_rl.training.files import read_json, write_atomic

FOLDER = Path(__file__).parent


def origin(source: dict[str, Any]) -> str:
    """Where a stage's numbers come from, one line."""
    versions, device = source["versions"], source["device"]
    return (
        f"`{source['command']}`, commit `{source['git']['commit']}`, {source['date_utc']}, "
        f"jax {versions['jax']}, Python {versions['python']}, {device['kind']} "
        f"({device['cpu_count']} cores, shared with other jobs)."
    )


def acceptance_table(data: dict[str, Any]) -> list[str]:
    """Promise, worst value over games and seeds, bound."""
    lines = [
        "| promise | worst over games and seeds | bound | games | met |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['claim']} | {row['worst']:.4g} | {row['bound']:g} | {row['games']} | "
        f"{'yes' if row['passed'] else '**no**'} |"
        for row in data["acceptance"]
    ]
    return lines


def game_table(rows: list[dict[str, Any]]) -> list[str]:
    """One line per game; errors are the worst of the seeds."""
    lines = [
        "| system | level / g* | level g | error in K | error in L | norm, saddle gain | "
        "norm, learned | learned / saddle | learned / LQR | s per seed |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        learned = " ".join(f"{norm:.5g}" for norm in row["norm"])
        lines.append(
            f"| {row['system']} | {row['factor']} | {row['level']:.5g} | "
            f"{max(row['K_error']):.1e} | {max(row['L_error']):.1e} | "
            f"{row['oracle']['norm']:.5g} | {learned} | {max(row['norm_over_oracle']):.5f} | "
            f"{max(row['norm_over_lqr']):.4f} | {row['wall_s_per_seed']:.0f} |"
        )
    return lines


def markdown(data: dict[str, Any]) -> str:
    """The report as text."""
    lines = ["# Linear-quadratic games: results", "", *acceptance_table(data), ""]
    lines += [
        "Norms are those of the undiscounted closed loop from w to [Q^(1/2) x; R^(1/2) u], for the "
        "learned gain, for the gain of the discounted saddle point and for LQR's discounted gain.",
        "",
        "![norm and gain errors of every game](lq_game.png)",
    ]
    for stage, title in (("linear", "Linear players"), ("networks", "Network players")):
        if data.get(stage):
            lines += ["", f"## {title}", "", origin(data["provenance"][stage]), ""]
            lines += game_table(data[stage])
    return "\n".join(lines) + "\n"


def figure(data: dict[str, Any], path: Path) -> None:
    """Left: norms relative to the saddle gain's. Right: gain errors of both players."""
    rows = data.get("linear", []) + data.get("networks", [])
    count = len(data.get("linear", []))
    labels = [
        f"{row['system']}, {row['factor']}{'' if i < count else ' (networks)'}"
        for i, row in enumerate(rows)
    ]
    places = np.arange(len(rows))[::-1]
    figure_, (left, right) = plt.subplots(
        1, 2, figsize=(11, 0.6 + 0.32 * len(rows)), sharey=True, layout="constrained"
    )
    for place, row in zip(places, rows, strict=True):
        norms = np.asarray(row["norm_over_oracle"])
        ys = np.full(len(norms), place)
        left.plot(row["lqr_norm"] / row["oracle"]["norm"], place, "s", color="0.6", ms=7)
        left.plot(norms, ys, "o", color="C0", ms=4)
        right.plot(row["K_error"], ys, "o", color="C0", ms=4)
        right.plot(row["L_error"], ys, "^", color="C1", ms=4)
    left.axvline(1.0, color="k", linewidth=0.8)
    left.axvline(1.02, color="C3", linestyle=":", linewidth=1.0)
    right.axvline(0.02, color="C3", linestyle=":", linewidth=1.0)
    left.set(xlabel="H-infinity norm / that of the exact saddle gain", title="closed loop")
    left.set_yticks(places, labels)
    right.set(xscale="log", xlabel="relative error of the gain", title="gains")
    handles = [
        Line2D([], [], marker="s", color="0.6", linestyle="", label="LQR"),
        Line2D([], [], marker="o", color="C0", linestyle="", label="learned, K"),
        Line2D([], [], marker="^", color="C1", linestyle="", label="learned, L"),
        Line2D([], [], color="C3", linestyle=":", label="bound for linear players"),
    ]
    figure_.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=9)
    figure_.savefig(path, dpi=110)
    plt.close(figure_)


def main() -> None:
    """Writes report.md and lq_game.png beside this file."""
    data = read_json(RESULTS)
    write_atomic(FOLDER / "report.md", markdown(data))
    figure(data, FOLDER / "lq_game.png")


if __name__ == "__main__":
    main()
