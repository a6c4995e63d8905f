"""Runs `brax_ppo` in Brax's own environment, which is made if it is not there.

python -m experiments.interop.run [--steps N]
"""

import argparse
import os
import subprocess
import sys

from experiments.benchmarks.turns import ROOT
from experiments.benchmarks.venvs import interpreter, require


def main() -> None:
    """Trains, and leaves what `brax_ppo` writes; arguments are handed on."""
    parser = argparse.ArgumentParser(description=__doc__, add_help=False)
    _, arguments = parser.parse_known_args()
    require("brax")
    command = [str(interpreter("brax")), "-m", "experiments.interop.brax_ppo", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    sys.exit(subprocess.run(command, cwd=ROOT, env=environment).returncode)


if __name__ == "__main__":
    main()
