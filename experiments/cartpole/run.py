"""Trains all arms of a setting side by side over seeds, then attacks every policy.

    python -m experiments.cartpole.run --setting main

Everything measured goes into one JSON file, written again after every stage; a second call
goes on behind the last finished stage.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from numpy.typing import NDArray

from hinf_rl.agents.api import Algorithm
from hinf_rl.agents.hinf import GaussianPolicy, make
from hinf_rl.agents.hinf.attack import attack_config, make_attack
from hinf_rl.envs.classic import CartPole
from hinf_rl.errors import UserError, unknown_name
from hinf_rl.evaluation.disturbances import Attacker, Blocks, Continuous, Quiet, sudden
from hinf_rl.evaluation.protocol import OBJECTIVES, held_out_key
from hinf_rl.evaluation.record import EpisodeRecord
from hinf_rl.evaluation.rollout import Evaluator
from hinf_rl.tasks import configure
from hinf_rl.training.files import read_json, write_json
from hinf_rl.training.loop import seed_keys, train
from hinf_rl.training.provenance import provenance
from hinf_rl.training.run_directory import RunConfig
from hinf_rl.types import Array, PyTree

HOLD_S = 0.5
"""How long a random force is held, in training and in the tests."""

CURVES = (
    "episode/length",
    "env/task_share",
    "constraint/multiplier",
    "constraint/slack",
    "constraint/intensity",
    "disturber/saturation",
)
_RESULTS = Path(__file__).parent / "results"


class Arm(NamedTuple):
    """One way to train: an algorithm, and its price eta of force where it has one."""

    name: str
    algorithm: str
    attenuation: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """A training set-up and the tests that its policies meet.

    Attributes:
      limit_n: bound of the force in training, in N.
      iterations: length of training, 4096 environment steps each.
      undisturbed_fraction: share of the environments that nobody pushes.
      arms: what is compared.
      held_n, impulse_n: sizes of random held forces and of pushes of 0.2 s, in N.
      attack_n: bounds of the fresh attackers, in N.
    """

    limit_n: float
    iterations: int
    undisturbed_fraction: float
    arms: tuple[Arm, ...]
    held_n: tuple[float, ...]
    attack_n: tuple[float, ...]
    impulse_n: tuple[float, ...] = (1.5, 3.0, 4.5)


_BASELINES = (
    Arm("none", "nominal"),
    Arm("random", "domain_randomisation"),
    Arm("unconstrained", "unconstrained"),
)
SETTINGS = {
    "main": Setting(
        limit_n=0.6,
        iterations=800,
        undisturbed_fraction=0.25,
        arms=(*_BASELINES, Arm("hinf", "hinf", 2.0)),
        held_n=(0.6, 0.9),
        attack_n=(0.6, 0.9),
    ),
    "hard": Setting(
        limit_n=1.0,
        iterations=400,
        undisturbed_fraction=0.0,
        arms=(*_BASELINES, Arm("hinf_eta1", "hinf", 1.0), Arm("hinf_eta3", "hinf", 3.0)),
        held_n=(1.0,),
        attack_n=(0.5, 1.0),
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What one call does.

    Attributes:
      setting: name in `SETTINGS`.
      seeds: training seeds, trained side by side.
      seed: base of all keys.
      attackers: fresh attackers per policy, objective and bound; the worst counts.
      attack_iterations: length of an attack.
      num_envs: test episodes per cell.
      iterations: length of training; None takes the setting's.
      out: folder of the results.
    """

    setting: str = "main"
    seeds: int = 5
    seed: int = 1
    attackers: int = 3
    attack_iterations: int = 80
    num_envs: int = 256
    iterations: int | None = None
    out: Path = _RESULTS

    def __post_init__(self) -> None:
        if self.setting not in SETTINGS:
            raise unknown_name("setting", self.setting, SETTINGS)
        if self.seeds < 2:
            raise UserError(f"seeds must be at least 2 to show a spread, got {self.seeds}")


class Trained(NamedTuple):
    """Policies of one arm: leaves [seeds, ...], with the settings that they came from."""

    policies: GaussianPolicy
    agent: Any
    record: dict[str, Any]


def run(config: Config) -> dict[str, Any]:
    """Runs all stages that the results file lacks, and returns its content."""
    setting = SETTINGS[config.setting]
    config.out.mkdir(parents=True, exist_ok=True)
    path = config.out / f"{config.setting}.json"
    results = _start(config, setting, path)
    runs = {arm.name: configure_arm(config, setting, arm) for arm in setting.arms}
    trained = {}
    for arm in setting.arms:
        trained[arm.name] = _train_or_load(config, arm, runs[arm.name], results)
        write_json(path, results)
    shared = _one_structure({name: arm.policies for name, arm in trained.items()})
    evaluator = Evaluator(CartPole(runs[setting.arms[0].name].env))
    for name, policies in shared.items():
        if "cells" not in results["arms"][name]:
            results["arms"][name]["cells"] = measure(config, setting, evaluator, policies)
            write_json(path, results)
            _say(f"{name}: {_brief(results['arms'][name]['cells'])}")
    for objective in OBJECTIVES:
        for force_n in setting.attack_n:
            cell = f"{objective}_{force_n:g}"
            if cell in results["attacks"]:
                continue
            results["attacks"][cell] = attack_all(
                config, evaluator, runs[setting.arms[0].name].agent, shared, objective, force_n
            )
            write_json(path, results)
            _say(f"{cell}: {_brief(results['attacks'][cell])}")
    return results


def configure_arm(config: Config, setting: Setting, arm: Arm) -> RunConfig:
    """Settings of one arm; all arms see equally many environment steps."""
    overrides: dict[str, Any] = {
        "env.disturbance_limit_n": setting.limit_n,
        "agent.iterations": config.iterations or setting.iterations,
        "agent.disturbance.undisturbed_fraction": setting.undisturbed_fraction,
        "agent.disturbance.hold_s": (HOLD_S, HOLD_S),
    }
    if arm.attenuation is not None:
        overrides["agent.constraint.attenuation"] = arm.attenuation
    return configure("cartpole", arm.algorithm, overrides)


def measure(
    config: Config, setting: Setting, evaluator: Evaluator, policies: GaussianPolicy
) -> dict[str, Any]:
    """Tests without attackers: nominal, random held forces, pushes; one value per seed.

    "held" draws the force uniformly within its bound, as training does; "full" takes the bound
    with a random sign.
    """
    spec = evaluator.env.spec
    hold_steps = round(HOLD_S / spec.dt_s)
    tests: dict[str, Any] = {"nominal": Quiet(spec.disturbance.size)}
    for kind, fill_ball in (("held", True), ("full", False)):
        for force_n in setting.held_n:
            tests[f"{kind}_{force_n:g}"] = Continuous(
                magnitude=jnp.float32(force_n),
                size=spec.disturbance.size,
                hold_steps=hold_steps,
                fill_ball=fill_ball,
            )
    tests |= {f"impulse_{n:g}": sudden(spec, n) for n in setting.impulse_n}
    blocks = Blocks(parts=tuple(tests.values()), counts=(config.num_envs,) * len(tests))
    per_seed = [
        _by_block(
            evaluator(
                _member(policies, seed),
                blocks,
                held_out_key(),
                num_envs=config.num_envs * len(tests),
                num_starts=config.num_envs,
            ),
            list(tests),
        )
        for seed in range(config.seeds)
    ]
    return {
        name: {key: [cells[name][key] for cells in per_seed] for key in per_seed[0][name]}
        for name in tests
    }


def attack_all(
    config: Config,
    evaluator: Evaluator,
    agent: Any,
    arms: Mapping[str, GaussianPolicy],
    objective: Any,
    force_n: float,
) -> dict[str, Any]:
    """Trains fresh attackers against every policy of every arm at once, and tests them.

    Returns:
      For each arm `survival`, `task_reward` and `intensity` as [seed][attacker].
    """
    disturbance = dataclasses.replace(agent.disturbance, limit=force_n)
    settings = attack_config(
        dataclasses.replace(agent, disturbance=disturbance),
        objective=objective,
        iterations=config.attack_iterations,
    )
    attack = jax.jit(jax.vmap(jax.vmap(make_attack(evaluator.env, settings), (None, 0)), (0, 0)))
    policies = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *arms.values())
    keys = _attack_keys(config, objective, force_n, len(arms))
    start_s = time.perf_counter()
    attackers, _ = jax.block_until_ready(attack(policies, keys))
    cells: dict[str, Any] = {"wall_s": round(time.perf_counter() - start_s, 1), "arms": {}}
    for index, name in enumerate(arms):
        rows = []
        for seed in range(config.seeds):
            row = index * config.seeds + seed
            rows.append(
                _face(config, evaluator, _member(policies, row), _member(attackers, row), force_n)
            )
        cells["arms"][name] = {
            key: [[attacker[key] for attacker in row] for row in rows] for key in rows[0][0]
        }
    return cells


def _face(
    config: Config, evaluator: Evaluator, policy: Any, attackers: PyTree, force_n: float
) -> list[dict[str, float]]:
    """One policy against each of its attackers."""
    parts = tuple(
        Attacker(policy=_member(attackers, i), magnitude=jnp.float32(force_n), limit=force_n)
        for i in range(config.attackers)
    )
    record = evaluator(
        policy,
        Blocks(parts=parts, counts=(config.num_envs,) * config.attackers),
        held_out_key(),
        num_envs=config.num_envs * config.attackers,
        num_starts=config.num_envs,
    )
    return list(_by_block(record, [str(i) for i in range(config.attackers)]).values())


def _attack_keys(config: Config, objective: str, force_n: float, num_arms: int) -> Array:
    """[arms * seeds, attackers] keys; every arm meets attackers drawn from the same keys."""
    base = held_out_key(jax.random.key(config.seed))
    base = jax.random.fold_in(base, OBJECTIVES.index(objective))
    base = jax.random.fold_in(base, round(1000 * force_n))
    one_arm = jax.random.split(base, (config.seeds, config.attackers))
    return jnp.concatenate([one_arm] * num_arms)


def _train_or_load(config: Config, arm: Arm, run: RunConfig, results: dict[str, Any]) -> Trained:
    algorithm = make(run.agent, CartPole(run.env))
    keys = seed_keys(config.seed, config.seeds)
    saved = config.out / f"{config.setting}-{arm.name}.msgpack"
    shape = jax.eval_shape(lambda: jax.vmap(algorithm.init)(keys))
    policies = jax.eval_shape(algorithm.policy, shape)
    if arm.name in results["arms"] and saved.exists():
        policies = flax.serialization.from_bytes(policies, saved.read_bytes())
        return Trained(policies, run.agent, results["arms"][arm.name]["training"])
    policies, record = _train(algorithm, run.agent.iterations, keys)
    saved.write_bytes(flax.serialization.to_bytes(policies))
    results["arms"][arm.name] = {
        "algorithm": arm.algorithm,
        "attenuation": arm.attenuation,
        "training": record,
    }
    ends = {name: record["curves"][name][-1] for name in CURVES}
    _say(f"{arm.name} trained in {record['wall_s']:.0f} s: {ends}")
    return Trained(policies, run.agent, record)


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

    Only iterations in which it was free count: someone was pushed, and neither bound of the
    multiplier was touched before or after the move.

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
    # The first slack below zero lifts a multiplier off its bound: that move is free as well.
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


def _by_block(record: EpisodeRecord, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Splits a batch into its blocks and reduces each to means."""
    size = len(record.survived) // len(names)
    measures = {
        "survival": record.survived,
        "task_reward": record.task_reward_fraction,
        "intensity": record.intensity,
    }
    return {
        name: {key: _mean(x[i * size : (i + 1) * size]) for key, x in measures.items()}
        for i, name in enumerate(names)
    }


def _mean(values: NDArray[Any]) -> float:
    return round(float(np.mean(values)), 5)


def _rounded(row: Sequence[float | None]) -> list[float | None]:
    return [None if value is None else round(value, 4) for value in row]


def _member(tree: PyTree, index: int) -> PyTree:
    return jax.tree.map(lambda x: x[index], tree)


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
