"""The hook of MkDocs: adds the generated pages to the site and mends links that leave `docs/`.

MkDocs loads this file by its path; `python -m experiments.docs.site` is of no use.
"""

import re
import sys
from pathlib import Path
from typing import Any

# Loaded by path, the package of this file need not be importable yet.
sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from mkdocs.structure.files import File, Files

from experiments.docs import links, reference, results
from experiments.docs.public import PACKAGE, ROOT

_MARK = re.compile(r"^<!-- generated: (.+?) -->$", re.MULTILINE)
_PROJECT_FILES = ("CHANGELOG.md", "CONTRIBUTING.md")


def on_config(config: Any) -> Any:
    """Fills the parts of the navigation that are generated."""
    generated = {"API": reference.api_nav, "Results": results.nav}
    config.nav = [_filled(entry, generated) for entry in config.nav]
    config.watch += [str(ROOT / PACKAGE), str(ROOT / "experiments")]
    return config


def _filled(entry: Any, generated: dict[str, Any]) -> Any:
    if isinstance(entry, dict):
        [(title, below)] = entry.items()
        if below == "generated":
            return {title: generated[title]()}
        if isinstance(below, list):
            return {title: [_filled(inner, generated) for inner in below]}
    return entry


def on_files(files: Files, config: Any) -> Files:
    """Adds the generated pages, and the files of the repository that pages lead to."""
    pages = {
        reference.CLI_PAGE: reference.cli_page(),
        **reference.api_pages(),
        **results.pages(),
        **{links.site_path(name)[0]: _project_page(name) for name in _PROJECT_FILES},
    }
    for place, text in pages.items():
        files.append(File.generated(config, place, content=text))
    for path in sorted(_published_paths(files)):
        source = ROOT / path
        if source.is_file():  # what is missing stays a broken link, which fails the build
            place = links.site_path(path)[0]
            files.append(File.generated(config, place, abs_src_path=str(source)))
    return files


def _project_page(name: str) -> str:
    text = (ROOT / name).read_text(encoding="utf-8")
    return links.rewritten(text, name, links.site_path(name)[0])


def _published_paths(files: Files) -> set[str]:
    """Paths of the repository that some page leads to and that are no pages themselves."""
    sources = [*_PROJECT_FILES, "README.md"]
    for name in results.experiments():
        sources += [links.experiment_readme(name), *links.reports(name)]
    for file in files.documentation_pages():
        if not file.generated_by:
            sources.append(f"docs/{file.src_uri}")
    found = set()
    for source in sources:
        text = (ROOT / source).read_text(encoding="utf-8")
        found |= {link.target for link in links.links(text, source)}
    found |= {f"colab/{path.name}" for path in (ROOT / "colab").glob("*.ipynb")}
    return {path for path in found if links.site_path(path)[0].startswith("files/")}


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Mends the links of a page in `docs/` and writes what its marks stand for."""
    if page.file.generated_by:
        return markdown
    markdown = links.rewritten(markdown, f"docs/{page.file.src_uri}", page.file.src_uri)
    return _MARK.sub(lambda mark: _generated(mark[1]), markdown)


def _generated(what: str) -> str:
    """Returns the Markdown that a mark `<!-- generated: WHAT -->` stands for."""
    makers = {
        "list": lambda: ["```text", *_list_text().splitlines(), "```"],
        "made": results.made_table,
        "notebooks": results.notebooks,
        "readme python": results.readme_python,
        "render": results.render_table,
        "speed": lambda: results.tables("experiments/benchmarks/results/report.md"),
    }
    if what not in makers:
        raise ValueError(f"nothing generates {what!r}; known: {', '.join(makers)}")
    return "\n".join(makers[what]())


def _list_text() -> str:
    with reference.terminal({}) as said:
        from hinf_rl.commands.catalogue import list_all

        list_all()
        said.flush()
        return said.buffer.getvalue().decode("utf-8")
