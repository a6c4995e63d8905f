"""Sim-to-sim: does an exported policy do in plain MuJoCo what it did where it was trained?"""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hinf_rl.errors import UserError
from hinf_rl.evaluation.statistics import Interval, wilson_interval
from hinf_rl.export.files import load_runner
from hinf_rl.export.simulation import Motor, Simulation, Trace, draw_scenario
from hinf_rl.export.source import CELLS, Source, load_source

EPISODES = 96
"""Episodes of each condition where nothing else is asked for."""

# Chance of a false alarm in one verification, over all its cells.
_FALSE_ALARM = 0.01
_SEED = 0x53494D32
# Largest difference of actions, relative to the largest action.
_ACTION_TOLERANCE = 1e-3
# Steps of the trace that the trained policy is asked about.
_ASKED_STEPS = 64

_Tell = Callable[[str], None]


class Cell(NamedTuple):
    """One condition.

    Attributes:
      name: cell of the protocol.
      magnitude_n: size of the force.
      exported: (survived, episodes) in plain MuJoCo.
      trained: the same where the policy was trained; None where nobody measured it.
      velocity_error: mean over the episodes in plain MuJoCo (m/s).
    """

    name: str
    magnitude_n: float
    exported: tuple[int, int]
    trained: tuple[int, int] | None
    velocity_error: float

    def agrees(self, confidence: float) -> bool:
        """Whether the difference of the shares may be chance."""
        if self.trained is None:
            return True
        difference = newcombe_interval(self.exported, self.trained, confidence=confidence)
        return difference.low <= 0.0 <= difference.high

    def describe(self) -> str:
        """One line."""
        line = f"{self.name:<14} {self.magnitude_n:5.0f} N   exported {_share(*self.exported)}"
        if self.trained is not None:
            line += f"   trained {_share(*self.trained)}"
        return f"{line}   velocity error {self.velocity_error:.2f} m/s"


class Verification(NamedTuple):
    """The outcome.

    Attributes:
      cells: one per condition.
      action_difference: largest difference to the trained policy's actions on what the exported
        one saw; None without a run.
      disagreements: what is wrong, in words; empty where both agree.
    """

    cells: list[Cell]
    action_difference: float | None
    disagreements: list[str]


def verify(
    path: Path | str,
    *,
    task: str | None = None,
    run: Path | None = None,
    episodes: int = EPISODES,
    motor: Motor = "servo",
    tell: _Tell | None = None,
) -> Verification:
    """Runs an exported quadruped policy in plain MuJoCo, and compares where there is a measure.

    Survival is compared cell by cell through Newcombe's interval of the difference of two shares,
    at a level that makes one false alarm in a hundred verifications. The trained policy's
    survival is taken from the exported file (which has it where the run had been evaluated), else
    measured on `run`.

    Args:
      path: `.onnx` or `.py` file.
      task: what the policy must be of; None accepts what it is.
      run: the run directory that it came from; its actions are compared as well.
      episodes: of each cell.
      motor: see `Simulation`; what a "torque" motor changes is no fault of the file.
      tell: receives progress in words.

    Raises:
      UserError: no such file, another task, no quadruped, or another run.
    """
    if episodes < 1:
        raise UserError(f"episodes must be at least 1, got {episodes}")
    runner = load_runner(path)
    _check_task(runner.metadata, task, str(path))
    source = None if run is None else _matching(run, runner.metadata, str(path))
    simulation = Simulation(runner, motor)
    traces = {}
    for name in CELLS:
        kind, magnitude = _condition(name, runner.metadata)
        (tell or _silent)(f"{name}: {episodes} episodes in plain MuJoCo")
        scenario = draw_scenario(
            runner.metadata, kind, magnitude, episodes=episodes, seed=_SEED + len(traces)
        )
        traces[name] = simulation.run(scenario)
    trained = _trained(runner.metadata, source, episodes, tell or _silent)
    cells = [_cell(name, trace, runner.metadata, trained) for name, trace in traces.items()]
    difference = None if source is None else _action_difference(source, traces)
    return Verification(cells, difference, _disagreements(cells, difference, traces))


def newcombe_interval(
    first: tuple[int, int], second: tuple[int, int], *, confidence: float
) -> Interval:
    """Interval of the difference of two shares, from the Wilson interval of each.

    `d - sqrt((p1 - l1)^2 + (u2 - p2)^2)` to `d + sqrt((u1 - p1)^2 + (p2 - l2)^2)`.
    Source: Newcombe 1998, method 10.

    Args:
      first: (successes, trials).
      second: the same of what is subtracted.
      confidence: coverage aimed at, in (0, 1).
    """
    p, p_low, p_high = wilson_interval(*first, confidence=confidence)
    q, q_low, q_high = wilson_interval(*second, confidence=confidence)
    low = p - q - math.hypot(p - p_low, q_high - q)
    return Interval(p - q, low, p - q + math.hypot(p_high - p, q - q_low))


def _check_task(metadata: dict[str, Any], task: str | None, name: str) -> None:
    found = metadata["task"]
    if task is not None and task != found:
        raise UserError(f"{name} is a policy of task {found!r}, not {task!r}")
    if "robot" not in metadata:
        raise UserError(
            f"{name} is a policy of task {found!r}, which plain MuJoCo does not simulate here; "
            "only quadrupeds can be verified"
        )


def _matching(run: Path, metadata: dict[str, Any], name: str) -> Source:
    """The run's policy, if the file can be an export of it."""
    from hinf_rl.training.run_directory import read_config

    config = read_config(run)
    if config.task != metadata["task"]:
        raise UserError(f"{run} is a run of task {config.task!r}, {name} of {metadata['task']!r}")
    source = load_source(run, seed_index=metadata["seed_index"], unfinished=True)
    for key in ("algorithm", "iterations", "environment"):
        if source.metadata[key] != metadata[key]:
            raise UserError(
                f"{name} is no export of {run} as it is now: {key} differs; export it again"
            )
    return source


def _condition(name: str, metadata: dict[str, Any]) -> tuple[str, float]:
    kind, _, fraction = name.partition("-")
    return kind, float(fraction or 0) * metadata["push_limit_n"]


def _trained(
    metadata: dict[str, Any], source: Source | None, episodes: int, tell: _Tell
) -> dict[str, tuple[int, int]]:
    """(survived, episodes) by cell, where the policy was trained."""
    known = metadata["survival"]
    if source is not None:
        known = source.metadata["survival"] or known or _measure(source, episodes, tell)
    return {name: (counts[0], counts[1]) for name, counts in (known or {}).items()}


def _measure(source: Source, episodes: int, tell: _Tell) -> dict[str, list[int]]:
    """Runs the protocol's cells in the training environment."""
    from hinf_rl.evaluation.protocol import ProtocolConfig, run_protocol
    from hinf_rl.tasks import get_task

    tell(f"the same in the environment of the run: {episodes} episodes of each cell")
    nominal = dataclasses.replace(source.config.env, randomise=False, physics="native")
    found = run_protocol(
        get_task(source.config.task).make_env(nominal),
        source.policy,
        config=ProtocolConfig(
            num_envs=episodes, continuous_fractions=(1.0,), sudden_fractions=(1.0, 2.0)
        ),
    )
    cells = found["cells"]
    return {name: [cells[name]["num_survived"], cells[name]["num_episodes"]] for name in CELLS}


def _cell(
    name: str, trace: Trace, metadata: dict[str, Any], trained: dict[str, tuple[int, int]]
) -> Cell:
    return Cell(
        name=name,
        magnitude_n=_condition(name, metadata)[1],
        exported=(int(trace.survived.sum()), len(trace.survived)),
        trained=trained.get(name),
        velocity_error=float(trace.velocity_error.mean()),
    )


def _action_difference(source: Source, traces: dict[str, Trace]) -> float:
    """Asks the trained policy about evenly spaced observations of the exported one."""
    worst = 0.0
    for trace in traces.values():
        every = max(1, len(trace.actions) // _ASKED_STEPS)
        observations = trace.observations[::every]
        asked = np.asarray(source.policy({"policy": observations}))
        limit = source.layout.action_limit
        asked = asked if limit is None else np.clip(asked, -limit, limit)
        worst = max(worst, float(np.abs(asked - trace.actions[::every]).max()))
    return worst


def _disagreements(
    cells: list[Cell], difference: float | None, traces: dict[str, Trace]
) -> list[str]:
    confidence = 1.0 - _FALSE_ALARM / len(cells)
    found = [
        f"{cell.name}: survival differs by more than chance: exported {_share(*cell.exported)}, "
        f"trained {_share(*cell.trained)}"
        for cell in cells
        if cell.trained is not None and not cell.agrees(confidence)
    ]
    if difference is not None:
        largest = max(float(np.abs(trace.actions).max()) for trace in traces.values())
        bound = _ACTION_TOLERANCE * max(1.0, largest)
        if not difference <= bound:
            found.append(f"actions differ by up to {difference:.2g}, more than {bound:.2g}")
    return found


def _share(survived: int, episodes: int) -> str:
    share, low, high = wilson_interval(survived, episodes)
    return f"{survived}/{episodes} = {share:.2f} [{low:.2f}, {high:.2f}]"


def _silent(text: str) -> None:
    del text


__all__ = ["EPISODES", "Cell", "Verification", "newcombe_interval", "verify"]
