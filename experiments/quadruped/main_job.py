"""Keeps what `make train` made: its report's numbers and its film.

make train OUTPUT=runs/aliengo && python -m experiments.quadruped.main_job runs/aliengo
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from experiments.quadruped.report import RESULTS
from experiments.quadruped.run import summary
from hinf_rl.evaluation.report import read_results
from hinf_rl.training.files import write_json


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a complete, evaluated run directory")
    options = parser.parse_args(argv)
    kept = summary(options.run, read_results(options.run))
    write_json(RESULTS / "main_job.json", kept)
    shutil.copyfile(options.run / "report/sudden.gif", RESULTS / "push.gif")


if __name__ == "__main__":
    main()
