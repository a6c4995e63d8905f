"""What a trained policy's walks come to with physics steps of several lengths.

python -m experiments.terrain.physics_steps --run runs/aliengo-terrain

Gentle slopes of level 0, native physics. A contact's time constant is twice the step: the longer
it is, the deeper a foot sinks in, and a height field holds a foot whose centre is below the ground.
"""

import argparse
from pathlib import Path

from experiments.terrain.run import NUM_COLUMNS, cell, load
from experiments.terrain.walk import Walker, make_walk, walk_config
from hinf_rl.envs.legged.config import TerrainConfig
from hinf_rl.evaluation.protocol import held_out_key
from hinf_rl.training.files import read_json, write_json
from hinf_rl.training.provenance import provenance

RESULTS = Path(__file__).parent / "results" / "physics_steps.json"
STEPS_S = (0.01, 0.005, 0.002)
_EPISODES, _DURATION_S, _SPEED_M_S = 64, 10.0, 0.8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/aliengo-terrain"))
    options = parser.parse_args()
    config, policies = load(options.run)
    terrain = TerrainConfig(kind="smooth_slope", level=0, num_columns=NUM_COLUMNS)
    data = {
        "config": {
            "trained_with_s": config.env.physics_dt_s,
            "trained_on": config.env.physics,
            "episodes": _EPISODES,
            "duration_s": _DURATION_S,
            "speed_m_s": _SPEED_M_S,
        },
        "training": read_json(options.run / "manifest.json"),
        "evaluation": provenance(),
        "cells": {},
    }
    for step_s in STEPS_S:
        settings = walk_config(config.env, terrain, duration_s=_DURATION_S, physics_dt_s=step_s)
        walker = Walker(make_walk(settings, _SPEED_M_S))
        walks = [walker(policy, held_out_key(), _EPISODES) for policy in policies]
        data["cells"][f"{step_s:g}"] = cell(walks, speed_m_s=_SPEED_M_S)
        write_json(RESULTS, data)
        print(f"{1000 * step_s:g} ms: {[float(one.survived.mean()) for one in walks]}", flush=True)


if __name__ == "__main__":
    main()
