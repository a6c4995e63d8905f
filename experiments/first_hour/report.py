"""Renders results/steps.json as report.md.

python -m experiments.first_hour.report
"""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.first_hour.run import RESULTS
from hinf_rl.training.files import read_json, write_atomic
from hinf_rl.training.provenance import described_device


def _table(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [f"| `{step['command']}` | {step['seconds']:.0f} |" for step in steps]
    return ["| command | seconds |", "|---|---|", *rows]


def _picture_s(data: Mapping[str, Any]) -> float:
    return sum(step["seconds"] for step in data["picture"])


def readme_section() -> list[str]:
    """The part of README that these results support."""
    data = read_json(RESULTS)
    return [
        "### From clone to the first moving picture",
        "",
        f"{_picture_s(data) / 60:.1f} minutes on {described_device(data['provenance']['device'])}, "
        "installing included. Every command above, run from a fresh clone in its order: "
        "[experiments/first_hour](experiments/first_hour/README.md).",
        "",
        *_table(data["picture"]),
    ]


def markdown(data: Mapping[str, Any]) -> str:
    """The report as text."""
    made = data["provenance"]
    lines = [
        "# The first hour, timed",
        "",
        f"The first moving picture, after {_picture_s(data) / 60:.1f} minutes:",
        "",
        *_table(data["picture"]),
        "",
        "Then README's commands in their order, smaller:",
        "",
        *_table(data["commands"]),
        "",
        f"`{made['command']}`, commit {str(made['git']['commit'])[:10]}, {made['date_utc'][:10]}, "
        f"{described_device(made['device'])}.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Writes the report beside the results."""
    write_atomic(RESULTS.with_name("report.md"), markdown(read_json(RESULTS)))


if __name__ == "__main__":
    main()
