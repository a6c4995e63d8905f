"""Pages of the reference: the API from docstrings, the command line from its own help."""

import contextlib
import io
import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

from experiments.docs.links import reference_page
from experiments.docs.public import PACKAGE, Module, public_modules

_WIDTH = "96"
CLI_PAGE = "reference/cli.md"


def api_pages() -> dict[str, str]:
    """Returns page to Markdown, one page per public module."""
    return {reference_page(module.dotted): _module_page(module) for module in public_modules()}


def api_nav() -> list[dict[str, Any]]:
    """Returns the navigation of the API reference, nested as the packages are."""
    return [{PACKAGE: _nav_below(PACKAGE)}]


def _nav_below(package: str) -> list[Any]:
    entries: list[Any] = [reference_page(package)]
    for module in _children(package):
        last = module.dotted.rpartition(".")[2]
        below = _nav_below(module.dotted) if module.is_package else reference_page(module.dotted)
        entries.append({last: below})
    return entries


def _children(package: str) -> list[Module]:
    return [m for m in public_modules() if m.dotted.rpartition(".")[0] == package]


def _module_page(module: Module) -> str:
    here = [name for name in module.names if name.home == f"{module.dotted}.{name.name}"]
    elsewhere = [name for name in module.names if name not in here]
    lines = [
        f"# {module.dotted}",
        "",
        f"::: {module.dotted}",
        "    options:",
        "      show_root_heading: false",
        "      show_root_toc_entry: false",
    ]
    lines += ["      members:", *[f"        - {name.name}" for name in here]] if here else [
        "      members: false"
    ]  # fmt: skip
    if elsewhere:
        lines += ["", "## Names from other modules", "", "| name | what |", "|---|---|"]
        lines += [f"| [`{name.name}`][{name.home}] | {_cell(name.summary)} |" for name in elsewhere]
    if module.is_package and _children(module.dotted):
        lines += ["", "## Modules", "", "| module | what |", "|---|---|"]
        here_folder = posixpath.dirname(reference_page(module.dotted))
        for child in _children(module.dotted):
            target = posixpath.relpath(reference_page(child.dotted), here_folder)
            summary = child.docstring.strip().partition("\n")[0]
            lines.append(f"| [`{child.dotted}`]({target}) | {_cell(summary)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def cli_page() -> str:
    """Returns the page of the command line: what each `--help` prints."""
    from hinf_rl.cli import _COMMANDS

    lines = [
        "# Command line",
        "",
        "What `hinf-rl --help` and `hinf-rl COMMAND --help` print. Exit codes: 0 done; 2 something "
        "that you can mend, named in one line; 1 a fault of ours; 128 + N ended by signal N, after "
        "saving.",
        "",
        *_block([]),
    ]
    for command in _COMMANDS:
        lines += ["", f"## {command}", "", *_block([command])]
    return "\n".join(lines) + "\n"


def _block(words: list[str]) -> list[str]:
    return ["```text", *help_text(words).strip("\n").splitlines(), "```"]


def help_text(words: list[str]) -> str:
    """Returns what `hinf-rl WORDS --help` prints, at a fixed width and without colours."""
    from hinf_rl.cli import main

    with terminal({"COLUMNS": _WIDTH, "NO_COLOR": "1", "TERM": "dumb"}) as said:
        main([*words, "--help"])
        said.flush()
        text = said.buffer.getvalue().decode("utf-8")
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return "\n".join(line.rstrip() for line in text.splitlines())


@contextlib.contextmanager
def terminal(environment: Mapping[str, str]) -> Iterator[Any]:
    """Catches what is printed, as bytes, under environment variables of its own."""
    # Bytes with an encoding: what prints to a stream without one draws its boxes in ASCII.
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with mock.patch.dict(os.environ, environment), contextlib.redirect_stdout(stream):
        yield stream
