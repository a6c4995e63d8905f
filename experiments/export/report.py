"""Renders the results as report.md.

python -m experiments.export.report
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.export.run import MOTORS, RESULTS
from hinf_rl.evaluation.statistics import wilson_interval
from hinf_rl.training.files import read_json, write_atomic

_MOTORS = {
    "servo": "the servo of training",
    "torque": "a torque motor under a PD loop at 1 kHz",
}


def share(counts: list[int] | None) -> str:
    """Survivors of all, and the interval."""
    if counts is None:
        return "not measured"
    mean, low, high = wilson_interval(*counts)
    return f"{counts[0]}/{counts[1]} = {mean:.2f} [{low:.2f}, {high:.2f}]"


def export_table(rows: list[dict[str, Any]]) -> list[str]:
    """One line for each format."""
    lines = ["| format | size | actions against JAX | outputs against JAX |", "|---|---|---|---|"]
    for row in rows:
        worst = row["checked"]["max_abs_difference"]
        size = f"{row['bytes'] / 1000:.0f} kB"
        lines.append(
            f"| {row['format']} | {size} | {worst['action']:.1e} | {worst['output']:.1e} |"
        )
    return lines


def survival_table(found: Mapping[str, Any]) -> list[str]:
    """One line for each cell."""
    lines = [
        "| cell | force | plain MuJoCo | where it was trained | velocity error |",
        "|---|---|---|---|---|",
    ]
    for cell in found["cells"]:
        lines.append(
            f"| {cell['name']} | {cell['magnitude_n']:.0f} N | {share(cell['exported'])} | "
            f"{share(cell['trained'])} | {cell['velocity_error']:.2f} m/s |"
        )
    return lines


def latency_table(rows: list[dict[str, Any]]) -> list[str]:
    """One line for each network and format."""
    lines = ["| network | sizes | format | median | 99 % | worst |", "|---|---|---|---|---|---|"]
    for row in rows:
        sizes = " - ".join(map(str, row["sizes"]))
        times = " | ".join(f"{row[name]:.0f} us" for name in ("median_us", "p99_us", "max_us"))
        lines.append(f"| {row['network']} | {sizes} | {row['format']} | {times} |")
    return lines


def origin(results: Mapping[str, Any]) -> str:
    """Where numbers come from, one line."""
    source = results["provenance"]
    return f"`{source['command']}`, commit `{source['git']['commit']}`, {source['date_utc']}."


def render(verified: list[dict[str, Any]], latency: Mapping[str, Any] | None) -> str:
    """Returns the report; what was not measured is left out."""
    exported = verified[0]
    policy, checked = exported["policy"], exported["exports"][0]["checked"]
    lines = [
        "# Exported policies, measured",
        "",
        f"Task {policy['task']}, algorithm {policy['algorithm']}, seed {policy['seed_index']}, "
        f"{policy['iterations']} iterations. {origin(exported)}",
        "",
        f"Largest absolute differences on {checked['observations']} recorded observations, "
        f"actions up to {checked['largest_action']:.1f}:",
        "",
        *export_table(exported["exports"]),
    ]
    for found in verified:
        verdict = "; ".join(found["disagreements"]) or "agrees up to chance"
        lines += [
            "",
            f"## Survival with {_MOTORS[found['motor']]}",
            "",
            f"Verdict: {verdict}. On what the exported policy saw, its actions and the trained "
            f"policy's differ by at most {found['action_difference']:.1e}. {origin(found)}",
            "",
            *survival_table(found),
        ]
    if latency is None:
        return "\n".join(lines) + "\n"
    lines += [
        "",
        "## Time of one control step, one thread",
        "",
        f"{latency['cpu']}, {latency['steps']} steps, other jobs on the machine (load "
        f"{latency['load']:.1f}). {origin(latency)}",
        "",
        *latency_table(latency["rows"]),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    paths = [RESULTS / f"{motor}.json" for motor in MOTORS]
    verified = [read_json(path) for path in paths if path.exists()]
    latency = RESULTS / "latency.json"
    text = render(verified, read_json(latency) if latency.exists() else None)
    write_atomic(Path(__file__).parent / "report.md", text)


if __name__ == "__main__":
    main()
