"""The robustness protocol on cart-pole chunk policies: cloned, and fine-tuned by PRDP and DPPO.

Usage: python -m experiments.prdp.robust
"""

import time
from typing import Any

import jax

from experiments.prdp.run import RESULTS, references, stored
from experiments.prdp.settings import CARTPOLE, SEEDS
from experiments.prdp.workloads import WORKLOADS
from hinf_rl.agents.prdp import ChainPolicy
from hinf_rl.diffusion_control import ControlConfig
from hinf_rl.envs.chunks import ChunkWrapper
from hinf_rl.envs.classic import CartPole, CartPoleConfig
from hinf_rl.evaluation.protocol import ProtocolConfig, run_protocol
from hinf_rl.evaluation.rollout import Evaluator
from hinf_rl.training.files import write_json
from hinf_rl.training.provenance import provenance


def main() -> None:
    """Writes results/cartpole_robust.json."""
    workload = WORKLOADS["cartpole"]()
    reference = references("cartpole", workload)
    policies = {"cloned": reference}
    for arm in CARTPOLE:
        path = RESULTS / f"{arm.name}_params.msgpack"
        if path.exists():
            policies[arm.name] = stored(path, reference)
    length = ControlConfig().chunk_length
    nominal = Evaluator(ChunkWrapper(CartPole(), length))
    randomised = Evaluator(ChunkWrapper(CartPole(CartPoleConfig(randomise=True)), length))
    start_s = time.perf_counter()
    cells: dict[str, list[dict[str, Any]]] = {}
    for name, params in policies.items():
        cells[name] = []
        for seed in range(SEEDS):
            one = jax.tree.map(lambda leaf, seed=seed: leaf[seed], params)
            found = run_protocol(
                nominal,
                ChainPolicy(one, workload.problem.model),
                randomised_env=randomised,
                config=ProtocolConfig(num_envs=48),
            )
            cells[name].append(
                {
                    cell: {
                        "survival": value["survival"][0],
                        "task_share": value["task_reward_fraction"][0],
                        "magnitude": value["magnitude"],
                    }
                    for cell, value in found["cells"].items()
                }
            )
        print(f"{name}: {time.perf_counter() - start_s:.0f} s", flush=True)
    write_json(RESULTS / "cartpole_robust.json", {"cells": cells, "provenance": provenance()})


if __name__ == "__main__":
    main()
