"""Renders the experiments' results into README.md, between its two marks.

python -m experiments.readme          write
python -m experiments.readme --check  fail where README.md is not what the results say
"""

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

from hinf_rl.training.files import read_json, write_atomic

FOLDER = Path(__file__).parent
README = FOLDER.parent / "README.md"
_BEGIN, _END = "<!-- begin results -->", "<!-- end results -->"


def _report(name: str) -> Any:
    return importlib.import_module(f"experiments.{name}.report")


def lq_game() -> list[str]:
    data = read_json(FOLDER / "lq_game/results/lq_game.json")
    return [
        "### Linear-quadratic games, against the exact solution",
        "",
        "The agent that trains the robot, with linear players: it sees samples only, and must find "
        "the saddle point of the game Riccati equation. Details: "
        "[experiments/lq_game](experiments/lq_game/report.md); the oracle itself: "
        "[experiments/riccati](experiments/riccati/report.md).",
        "",
        *_report("lq_game").acceptance_table(data),
    ]


def multiplier() -> list[str]:
    data = read_json(FOLDER / "multiplier/results/multiplier.json")
    return [
        "### The multiplier, against the exact fixed point",
        "",
        "Details: [experiments/multiplier](experiments/multiplier/report.md).",
        "",
        *_report("multiplier").acceptance_table(data),
    ]


def cartpole() -> list[str]:
    data = read_json(FOLDER / "cartpole/results/main.json")
    report = _report("cartpole")
    rule = [
        f"| {claim} | {measured} | {'pass' if holds else '**miss**'} |"
        for claim, measured, holds in report.acceptance(data)
    ]
    return [
        "### Cart-pole under a disturber",
        "",
        f"Mean over {data['config']['seeds']} seeds, worst seed in brackets. Details: "
        "[experiments/cartpole](experiments/cartpole/README.md).",
        "",
        "| acceptance rule, fixed beforehand | measured | |",
        "|---|---|---|",
        *rule,
        "",
        report.gap_table(data),
        "",
        report.table(data),
    ]


def peers() -> list[str]:
    return importlib.import_module("experiments.benchmarks.peers_report").readme_section()


# The sections in their order, each with the file that it is rendered from.
_SECTIONS = (
    ("quadruped/results/hinf.json", lambda: _report("quadruped").readme_section()),
    ("first_hour/results/steps.json", lambda: _report("first_hour").readme_section()),
    ("lq_game/results/lq_game.json", lq_game),
    ("multiplier/results/multiplier.json", multiplier),
    ("cartpole/results/main.json", cartpole),
    ("b_coder/results/stack_machine/bcoder.json", lambda: _report("b_coder").readme_section()),
    ("prdp/results/ring_a1.json", lambda: _report("prdp").readme_section()),
    ("resume/results/cartpole.json", lambda: _report("resume").readme_section()),
    ("benchmarks/results/physics.json", lambda: _report("benchmarks").readme_section()),
    ("benchmarks/results/gymnax_cartpole.json", peers),
    ("gpu/results/gpu.json", lambda: _report("gpu").readme_section()),
)


def rendered(text: str) -> str:
    """README's text with the section between the marks written anew."""
    head, _, rest = text.partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    lines: list[str] = []
    for path, section in _SECTIONS:
        if (FOLDER / path).exists():
            lines += [*section(), ""]
    return "\n".join([head + _BEGIN, "", *lines[:-1], "", _END + tail])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    old = README.read_text(encoding="utf-8")
    new = rendered(old)
    if options.check:
        return int(old != new)
    write_atomic(README, new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
