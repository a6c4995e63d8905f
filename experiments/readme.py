"""Renders the experiments' results into README.md, between its two marks.

python -m experiments.readme          write
python -m experiments.readme --check  fail where README.md is not what the results say
"""

import argparse
import importlib
import sys
from pathlib import Path

from hinf_rl.training.files import write_atomic

README = Path(__file__).parent.parent / "README.md"
_BEGIN, _END = "<!-- begin results -->", "<!-- end results -->"
# Each has a `readme_section() -> list[str]` that reads its own committed results.
_EXPERIMENTS = ("quadruped", "lq_game", "multiplier", "cartpole", "benchmarks", "resume")


def rendered(text: str) -> str:
    """README's text with the section between the marks written anew."""
    head, _, rest = text.partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    lines: list[str] = []
    for name in _EXPERIMENTS:
        report = importlib.import_module(f"experiments.{name}.report")
        lines += [*report.readme_section(), ""]
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
