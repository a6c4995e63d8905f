"""Fine-tunes diffusion policies: every arm's members and seeds in one program, one file per arm.

Usage: python -m experiments.prdp.run [ARM ...] [--task TASK] [--force]

An arm whose file is there is left out, so that a stopped run goes on. Reference policies are
trained once per task and seed and kept beside the results.
"""

import argparse
import dataclasses
import io
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import serialization

from experiments.prdp.settings import ARMS, SEEDS, Arm
from experiments.prdp.workloads import WORKLOADS, Workload
from hinf_rl.agents.api import Algorithm
from hinf_rl.agents.prdp import (
    DPPOConfig,
    FinetuneConfig,
    evaluate,
    hyperparameters,
    make,
    make_dppo,
    reference_rewards,
)
from hinf_rl.ops.reward_difference import tilted_oracle
from hinf_rl.training.files import read_json, write_json
from hinf_rl.training.provenance import provenance
from hinf_rl.types import Array, PyTree

RESULTS = Path(__file__).parent / "results"


def seed_keys(root: int) -> Array:
    """[SEEDS] keys."""
    return jax.random.split(jax.random.key(root), SEEDS)


def stored(path: Path, template: PyTree) -> PyTree:
    """Parameters from a file, of the shapes of `template`."""
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), template)
    return serialization.from_bytes(zeros, path.read_bytes())


def references(task: str, workload: Workload) -> PyTree:
    """Parameters [SEEDS, ...] of the reference policies, trained where they are not kept."""
    path = RESULTS / f"{task.partition('_')[0]}_reference.msgpack"
    pretrain = jax.jit(lambda keys: jax.lax.map(workload.problem.pretrain, keys))
    template = jax.eval_shape(pretrain, seed_keys(11))
    if path.exists():
        return stored(path, template)
    start_s = time.perf_counter()
    params = jax.block_until_ready(pretrain(seed_keys(11)))
    print(f"{task}: references trained in {time.perf_counter() - start_s:.0f} s", flush=True)
    write_bytes(path, serialization.to_bytes(jax.device_get(params)))
    return params


def oracles(task: str, workload: Workload, params: PyTree) -> dict[str, Any]:
    """What E[r] - beta KL can reach, per seed, for the prices of KL that the arms use."""
    path = RESULTS / f"{task}_oracle.json"
    if path.exists():
        return read_json(path)
    config = FinetuneConfig()
    rewards, contexts = jax.jit(
        lambda params: jax.lax.map(
            lambda p: reference_rewards(
                config, workload.problem, p,
                num_contexts=workload.oracle[0], num_samples=workload.oracle[1],
            ),
            params,
        )
    )(params)  # fmt: skip
    # The part of the reward that depends on the context alone shifts every objective by as much.
    rewards = rewards - jax.vmap(workload.context_part)(contexts)[..., None]
    data = {"provenance": provenance(), "contexts": workload.oracle[0], "beta": {}}
    for beta in workload.betas:
        found = [tilted_oracle(one, beta=beta) for one in rewards]
        data["beta"][f"{beta:g}"] = {
            "reward": [float(one.reward) for one in found],
            "objective": [float(one.objective) for one in found],
            "kl": [float(one.kl) for one in found],
            "least_sample_size": [float(one.sample_size.min()) for one in found],
        }
    write_json(path, data)
    return data


class Program:
    """An arm's training and measuring, compiled for all members and seeds."""

    def __init__(self, arm: Arm, workload: Workload) -> None:
        build = make_dppo if isinstance(arm.config, DPPOConfig) else make
        algorithm: Algorithm = build(arm.config, workload.problem)
        self._algorithm, self._arm, self._workload = algorithm, arm, workload
        # In turn, not side by side: a CPU multiplies one pair of matrices faster than a batch.
        self._train = jax.jit(lambda carry: jax.lax.map(self._segment, carry), donate_argnums=0)
        self._measure = jax.jit(lambda carry: jax.lax.map(self._held_out, carry))

    def init(self, params: PyTree) -> PyTree:
        """The first carry [members * SEEDS, ...], seeds varying fastest."""
        arm = self._arm
        numbers = [self._numbers(changes) for changes in arm.members.values()]
        stacked = jax.tree.map(lambda *leaves: jnp.repeat(jnp.stack(leaves), SEEDS), *numbers)
        members = len(arm.members)
        keys = jnp.tile(seed_keys(12), members)
        params = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * members), params)
        return jax.jit(jax.vmap(self._algorithm.init))(keys, stacked, params)

    def run(self, params: PyTree) -> dict[str, Any]:
        """Trains; returns measurements [checkpoints][members * SEEDS] and pictures."""
        carry = self.init(params)
        measured, samples = self._measure(carry)
        rows, logs, first = [jax.device_get(measured)], [], jax.device_get(samples)
        for done in range(0, self._arm.config.iterations, self._arm.every):
            carry, log = self._train(carry)
            measured, samples = self._measure(carry)
            rows.append(jax.device_get(measured))
            logs.append(jax.device_get(log))
            shown = {name: float(np.mean(value)) for name, value in rows[-1].items()}
            text = ", ".join(f"{name} {value:.3f}" for name, value in shown.items())
            print(f"  {done + self._arm.every}: {text}", flush=True)
        return {
            "rows": {name: np.stack([row[name] for row in rows]) for name in rows[0]},
            "logs": {name: np.concatenate([log[name] for log in logs], 1) for name in logs[0]},
            "samples": {"before": first, "after": jax.device_get(samples)},
            "params": jax.device_get(carry.learner.params),
        }

    def _numbers(self, changes: Mapping[str, float]) -> PyTree:
        """Hyperparameters of a member; DPPO has none to change."""
        if isinstance(self._arm.config, DPPOConfig):
            return None
        given = {name: jnp.float32(value) for name, value in changes.items()}
        return hyperparameters(self._arm.config)._replace(**given)

    def _segment(self, carry: PyTree) -> tuple[PyTree, dict[str, Array]]:
        return jax.lax.scan(
            lambda carry, _: self._algorithm.step(carry), carry, length=self._arm.every
        )

    def _held_out(self, carry: PyTree) -> tuple[dict[str, Array], dict[str, Array]]:
        config = self._arm.config
        found = evaluate(
            FinetuneConfig() if isinstance(config, DPPOConfig) else config,
            self._workload.problem,
            carry.learner.params,
            carry.reference,
            num_samples=self._workload.num_held_out,
        )
        means = {name: jnp.mean(value) for name, value in found.measures.items()}
        means |= {"reward": jnp.mean(found.reward), "kl": jnp.mean(found.log_ratio)}
        shown = jax.tree.map(lambda leaf: leaf[: self._workload.num_shown], found.outcome)
        return means, shown | {"context": found.context[: self._workload.num_shown]}


def play(arm: Arm, workload: Workload, params: PyTree) -> None:
    """Runs an arm and writes its file, and its pictures' data beside."""
    start_s = time.perf_counter()
    found = Program(arm, workload).run(params)
    shape = (-1, len(arm.members), SEEDS)
    checkpoints = list(range(0, arm.config.iterations + 1, arm.every))
    data = {
        "arm": arm.name,
        "task": arm.task,
        "config": dataclasses.asdict(arm.config),
        "members": {
            label: {name: _json_number(value) for name, value in changes.items()}
            for label, changes in arm.members.items()
        },
        "seeds": SEEDS,
        "checkpoints": checkpoints,
        # name -> member -> seed -> checkpoint
        "held_out": {
            name: np.round(value.reshape(shape).transpose(1, 2, 0), 5).tolist()
            for name, value in found["rows"].items()
        },
        "nonfinite": {
            name: float(value.sum()) for name, value in found["logs"].items() if "nonfinite" in name
        },
        "reward_queries": arm.config.iterations * arm.config.batch_size,
        "wall_s": time.perf_counter() - start_s,
        "provenance": provenance(),
    }
    if arm.keeps_params:
        write_bytes(RESULTS / f"{arm.name}_params.msgpack", serialization.to_bytes(found["params"]))
    else:
        write_pictures(arm, found["samples"])
    # Last: an arm whose file is there is complete.
    write_json(RESULTS / f"{arm.name}.json", data)
    print(f"{arm.name}: {data['wall_s']:.0f} s", flush=True)


def write_pictures(arm: Arm, samples: dict[str, dict[str, np.ndarray]]) -> None:
    """Keeps samples of each member's first seed, before and after, for the figures."""
    flat = {
        f"{when}/{name}": value.reshape(len(arm.members), SEEDS, *value.shape[1:])[:, 0]
        for when, parts in samples.items()
        for name, value in parts.items()
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: value.astype(np.float16) for name, value in flat.items()})
    write_bytes(RESULTS / f"{arm.name}.npz", buffer.getvalue())


def write_bytes(path: Path, data: bytes) -> None:
    """Writes beside `path` and renames into place."""
    part = path.with_suffix(".part")
    part.write_bytes(data)
    part.replace(path)


def _json_number(value: float) -> float | None:
    """JSON has no infinity."""
    return value if math.isfinite(value) else None


def main() -> None:
    """Runs what is asked for and is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arms", nargs="*", metavar="ARM", help=f"of {', '.join(ARMS)}")
    parser.add_argument("--task", choices=sorted(WORKLOADS))
    parser.add_argument("--force", action="store_true", help="run again what is there")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.arms if name not in ARMS]
    if unknown:
        parser.error(f"unknown arm {unknown[0]!r}; known: {', '.join(ARMS)}")
    chosen = [
        arm
        for arm in ARMS.values()
        if (not arguments.arms or arm.name in arguments.arms)
        and arguments.task in (None, arm.task)
        and (arguments.force or not (RESULTS / f"{arm.name}.json").exists())
    ]
    RESULTS.mkdir(exist_ok=True)
    for task in dict.fromkeys(arm.task for arm in chosen):
        workload = WORKLOADS[task]()
        params = references(task, workload)
        if workload.betas:
            oracles(task, workload, params)
        for arm in chosen:
            if arm.task == task:
                print(f"{arm.name}: {len(arm.members)} members, {SEEDS} seeds", flush=True)
                play(arm, workload, params)


if __name__ == "__main__":
    main()
