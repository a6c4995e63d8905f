"""Pages of the experiments: README, reports, and what it takes to make them again."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from experiments.docs import links
from experiments.docs.public import ROOT

OVERVIEW_PAGE = "results/index.md"
_BEGIN, _END = "<!-- begin results -->", "<!-- end results -->"


def experiments() -> list[str]:
    """Returns the names of the experiments."""
    return sorted(path.parent.name for path in (ROOT / "experiments").glob("*/README.md"))


def pages() -> dict[str, str]:
    """Returns page to Markdown, one page per experiment and the overview."""
    made = {f"results/{name}.md": _experiment_page(name) for name in experiments()}
    return {OVERVIEW_PAGE: _overview(), **made}


def nav() -> list[Any]:
    """Returns the navigation of the results."""
    return [OVERVIEW_PAGE, *[{title(name): f"results/{name}.md"} for name in experiments()]]


def title(name: str) -> str:
    """Returns the title of an experiment's README."""
    return _read(links.experiment_readme(name)).partition("\n")[0].removeprefix("# ").strip()


def _experiment_page(name: str) -> str:
    page = f"results/{name}.md"
    readme = links.experiment_readme(name)
    parts = [links.rewritten(_read(readme), readme, page)]
    for report in links.reports(name):
        parts.append(links.rewritten(links.demoted(_read(report)), report, page))
    folder = f"experiments/{name}"
    parts.append(f"*Rendered from the files in `{folder}`.*")
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _overview() -> str:
    """What README says of the results, and the list of the experiments."""
    inside = _read("README.md").partition(_BEGIN)[2].partition(_END)[0]
    summary = links.rewritten(inside.strip(), "README.md", OVERVIEW_PAGE)
    listed = [f"| [{title(name)}]({name}.md) | {_state(name)} |" for name in experiments()]
    return "\n".join(
        [
            "# Results",
            "",
            "Every number is written by a script under `experiments/` to a JSON file, with "
            "command, versions, commit and date; these pages are rendered from those files.",
            "",
            "| experiment | committed |",
            "|---|---|",
            *listed,
            "",
            "## Summary",
            "",
            summary,
            "",
        ]
    )


def _state(name: str) -> str:
    files = _json_files(name)
    if not files:
        return "script, no results yet"
    return f"{len(files)} result file{'s' * (len(files) > 1)}"


class Made(NamedTuple):
    """How a result file was made.

    Attributes:
      file: its path from the repository's root.
      command: what was run.
      date: when, in UTC.
      wall_s: sum of the seconds that the file itself logs as `wall_s`, in the row of its first
        command; None where it logs none.
    """

    file: str
    command: str
    date: str
    wall_s: float | None


def made() -> list[Made]:
    """Returns every committed result file with the commands that made it."""
    rows = []
    for name in experiments():
        for file in _json_files(name):
            data = json.loads(_read(file))
            seconds = sum(_wall_seconds(data)) or None
            dates: dict[str, str] = {}
            for record in _provenances(data):
                command = _command(record["command"], name)
                dates[command] = max(record["date_utc"], dates.get(command, ""))
            for command, date in dates.items():
                rows.append(Made(file, command, date[:10], seconds))
                seconds = None  # of the file, not of each command
    return rows


def made_table() -> list[str]:
    """Returns the lines of a table of all result files."""
    lines = ["| result | command | seconds that it logs | date |", "|---|---|---|---|"]
    for row in made():
        name = row.file.split("/")[1]
        link = f"[{name}](results/{name}.md)"
        seconds = "" if row.wall_s is None else f"{row.wall_s:,.0f}"
        file = row.file.rpartition("/")[2]
        lines.append(f"| {link}: `{file}` | `{row.command}` | {seconds} | {row.date} |")
    return lines


def render_table() -> list[str]:
    """Returns the lines of a table: what renders the reports."""
    lines = ["| pages | command |", "|---|---|"]
    for name in experiments():
        if (ROOT / "experiments" / name / "report.py").exists():
            link = f"[{title(name)}](results/{name}.md)"
            lines.append(f"| {link} | `python -m experiments.{name}.report` |")
    return lines


def notebooks() -> list[str]:
    """Returns a list of the notebooks; each is published as it is."""
    lines = []
    for path in sorted((ROOT / "colab").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
        first = next((text.strip().partition("\n")[0] for text in texts), path.stem)
        lines.append(f"- [{first.lstrip('# ')}](files/colab/{path.name}) (`colab/{path.name}`)")
    return lines


def readme_python() -> list[str]:
    """Returns the Python example of README, which its own test runs."""
    text = _read("README.md")
    start = text.index("```python\n")
    return text[start : text.index("\n```\n", start) + 4].splitlines()


def tables(path: str) -> list[str]:
    """Returns a report without its title."""
    lines = _read(path).strip().split("\n")
    return lines[1:] if lines[0].startswith("# ") else lines


def _command(command: str, name: str) -> str:
    """A command that was started by its file's path, as the module that it is."""
    is_whole = command.startswith(("python -m", "hinf-rl"))
    return command if is_whole else f"python -m experiments.{name}.run"


def _json_files(name: str) -> list[str]:
    found = sorted((ROOT / "experiments" / name / "results").glob("*.json"))
    return [str(path.relative_to(ROOT)) for path in found]


def _provenances(data: Any) -> Iterator[dict[str, Any]]:
    if isinstance(data, dict):
        if isinstance(data.get("command"), str) and "date_utc" in data:
            yield data
        for value in data.values():
            yield from _provenances(value)
    elif isinstance(data, list):
        for value in data:
            yield from _provenances(value)


def _wall_seconds(data: Any) -> Iterator[float]:
    if isinstance(data, dict):
        for key, value in data.items():
            if key == "wall_s" and isinstance(value, int | float):
                yield float(value)
            elif key not in ("curves", "per_seed"):
                yield from _wall_seconds(value)
    elif isinstance(data, list):
        for value in data:
            yield from _wall_seconds(value)


def _read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")
