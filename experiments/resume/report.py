"""Renders results/*.json as results/report.md.

python -m experiments.resume.report
"""

from collections.abc import Mapping
from typing import Any

from experiments.resume.run import RESULTS, SETTINGS, summarise
from hinf_rl.training.files import read_json, write_atomic


def load() -> dict[str, Any]:
    """Results by task, as far as they are there."""
    paths = {name: RESULTS / f"{name}.json" for name in SETTINGS}
    return {name: read_json(path) for name, path in paths.items() if path.exists()}


def readme_section() -> list[str]:
    """What the README says of this experiment."""
    tasks = load()
    summary = summarise(tasks)
    return [
        "### Killed and resumed",
        "",
        f"Training of {' and '.join(tasks)} was killed with SIGKILL {summary['kills']} "
        f"times, {summary['kills_while_saving']} of them while a checkpoint was being written. "
        f"{summary['chains_equal_bit_for_bit']} of {summary['chains']} killed runs ended with the "
        "carry of the run that was let be, bit for bit (parameters, optimisers, simulator states, "
        f"keys); {summary['logs_complete_and_equal']} of {summary['chains']} logs are complete and "
        f"equal; {summary['resumed_at_newest_complete']} of {summary['kills']} restarts went on "
        "from the newest complete checkpoint, never from a half-written one. "
        + "; ".join(f"`{found['provenance']['command']}`" for found in tasks.values())
        + ".",
    ]


def chain_table(tasks: Mapping[str, Any]) -> list[str]:
    """One line for each killed run."""
    lines = [
        "| task | killed run | kills | while saving | differing arrays | log equal and complete |",
        "|---|---|---|---|---|---|",
    ]
    for name, task in tasks.items():
        for index, chain in enumerate(task["chains"]):
            saving = sum(kill["half_written"] for kill in chain["kills"])
            is_equal = chain["metrics_equal"] and chain["metrics_complete"]
            lines.append(
                f"| {name} | {index} | {len(chain['kills'])} | {saving} | "
                f"{len(chain['differing_leaves'])} of {task['leaves']} | "
                f"{'yes' if is_equal else 'no'} |"
            )
    return lines


def kill_table(tasks: Mapping[str, Any]) -> list[str]:
    """One line for each kill."""
    lines = [
        "| task | killed run | moment | newest checkpoint | last line of the log | half-written "
        "checkpoint left | resumed at |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, task in tasks.items():
        for index, chain in enumerate(task["chains"]):
            lines += [
                f"| {name} | {index} | {kill['when']} | {_or_none(kill['saved'])} | "
                f"{kill['logged']} | {'yes' if kill['half_written'] else 'no'} | "
                f"{_or_none(kill['resumed_at'])} |"
                for kill in chain["kills"]
            ]
    return lines


def _or_none(value: int | None) -> str:
    return "none" if value is None else str(value)


def main() -> None:
    """Writes report.md beside the results."""
    tasks = load()
    lines = ["# Killed and resumed: results", "", *chain_table(tasks), "", *kill_table(tasks), ""]
    for name, task in tasks.items():
        source = task["provenance"]
        lines.append(
            f"- {name}: `{source['command']}`, commit `{source['git']['commit']}`, "
            f"{source['date_utc']}, jax {source['versions']['jax']}, mujoco "
            f"{source['versions']['mujoco']}, {source['device']['platform']}, "
            f"{task['iterations']} iterations."
        )
    write_atomic(RESULTS / "report.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
