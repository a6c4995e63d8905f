"""What every policy meets: scripted forces, and attackers trained against it."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from experiments.cartpole.settings import HOLD_S, Config, Setting
from hinf_rl.agents.hinf import GaussianPolicy
from hinf_rl.agents.hinf.attack import attack_config, make_attack
from hinf_rl.evaluation.disturbances import Attacker, Blocks, Continuous, Quiet, sudden
from hinf_rl.evaluation.protocol import OBJECTIVES, held_out_key
from hinf_rl.evaluation.record import EpisodeRecord
from hinf_rl.evaluation.rollout import Evaluator
from hinf_rl.types import Array, PyTree


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
    *,
    explores_by_step: bool = False,
) -> dict[str, Any]:
    """Trains fresh attackers against every policy of every arm at once, and tests them.

    Args:
      config: seeds, attackers, iterations.
      evaluator: of the environment.
      agent: settings of the policies' training.
      arms: policies, seeds along the first axis.
      objective: "task" or "fall".
      force_n: bound of the attackers.
      explores_by_step: explore as the disturber of the training does, a small force redrawn at
        every step, instead of with held forces of the bound's size.

    Returns:
      For each arm `survival`, `task_reward` and `intensity` as [seed][attacker].
    """
    disturbance = dataclasses.replace(agent.disturbance, limit=force_n)
    settings = attack_config(
        dataclasses.replace(agent, disturbance=disturbance),
        objective=objective,
        iterations=config.attack_iterations,
    )
    if explores_by_step:
        settings = dataclasses.replace(
            settings,
            disturbance=dataclasses.replace(
                settings.disturbance, decision_s=0.0, player=agent.disturbance.player
            ),
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


def _member(tree: PyTree, index: int) -> PyTree:
    return jax.tree.map(lambda x: x[index], tree)


__all__ = ["attack_all", "measure"]
