"""README holds what it says: its Python runs, its commands parse, its results are the files'."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hinf_rl.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_python_examples_run():
    for block in _blocks("python"):
        exec(compile(block, "README.md", "exec"), {})


@pytest.mark.parametrize(
    "command",
    sorted(
        {
            shlex.split(line, comments=True)[1]
            for block in _blocks("sh")
            for line in block.splitlines()
            if line.startswith("hinf-rl ")
        }
    ),
)
def test_every_command_named_exists(command, capsys):
    assert main([command, "--help"]) == 0
    assert f"hinf-rl {command}" in capsys.readouterr().out


def test_links_and_pictures_exist():
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    missing = [t for t in targets if "://" not in t and not (ROOT / t).exists()]
    assert not missing


def test_results_are_those_of_the_committed_files():
    done = subprocess.run(
        [sys.executable, "-m", "experiments.readme", "--check"], cwd=ROOT, close_fds=False
    )
    assert done.returncode == 0, "run python -m experiments.readme"
