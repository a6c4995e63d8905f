"""The robustness protocol: one named grid of tests, the same for every policy and algorithm."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hinf_rl.envs.api import Env, EnvSpec
from hinf_rl.errors import UserError
from hinf_rl.evaluation import disturbances
from hinf_rl.evaluation.record import Intensity
from hinf_rl.evaluation.rollout import Evaluator, Progress
from hinf_rl.evaluation.summary import cell_of, gain_of
from hinf_rl.types import Array

PROTOCOL_NAME = "hinf-protocol-1"
"""Changes whenever a number that the protocol reports would change."""

_HELD_OUT = 0x48494E46  # training folds in seeds and counters far below: never this
OBJECTIVES = ("task", "fall")
"""What an attacker may seek: a low task reward, or the fall itself."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProtocolConfig:
    """The grid. The defaults are the protocol; other values are named as such in the results.

    Attributes:
      num_envs: episodes per cell.
      continuous_fractions: sizes of the continuous force, as fractions of the reference.
      sudden_fractions: sizes of the sudden pushes, as fractions of the reference.
      attack_fractions: sizes that each attacker is scaled to, as fractions of the reference.
      reference: disturbance that the fractions multiply, in the task's unit; None for the
        task's limit.
    """

    num_envs: int = 96
    continuous_fractions: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 1.5)
    sudden_fractions: tuple[float, ...] = (1.0, 1.5, 2.0)
    attack_fractions: tuple[float, ...] = (0.5, 1.0, 1.5)
    reference: float | None = None

    def __post_init__(self) -> None:
        if self.num_envs < 1:
            raise UserError(f"num_envs must be at least 1, got {self.num_envs}")
        for field in ("continuous_fractions", "sudden_fractions", "attack_fractions"):
            fractions = getattr(self, field)
            rising = all(a < b for a, b in itertools.pairwise(fractions))
            if not rising or 1.0 not in fractions or min(fractions) <= 0:
                raise UserError(
                    f"{field} must rise, be positive and include 1.0 (the headline), got "
                    f"{fractions}"
                )
        if self.reference is not None and not 0 < self.reference < math.inf:
            raise UserError(f"reference must be positive and finite, got {self.reference}")

    @classmethod
    def quick(cls, **changes: Any) -> "ProtocolConfig":
        """Returns a small grid with the same ends, for a first look and for tests."""
        small: dict[str, Any] = {
            "num_envs": 16,
            "continuous_fractions": (0.25, 1.0, 1.5),
            "sudden_fractions": (1.0, 2.0),
            "attack_fractions": (1.0,),
        }
        return cls(**{**small, **changes})

    @property
    def name(self) -> str:
        """The protocol's name, marked where the grid is not the protocol's own."""
        own = dataclasses.replace(self, reference=None) == ProtocolConfig()
        return PROTOCOL_NAME if own else f"{PROTOCOL_NAME} (changed grid)"


class TrainedAttacker(NamedTuple):
    """A disturber trained against the frozen policy.

    Attributes:
      name: unique among the attackers of one evaluation.
      objective: one of `OBJECTIVES`.
      policy: maps observations to forces up to the task's limit (up to the reference where the
        task has none).
    """

    name: str
    objective: str
    policy: Any


class _Group(NamedTuple):
    """Cells that differ in size only: one disturbance whose rows are cell after cell."""

    cells: dict[str, dict[str, Any]]  # labels by name
    disturbance: Any


def held_out_key(key: Array | None = None) -> Array:
    """Returns the key of the protocol's start states and forces, apart from any training key.

    Args:
      key: folded with the protocol's constant; by default the protocol's own key, so that all
        policies meet the same starts and the same pushes.
    """
    return jax.random.fold_in(jax.random.key(0) if key is None else key, _HELD_OUT)


def run_protocol(
    env: Env | Evaluator,
    policy: Any,
    attackers: Sequence[TrainedAttacker] = (),
    *,
    randomised_env: Env | Evaluator | None = None,
    config: ProtocolConfig | None = None,
    key: Array | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Measures a policy on the whole grid; all nominal cells run as one batch.

    Every cell starts from the same states, so cells can be compared pair by pair. Of the
    attackers, the one that leaves the lowest survival counts, at each size (at equal survival,
    the lowest task reward). `gain` is the largest ratio found of cost above nominal to
    intensity: a lower bound of the true gain.

    Args:
      env: the nominal environment of one instance, without randomisation; or its evaluator,
        which does not compile again for the next policy.
      policy: what is measured; its mean action is used.
      attackers: disturbers trained against it; without them no cell is "deliberate".
      randomised_env: the same task with randomised physics, for the cell "randomised".
      config: the grid.
      key: see `held_out_key`.
      progress: told in words how far the slow parts are.

    Returns:
      JSON-ready results: `protocol`, `task`, `cells` by name, `attacks` by name, and `gain`.

    Raises:
      UserError: the task has no limit and `config.reference` is None, or the attackers' names or
        objectives are wrong.
    """
    config = config or ProtocolConfig()
    _check_attackers(attackers)
    evaluator = _evaluator(env)
    spec, key = evaluator.env.spec, held_out_key(key)
    groups = list(_groups(spec, config, attackers))
    done = _run_groups(evaluator, policy, groups, config, key, _teller(progress, "grid"))
    if randomised_env is not None:
        evaluator = _evaluator(randomised_env)
        quiet = _quiet(evaluator.env.spec, "randomised")
        tell = _teller(progress, "randomised")
        done |= _run_groups(evaluator, policy, [quiet], config, key, tell)
    return _results(spec, config, done)


def _results(spec: EnvSpec, config: ProtocolConfig, done: dict[str, Any]) -> dict[str, Any]:
    attacks = {name: cell for name, cell in done.items() if cell["kind"] == "deliberate"}
    cells = {name: cell for name, cell in done.items() if name not in attacks}
    for name, cell in done.items():
        # Other physics have another nominal cost: no gain can be read from them.
        cell["gain"] = None if name == "randomised" else gain_of(cell, done["nominal"])
    for fraction in config.attack_fractions if attacks else ():
        rivals = [cell for cell in attacks.values() if cell["fraction"] == fraction]
        worst = min(rivals, key=lambda c: (c["num_survived"], c["task_reward_fraction"][0]))
        cells[f"deliberate-{fraction:g}"] = worst
    gains = {name: cell["gain"] for name, cell in done.items() if cell["gain"] is not None}
    largest = max(gains, key=lambda name: gains[name]) if gains else None
    return {
        "protocol": _describe(spec, config),
        "task": spec.name,
        "cells": cells,
        "attacks": attacks,
        "gain": {"value": gains[largest] if largest else None, "cell": largest},
    }


def _describe(spec: EnvSpec, config: ProtocolConfig) -> dict[str, Any]:
    intensity = Intensity.of(spec)
    return {
        "name": config.name,
        "num_envs": config.num_envs,
        "num_steps": spec.episode_length,
        "dt_s": spec.dt_s,
        "unit": spec.disturbance.unit,
        "reference": _reference(spec, config) if spec.disturbance.size else 0.0,
        "intensity_reference": intensity.reference,
        "intensity_power": intensity.power,
    }


def _groups(
    spec: EnvSpec, config: ProtocolConfig, attackers: Sequence[TrainedAttacker]
) -> Iterator[_Group]:
    """The cells of the nominal environment; "nominal" comes first."""
    yield _quiet(spec, "nominal")
    if spec.disturbance.size == 0:
        return
    reference, count = _reference(spec, config), config.num_envs
    for kind, make, fractions in (
        ("continuous", disturbances.continuous, config.continuous_fractions),
        ("sudden", disturbances.sudden, config.sudden_fractions),
    ):
        cells = _labels(kind, kind, fractions, reference)
        yield _Group(cells, make(spec, _sizes(fractions, reference, count), num_streams=count))
    limit, fractions = spec.disturbance.limit, config.attack_fractions
    for attacker in attackers:
        cells = _labels(attacker.name, "deliberate", fractions, reference)
        for labels in cells.values():
            labels |= {"attacker": attacker.name, "objective": attacker.objective}
        push = disturbances.Attacker(
            policy=attacker.policy,
            magnitude=_sizes(fractions, reference, count),
            limit=limit if 0 < limit < math.inf else reference,
        )
        yield _Group(cells, push)


def _quiet(spec: EnvSpec, kind: str) -> _Group:
    labels = {"kind": kind, "fraction": 0.0, "magnitude": 0.0}
    return _Group({kind: labels}, disturbances.Quiet(size=spec.disturbance.size))


def _labels(
    name: str, kind: str, fractions: Sequence[float], reference: float
) -> dict[str, dict[str, Any]]:
    return {
        f"{name}-{fraction:g}": {
            "kind": kind,
            "fraction": fraction,
            "magnitude": fraction * reference,
        }
        for fraction in fractions
    }


def _sizes(fractions: Sequence[float], reference: float, count: int) -> Array:
    """[F * count] sizes, `count` rows of each fraction."""
    return jnp.repeat(reference * jnp.array(fractions, jnp.float32), count)


def _evaluator(env: Env | Evaluator) -> Evaluator:
    return env if isinstance(env, Evaluator) else Evaluator(env)


def _run_groups(
    evaluator: Evaluator,
    policy: Any,
    groups: Sequence[_Group],
    config: ProtocolConfig,
    key: Array,
    progress: Progress | None,
) -> dict[str, dict[str, Any]]:
    """Runs all cells of all groups in one batch and returns them by name."""
    count = config.num_envs
    cells = {name: labels for group in groups for name, labels in group.cells.items()}
    blocks = disturbances.Blocks(
        parts=tuple(group.disturbance for group in groups),
        counts=tuple(count * len(group.cells) for group in groups),
    )
    record = evaluator(
        policy,
        blocks,
        key,
        num_envs=count * len(cells),
        num_starts=count,
        progress=progress,
    )
    return {
        name: cell_of(record.rows(i * count, (i + 1) * count), **labels)
        for i, (name, labels) in enumerate(cells.items())
    }


def _reference(spec: EnvSpec, config: ProtocolConfig) -> float:
    if config.reference is not None:
        return config.reference
    if not 0 < spec.disturbance.limit < math.inf:
        raise UserError(
            f"task {spec.name!r} has no finite disturbance limit to test at (it is "
            f"{spec.disturbance.limit} {spec.disturbance.unit}); set reference in ProtocolConfig"
        )
    return spec.disturbance.limit


def _check_attackers(attackers: Sequence[TrainedAttacker]) -> None:
    names = [attacker.name for attacker in attackers]
    taken = {"nominal", "randomised", "continuous", "sudden"} & set(names)
    if taken:
        raise UserError(f"an attacker must not be called {taken.pop()!r}, like a scripted cell")
    if len(set(names)) < len(names):
        raise UserError(f"attackers need different names, got {', '.join(names)}")
    for attacker in attackers:
        if attacker.objective not in OBJECTIVES:
            raise UserError(
                f"objective of attacker {attacker.name!r} must be one of "
                f"{', '.join(OBJECTIVES)}, got {attacker.objective!r}"
            )


def _teller(progress: Callable[[str], None] | None, part: str) -> Progress | None:
    if progress is None:
        return None

    def tell(done: int, total: int, left_s: float) -> None:
        progress(f"{part}: step {done} of {total}, about {left_s:.0f} s left")

    return tell


__all__ = [
    "OBJECTIVES",
    "PROTOCOL_NAME",
    "ProtocolConfig",
    "TrainedAttacker",
    "held_out_key",
    "run_protocol",
]
