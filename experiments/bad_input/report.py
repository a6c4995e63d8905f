"""Renders results/bad_input.json as results/report.md.

python -m experiments.bad_input.report
"""

from experiments.bad_input.run import RESULTS
from hinf_rl.training.files import read_json, write_atomic


def main() -> None:
    """Writes report.md beside the results."""
    data = read_json(RESULTS)
    source, summary = data["provenance"], data["summary"]
    areas = ", ".join(f"{count} {area}" for area, count in summary["by_area"].items())
    lines = [
        "# Wrong inputs: results",
        "",
        f"{summary['met_as_they_should']} of {summary['inputs']} ({areas}) end with exit code 2, "
        "one short line that says what to do, no traceback, and nothing made, changed or deleted.",
        "",
        f"`{source['command']}`, commit `{source['git']['commit']}`, {source['date_utc']}.",
        "",
        "| area | input | exit code | message | faults |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['area']} | `{_cell(row['input'])}` | {row['exit_code']} | "
        f"{_cell(row['message'].removeprefix('error: '))} | {_cell('; '.join(row['faults']))} |"
        for row in data["rows"]
    ]
    write_atomic(RESULTS.with_name("report.md"), "\n".join(lines) + "\n")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", "<br>")


if __name__ == "__main__":
    main()
