"""Trains all arms of a setting side by side over seeds, then attacks every policy.

    python -m experiments.cartpole.run --setting main

Everything measured goes into one JSON file, written again after every stage; a second call
goes on behind the last finished stage.
"""

import dataclasses
import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.serialization
import jax
import numpy as np
import tyro

from experiments.cartpole.evaluate import attack_all, measure
from experiments.cartpole.settings import SETTINGS, Arm, Config, Setting, configure_arm
from hinf_rl.agents.api import Algorithm
from hinf_rl.agents.hinf import GaussianPolicy, make
from hinf_rl.envs.classic import CartPole
from hinf_rl.errors import UserError
from hinf_rl.evaluation.protocol import OBJECTIVES
from hinf_rl.evaluation.rollout import Evaluator
from hinf_rl.training.files import read_json, write_json
from hinf_rl.training.loop import seed_keys, train
from hinf_rl.training.provenance import provenance
from hinf_rl.training.run_directory import RunConfig
from hinf_rl.types import Array

CURVES = (
    "episode/length",
    "env/task_share",
    "constraint/multiplier",
    "constraint/slack",
    "constraint/intensity",
    "disturber/saturation",
)


def run(config: Config) -> dict[str, Any]:
    """Runs all stages that the results file lacks, and returns its content."""
    setting = SETTINGS[config.setting]
    config.out.mkdir(parents=True, exist_ok=True)
    path = config.out / f"{config.setting}.json"
    results = _start(config, setting, path)
    runs = {arm.name: configure_arm(config, setting, arm) for arm in setting.arms}
    policies = {}
    for arm in setting.arms:
        policies[arm.name] = _train_or_load(config, arm, runs[arm.name], results)
        write_json(path, results)
    shared = _one_structure(policies)
    evaluator = Evaluator(CartPole(runs[setting.arms[0].name].env))
    for name, members in shared.items():
        if "cells" not in results["arms"][name]:
            results["arms"][name]["cells"] = measure(config, setting, evaluator, members)
            write_json(path, results)
            _say(f"{name}: {_brief(results['arms'][name]['cells'])}")
    # The acceptance rule's attack comes first: the strongest that seeks the fall.
    for force_n, objective in itertools.product(setting.attack_n[::-1], OBJECTIVES[::-1]):
        cell = f"{objective}_{force_n:g}"
        if cell in results["attacks"]:
            continue
        results["attacks"][cell] = attack_all(
            config, evaluator, runs[setting.arms[0].name].agent, shared, objective, force_n
        )
        write_json(path, results)
        _say(f"{cell}: {_brief(results['attacks'][cell])}")
    force_n = setting.attack_n[-1]
    cell = f"stepfall_{force_n:g}"
    if cell not in results["attacks"]:
        results["attacks"][cell] = attack_all(
            config, evaluator, runs[setting.arms[0].name].agent, shared, "fall", force_n,
            explores_by_step=True,
        )  # fmt: skip
        write_json(path, results)
        _say(f"{cell}: {_brief(results['attacks'][cell])}")
    return results


def _train_or_load(
    config: Config, arm: Arm, run: RunConfig, results: dict[str, Any]
) -> GaussianPolicy:
    algorithm = make(run.agent, CartPole(run.env))
    keys = seed_keys(config.seed, config.seeds)
    saved = config.out / f"{config.setting}-{arm.name}.msgpack"
    shape = jax.eval_shape(lambda: jax.vmap(algorithm.init)(keys))
    policies = jax.eval_shape(algorithm.policy, shape)
    if arm.name in results["arms"] and saved.exists():
        params = flax.serialization.from_bytes(policies.params, saved.read_bytes())
        return policies.replace(params=params)
    policies, record = _train(algorithm, run.agent.iterations, keys)
    saved.write_bytes(flax.serialization.to_bytes(policies.params))
    results["arms"][arm.name] = {
        "algorithm": arm.algorithm,
        "attenuation": arm.attenuation,
        "training": record,
    }
    ends = {name: record["curves"][name][-1] for name in CURVES}
    _say(f"{arm.name} trained in {record['wall_s']:.0f} s: {ends}")
    return policies


def _train(
    algorithm: Algorithm, iterations: int, keys: Array
) -> tuple[GaussianPolicy, dict[str, Any]]:
    """Trains all seeds of one arm; the whole log is reduced to a few curves and one count."""
    log: list[Mapping[str, Any]] = []
    result = train(algorithm, iterations=iterations, keys=keys, callbacks=[log.append])
    if result.signal is not None:
        raise KeyboardInterrupt
    every = max(1, iterations // 40)
    shown = log[every - 1 :: every]
    curves = {name: [_rounded(record[name]) for record in shown] for name in CURVES}
    record = {
        "iterations": iterations,
        "env_steps": result.summary["env_steps"],
        "wall_s": round(result.summary["wall_s"], 1),
        "nonfinite_total": result.summary["nonfinite_total"],
        "curves": {"iteration": [record["iteration"] for record in shown], **curves},
        "dual": dual_agreement(log, algorithm.config),
    }
    return algorithm.policy(result.carry), record


def dual_agreement(log: Sequence[Mapping[str, Any]], agent: Any) -> dict[str, list[int]] | None:
    """Counts, per seed, the iterations in which the multiplier moved against the slack's sign.

    Only iterations in which it was free count: someone was pushed, and the move ended inside
    the multiplier's bounds.

    Returns:
      `free` and `against_slack`, or None where no multiplier is learned.
    """
    settings = agent.constraint
    if settings.multiplier != "dual":
        return None
    names = ("constraint/multiplier", "constraint/slack", "constraint/intensity")
    multiplier, slack, intensity = (np.array([r[name] for r in log], float) for name in names)
    before = np.vstack([np.full_like(multiplier[:1], settings.multiplier_init), multiplier[:-1]])
    inside = (multiplier > 0) & (multiplier < settings.multiplier_max)
    free = inside & (intensity > 0) & (slack != 0)
    against = free & (np.sign(multiplier - before) == -np.sign(slack))
    return {
        "free": free.sum(axis=0).tolist(),
        "against_slack": against.sum(axis=0).tolist(),
    }


def _start(config: Config, setting: Setting, path: Path) -> dict[str, Any]:
    given = {**dataclasses.asdict(config), "out": config.out.name}
    plan = {"config": given, "setting": _plain(dataclasses.asdict(setting))}
    if path.exists():
        results = read_json(path)
        if any(results[part] != plan[part] for part in plan):
            raise UserError(f"{path.name} holds results of another configuration; move it away")
        return results
    return {"experiment": "cartpole", **plan, "provenance": provenance(), "arms": {}, "attacks": {}}


def _one_structure(arms: Mapping[str, GaussianPolicy]) -> dict[str, GaussianPolicy]:
    """Gives all policies the first one's functions: they are alike, and so compile once."""
    structure = jax.tree.structure(next(iter(arms.values())))
    return {name: jax.tree.unflatten(structure, jax.tree.leaves(p)) for name, p in arms.items()}


def _rounded(row: Sequence[float | None]) -> list[float | None]:
    return [None if value is None else round(value, 4) for value in row]


def _plain(tree: Any) -> Any:
    """Tuples as JSON gives them back, so that a plan can be compared with a stored one."""
    if isinstance(tree, Mapping):
        return {key: _plain(value) for key, value in tree.items()}
    return [_plain(value) for value in tree] if isinstance(tree, list | tuple) else tree


def _brief(cells: Mapping[str, Any]) -> str:
    rows = cells.get("arms", cells)
    return ", ".join(f"{name} {np.mean(cell['survival']):.2f}" for name, cell in rows.items())


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


if __name__ == "__main__":
    run(tyro.cli(Config))
