"""Exports a trained quadruped in every format and lets it walk in plain MuJoCo.

python -m experiments.export.run RUN [--motor torque] [--episodes N]
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hinf_rl.export import load_runner
from hinf_rl.export.files import SUFFIXES, prepare_export, write_export
from hinf_rl.export.verify import EPISODES, verify
from hinf_rl.training.devices import select_device
from hinf_rl.training.files import write_json
from hinf_rl.training.provenance import provenance

MOTORS = ("servo", "torque")
RESULTS = Path(__file__).parent / "results"
_FACTS = ("task", "algorithm", "seed_index", "iterations", "observation", "network")


def exports(run: Path, folder: Path) -> list[dict[str, Any]]:
    """Writes every format and says how large it is and how far from JAX."""
    prepared = prepare_export(run, unfinished=True)
    rows = []
    for kind, suffix in SUFFIXES.items():
        made = write_export(prepared, kind, output=folder / f"policy{suffix}")
        size = made.path.stat().st_size
        rows.append({"format": kind, "bytes": size, "checked": made.metadata["checked"]})
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run directory of a quadruped")
    parser.add_argument("--motor", choices=MOTORS, default="servo")
    parser.add_argument("--episodes", type=int, default=EPISODES)
    options = parser.parse_args(argv)
    select_device("cpu")
    with tempfile.TemporaryDirectory() as folder:
        rows = exports(options.run, Path(folder))
        path = Path(folder) / f"policy{SUFFIXES['onnx']}"
        found = verify(
            path, run=options.run, episodes=options.episodes, motor=options.motor, tell=print
        )
        facts = load_facts(path)
    print(*(cell.describe() for cell in found.cells), *found.disagreements, sep="\n")
    results = {
        "provenance": provenance(),
        "policy": facts,
        "exports": rows,
        "motor": options.motor,
        "cells": [cell._asdict() for cell in found.cells],
        "action_difference": found.action_difference,
        "disagreements": found.disagreements,
    }
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / f"{options.motor}.json", results)


def load_facts(path: Path) -> dict[str, Any]:
    """What the report says of the policy."""
    metadata = load_runner(path).metadata
    facts = {key: metadata[key] for key in _FACTS}
    return {**facts, "trained_with": metadata["trained_with"]}


if __name__ == "__main__":
    main()
