"""What a newcomer is told to type: each command finds what it needs, each time is told."""

import re
import shlex
import sys

import pytest

from experiments.first_hour import report, run

README = (run.ROOT / "README.md").read_text(encoding="utf-8")


def missing(commands):
    """Paths below runs/ that a command reads before any command has written them."""
    made, lacking = set(), []
    for command in commands:
        words = shlex.split(command)
        output = words[words.index("--output") + 1] if "--output" in words else None
        read = [word for word in words if word.startswith("runs/") and word != output]
        if "--resume" in words:
            read.append(output)
        lacking += [word for word in read if not any(word.startswith(path) for path in made)]
        made |= {output} - {None}
    return lacking


def test_no_command_of_the_readme_needs_what_no_earlier_one_made():
    commands = [*run.PICTURE, run.MADE_BY_MAKE, *run.readme_commands(README)]
    assert len(commands) > 12 and missing(commands) == []
    without = [command for command in commands if "--output runs/nominal-3" not in command]
    assert set(missing(without)) == {"runs/nominal-3"}


def test_sizes_are_added_and_nothing_else():
    assert run.smaller("hinf-rl train a1 --seeds 2") == "hinf-rl train a1 --seeds 2 --steps 5e4"
    assert run.smaller("hinf-rl evaluate runs/x") == "hinf-rl evaluate runs/x --quick"
    assert run.smaller("hinf-rl list") == "hinf-rl list"


def test_a_command_that_fails_ends_with_what_it_said(tmp_path, capsys):
    command = shlex.join([sys.executable, "-c", "print('why'); raise SystemExit(3)"])
    with pytest.raises(SystemExit, match=re.compile(r"why\nexit code 3", re.DOTALL)):
        run.take(command, tmp_path)
    command = shlex.join([sys.executable, "-c", "print('done')"])
    fine = run.take(command, tmp_path)
    assert fine["command"] == command and fine["seconds"] > 0.0


def test_the_report_adds_up_the_way_to_the_picture():
    steps = [{"command": "git clone", "seconds": 20.0}, {"command": "make setup", "seconds": 100.0}]
    device = {"platform": "cpu", "cpu_count": 2}
    made = {
        "command": "c",
        "git": {"commit": "0" * 40},
        "date_utc": "2026-01-01T00",
        "device": device,
    }
    text = report.markdown({"provenance": made, "picture": steps, "commands": steps[:1]})
    assert (
        "after 2.0 minutes" in text
        and "| `make setup` | 100 |" in text
        and "2 shared cores" in text
    )
