"""Renders the table and the figure from results/riccati.json.

Usage: python -m experiments.riccati.report
"""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from experiments.riccati.run import RESULTS
from hinf_rl.training.files import read_json, write_atomic

FOLDER = Path(__file__).parent


def digits(value: Any) -> str:
    """A number or a matrix, row by row, with seven digits."""
    rows = np.atleast_2d(np.asarray(value))
    return "; ".join(" ".join(f"{entry:.7g}" for entry in row) for row in rows)


def markdown(data: dict[str, Any]) -> str:
    """The report as text."""
    summary, source = data["summary"], data["provenance"]
    lines = [
        "# Linear-quadratic oracle: results",
        "",
        f"`{source['command']}`, commit `{source['git']['commit']}`, {source['date_utc']}, "
        f"numpy {source['versions']['numpy']}, Python {source['versions']['python']}.",
        "",
        "| check | largest relative difference | over |",
        "|---|---|---|",
        f"| closed form of S1 | {summary['largest_closed_form_difference']:.1e} | "
        f"{len(data['closed_form'])} numbers |",
        f"| reference tables, six digits | {summary['largest_reference_difference']:.1e} | "
        f"{len(data['reference'])} quantities |",
        f"| norm: sweep, pencil, bisection | {summary['largest_norm_spread']:.1e} | "
        f"{summary['systems']} systems |",
        f"| gradients against central differences | {summary['largest_gradient_error']:.1e} | "
        f"{summary['gradient_systems']} systems |",
        "",
        f"Levels of 1.2 g* that the game controller fails to attain: "
        f"{summary['levels_not_attained']} of {summary['systems']}.",
        "",
        "![attained norm against level](riccati.png)",
        "",
        "| system | quantity | reference | ours | relative difference |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['system']} | {row['quantity']} | {digits(row['reference'])} | "
        f"{digits(row['ours'])} | {row['relative_difference']:.1e} |"
        for row in data["reference"]
    ]
    lines += ["", "| S1, level | quantity | exact | ours | relative difference |"]
    lines += ["|---|---|---|---|---|"]
    lines += [
        f"| {row['level'] or ''} | {row['quantity']} | {row['exact']:.12g} | "
        f"{row['ours']:.12g} | {row['relative_difference']:.1e} |"
        for row in data["closed_form"]
    ]
    return "\n".join(lines) + "\n"


def figure(data: dict[str, Any], path: Path) -> None:
    """Attained norm over the level it was designed for, one panel per system."""
    figure_, axes = plt.subplots(1, len(data["curves"]), figsize=(13, 3.2), layout="constrained")
    for axis, (name, curve) in zip(axes, data["curves"].items(), strict=True):
        best = curve["g*"]
        level = np.asarray(curve["level"]) / best
        axis.plot(level, np.asarray(curve["norm"]) / best, label="game controller")
        axis.plot(level, level, color="0.6", linestyle=":", label="its level")
        axis.axhline(curve["lqr_norm"] / best, color="C3", linestyle="--", label="LQR")
        axis.axhline(1.0, color="k", linewidth=0.8, label="optimum g*")
        axis.set(
            xscale="log",
            xlabel="level / g*",
            title=f"{name}, g* = {best:.4g}",
            ylim=(0.95, 1.06 * curve["lqr_norm"] / best),
        )
        axis.set_xticks([1, 2, 4, 8], ["1", "2", "4", "8"])
        axis.minorticks_off()
    axes[0].set_ylabel("H-infinity norm / g*")
    axes[-1].legend(loc="lower right", fontsize=8)
    figure_.savefig(path, dpi=110)
    plt.close(figure_)


def main() -> None:
    """Writes report.md and riccati.png beside this file."""
    data = read_json(RESULTS)
    write_atomic(FOLDER / "report.md", markdown(data))
    figure(data, FOLDER / "riccati.png")


if __name__ == "__main__":
    main()
