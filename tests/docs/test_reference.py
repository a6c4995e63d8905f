"""Every public name has a docstring and stands in the reference, read without importing it."""

import importlib
import typing

import pytest

from experiments.docs import reference
from experiments.docs.links import reference_page
from experiments.docs.public import public_modules
from hinf_rl import cli

MODULES = public_modules()


def test_every_public_module_and_name_has_a_docstring():
    silent = [module.dotted for module in MODULES if not module.docstring]
    silent += [
        f"{module.dotted}.{name.name} (defined as {name.home})"
        for module in MODULES
        for name in module.names
        if not (name.docstring or "").strip()
    ]
    assert not silent, "write a docstring; a constant has it as a string below its assignment"


def test_every_public_name_stands_in_the_reference():
    pages = reference.api_pages()
    missing = []
    for module in MODULES:
        lines = pages[reference_page(module.dotted)].splitlines()
        assert f"::: {module.dotted}" in lines
        for name in module.names:
            is_member = f"        - {name.name}" in lines
            is_linked = any(f"[`{name.name}`][{name.home}]" in line for line in lines)
            if not (is_member or is_linked):
                missing.append(f"{module.dotted}.{name.name}")
    assert not missing


def test_names_that_are_linked_stand_where_the_links_lead():
    defined = {f"{m.dotted}.{name.name}" for m in MODULES for name in m.names}
    modules = {module.dotted for module in MODULES}
    for module in MODULES:
        for name in module.names:
            assert name.home in defined | modules, f"{name.home} is in no __all__"


def test_every_module_is_in_the_navigation():
    def pages(entry):
        if isinstance(entry, str):
            return [entry]
        below = entry.values() if isinstance(entry, dict) else entry
        return [page for part in below for page in pages(part)]

    assert sorted(pages(reference.api_nav())) == sorted(reference.api_pages())


@pytest.mark.parametrize("dotted", ["hinf_rl.envs", "hinf_rl.ops.riccati", "hinf_rl.types"])
def test_reading_agrees_with_importing(dotted):
    [found] = [module for module in MODULES if module.dotted == dotted]
    module = importlib.import_module(dotted)
    assert [name.name for name in found.names] == list(module.__all__)
    for name in found.names:
        home, _, local = name.home.rpartition(".")
        assert getattr(importlib.import_module(home), local) is getattr(module, name.name)


@pytest.mark.parametrize("command", cli._COMMANDS)
def test_command_line_reference_shows_every_option(command):
    page = reference.cli_page()
    section = page.partition(f"\n## {command}\n")[2].partition("\n## ")[0]
    assert f"hinf-rl {command}" in section
    for field in cli.dataclasses.fields(cli._COMMANDS[command][0]):
        name = field.name.replace("_", "-")
        if f"--{name}" not in section:
            # Positional ones show their metavar, renamed ones their own name.
            metavars = [getattr(part, "metavar", None) for part in field.type.__metadata__]
            names = [getattr(part, "name", None) for part in field.type.__metadata__]
            choices = typing.get_args(typing.get_args(field.type)[0])
            listed = f"{{{','.join(map(str, choices))}}}" if choices else None
            shown = [text for text in (*metavars, *names, listed) if text]
            assert any(text in section for text in shown), field.name


def test_help_is_plain_text_of_a_fixed_width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    text = reference.help_text(["train"])
    assert "\x1b" not in text
    assert 60 < max(map(len, text.splitlines())) <= 100


def test_docstrings_become_markdown_as_they_are_meant():
    griffe = pytest.importorskip("griffe")
    from experiments.docs.docstrings import as_markdown

    assert griffe
    text = """Pays <x, u>, not `<y>`.

    Args:
      low, high: ends
        of the range.
      other: 1 < 2.
    """
    assert (
        as_markdown(text)
        == """Pays &lt;x, u>, not `<y>`.

    Args:
      low: ends
        of the range.
      high: ends
        of the range.
      other: 1 < 2.
    """
    )
