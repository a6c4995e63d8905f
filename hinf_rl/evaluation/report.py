"""From a run directory to its report: protocol, attackers, pictures, text."""

import dataclasses
import math
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from hinf_rl.errors import UserError
from hinf_rl.evaluation.markdown import report_text
from hinf_rl.evaluation.pictures import (
    RENDER_S,
    Subject,
    Tell,
    draw_figures,
    draw_films,
    draw_films_or_say_why,
)
from hinf_rl.evaluation.protocol import (
    OBJECTIVES,
    ProtocolConfig,
    TrainedAttacker,
    held_out_key,
    run_protocol,
)
from hinf_rl.evaluation.render import Rendered
from hinf_rl.evaluation.rollout import Evaluator
from hinf_rl.evaluation.summary import merge_results

_ATTACK_KEY = 1  # folded into the held-out key: attackers never see the starts of the tests


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttackPlan:
    """How many attackers are trained against each policy, and for how long.

    Attributes:
      per_objective: attackers that seek a low task reward, and as many that seek the fall. One
        start is luck: take two or three for a number that others are to rely on.
      iterations: training iterations of each.
      num_envs: parallel environments of each.
      size: bound that they train with, relative to the task's; above 1, attackers see policies
        fall that withstand everything within the bound.
    """

    per_objective: int = 1
    iterations: int = 100
    num_envs: int = 256
    size: float = 1.5

    def __post_init__(self) -> None:
        if self.per_objective < 0 or self.iterations < 1 or self.num_envs < 1:
            raise UserError(
                "per_objective must be at least 0, iterations and num_envs at least 1, got "
                f"{self.per_objective}, {self.iterations} and {self.num_envs}"
            )
        if not self.size > 0:
            raise UserError(f"size of the attack must be positive, got {self.size}")

    @classmethod
    def quick(cls) -> "AttackPlan":
        """Returns a plan for a first look."""
        return cls(iterations=10, num_envs=64)


class _Run(NamedTuple):
    config: Any
    policies: list[Any]
    disturbers: list[Any]
    nominal_env: Any
    randomised_env: Any


def evaluate_run(
    run_dir: Path | str,
    *,
    quick: bool = False,
    protocol: ProtocolConfig | None = None,
    attacks: AttackPlan | None = None,
    baseline: Path | str | None = None,
    pictures: bool = True,
    physics: str | None = None,
    tell: Tell | None = None,
) -> dict[str, Any]:
    """Runs the protocol on every seed of a run and writes its report.

    Args:
      run_dir: a run directory with a checkpoint.
      quick: a small grid and short attacks, for a first look.
      protocol: the grid; by default the protocol's own, or the quick one.
      attacks: the attackers; by default the plan's own, or the quick one.
      baseline: another run's directory, evaluated before, to draw beside this one.
      pictures: whether to render episodes too.
      physics: tests and attacks on this physics ("native", "mjx") instead of the run's own.
      tell: receives progress in words; standard error by default.

    Returns:
      The results, as written to `report/results.json`.
    """
    tell = tell or _to_stderr
    protocol = protocol or (ProtocolConfig.quick() if quick else ProtocolConfig())
    attacks = attacks or (AttackPlan.quick() if quick else AttackPlan())
    run_dir = Path(run_dir)
    others = {} if baseline is None else {_label(baseline): read_results(baseline)}
    run = _load(run_dir, physics)
    other = None if baseline is None or not pictures else _load_other(run, Path(baseline))
    protocol, notes = _with_reference(run, protocol)
    nominal = Evaluator(run.nominal_env)
    randomised = None if run.randomised_env is None else Evaluator(run.randomised_env)
    per_seed = []
    for seed, policy in enumerate(run.policies):
        part = f"seed {seed + 1} of {len(run.policies)}"
        attackers = list(_train_attackers(run, policy, attacks, seed, tell, part))
        per_seed.append(
            run_protocol(
                nominal,
                policy,
                attackers,
                randomised_env=randomised,
                config=protocol,
                progress=lambda text, part=part: tell(f"{part}, {text}"),
            )
        )
    if pictures:
        subject = _subject(run, run.config.algorithm if other is None else _label(run_dir))
        notes += draw_films_or_say_why(subject, run_dir / "report", tell, other=other)
    results = {
        **merge_results(per_seed),
        "algorithm": run.config.algorithm,
        "attack_plan": dataclasses.asdict(attacks),
        "notes": notes,
        "provenance": _provenance(run_dir),
        "per_seed": per_seed,
    }
    write_report(run_dir, results, others=others)
    return results


def render_run(
    run_dir: Path | str,
    *,
    seed: int = 0,
    seconds: float = RENDER_S,
    beside: Path | str | None = None,
    tell: Tell | None = None,
) -> dict[str, Rendered]:
    """Draws episodes of a run under sudden pushes and under its own disturber.

    Args:
      run_dir: a run directory with a checkpoint.
      seed: which of the run's seeds is drawn.
      seconds: longest episode.
      beside: another run of the task, whose policy is filmed beside this one under the same
        pushes.
      tell: receives progress in words; standard error by default.

    Returns:
      The files of each episode, by name.

    Raises:
      UserError: the run has no such seed, its task has no picture, or the other run is of
        another task.
    """
    tell = tell or _to_stderr
    run = _load(Path(run_dir))
    other = None if beside is None else _load_other(run, Path(beside))
    count = len(run.policies)
    if not 0 <= seed < count:
        raise UserError(f"seed {seed} does not exist; this run has seeds 0 to {count - 1}")
    label = run.config.algorithm if other is None else _label(run_dir)
    films = draw_films(
        _subject(run, label, seed), Path(run_dir) / "report", tell, seconds=seconds, other=other
    )
    for note in sorted({film.note for film in films.values() if film.note}):
        tell(note)
    return films


def write_report(
    run_dir: Path | str,
    results: Mapping[str, Any],
    *,
    others: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """Writes `report/results.json`, the figures and `report/report.md`; returns the last.

    Args:
      run_dir: the run directory.
      results: of `evaluate_run`.
      others: label to results to draw beside these.
    """
    from hinf_rl.training.files import write_atomic, write_json

    folder = Path(run_dir) / "report"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "results.json", results)
    draw_figures(Path(run_dir), results, others or {})
    write_atomic(folder / "report.md", report_text(results, folder))
    return folder / "report.md"


def read_results(run_dir: Path | str) -> dict[str, Any]:
    """Reads the results of an evaluated run.

    Raises:
      UserError: the run has not been evaluated, or the file is damaged.
    """
    from hinf_rl.training.files import read_json

    path = Path(run_dir) / "report" / "results.json"
    if not path.exists():
        raise UserError(f"{path} is missing; run `hinf-rl evaluate {run_dir}` first")
    return read_json(path)


def _load(run_dir: Path, physics: str | None = None) -> _Run:
    from hinf_rl.tasks import get_task
    from hinf_rl.training.checkpoint import select_seed
    from hinf_rl.training.run_directory import load_run

    config, algorithm, carry = load_run(run_dir)
    carries = [carry]
    if config.seeds > 1:
        carries = [select_seed(carry, seed) for seed in range(config.seeds)]
    task, env = get_task(config.task), config.env
    if physics is not None:
        env = dataclasses.replace(env, physics=physics)
    can_randomise = hasattr(env, "randomise")
    nominal = dataclasses.replace(env, randomise=False) if can_randomise else env
    return _Run(
        config=config,
        policies=[algorithm.policy(one) for one in carries],
        disturbers=[algorithm.disturber(one) for one in carries],
        nominal_env=task.make_env(nominal),
        randomised_env=(
            task.make_env(dataclasses.replace(env, randomise=True)) if can_randomise else None
        ),
    )


def _is_bounded(run: _Run) -> bool:
    return 0 < run.nominal_env.spec.disturbance.limit < math.inf


def _with_reference(run: _Run, protocol: ProtocolConfig) -> tuple[ProtocolConfig, list[str]]:
    """A task without a limit is tested at unit size, and without attackers; the notes say so."""
    spec = run.nominal_env.spec.disturbance
    if spec.size == 0 or _is_bounded(run):
        return protocol, []
    if protocol.reference is None:
        protocol = dataclasses.replace(protocol, reference=1.0)
    note = (
        f"disturbances of this task have no limit: sizes are fractions of {protocol.reference:g} "
        f"{spec.unit}, and no attacker is trained"
    )
    return protocol, [note]


def _train_attackers(
    run: _Run, policy: Any, plan: AttackPlan, seed: int, tell: Tell, part: str
) -> Iterator[TrainedAttacker]:
    if not _is_bounded(run) or plan.per_objective == 0:
        return
    from hinf_rl.agents.hinf.attack import train_attacker

    agent = run.config.agent
    key = jax.random.fold_in(jax.random.fold_in(held_out_key(), _ATTACK_KEY), seed)
    total = plan.per_objective * len(OBJECTIVES)
    begin = time.monotonic()
    for index in range(total):
        objective = OBJECTIVES[index % len(OBJECTIVES)]
        left = (time.monotonic() - begin) * (total - index) / index if index else None
        rest = "" if left is None else f", about {left:.0f} s left"
        tell(f"{part}, attacker {index + 1} of {total} (seeks the {objective}){rest}")
        attacker = train_attacker(
            run.nominal_env,
            policy,
            agent,
            jax.random.fold_in(key, index),
            objective=objective,
            iterations=plan.iterations,
            num_envs=plan.num_envs,
            size=plan.size,
        )
        # Waiting here keeps the estimate honest: the call itself returns at once.
        jax.block_until_ready(jax.tree.leaves(attacker))
        yield TrainedAttacker(f"{objective}-{index // len(OBJECTIVES)}", objective, attacker)


def _subject(run: _Run, label: str, seed: int = 0) -> Subject:
    is_attacked = run.config.agent.disturbance.source == "learned"
    return Subject(
        label=label,
        env=run.nominal_env,
        policy=run.policies[seed],
        disturber=run.disturbers[seed] if is_attacked else None,
    )


def _load_other(run: _Run, path: Path) -> Subject:
    """Loads the first seed of a run of the same task."""
    from hinf_rl.training.run_directory import read_config

    task = read_config(path).task
    if task != run.config.task:
        raise UserError(
            f"{path} is of task {task!r}, not {run.config.task!r}; choose a run of one task"
        )
    return _subject(_load(path), _label(path))


def _label(path: Path | str) -> str:
    """What a run is called beside another one."""
    return Path(path).resolve().name


def _provenance(run_dir: Path) -> dict[str, Any]:
    from hinf_rl.training.files import read_json
    from hinf_rl.training.provenance import provenance

    manifest = run_dir / "manifest.json"
    return {
        "evaluation": provenance(),
        "training": read_json(manifest) if manifest.exists() else {},
    }


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


__all__ = [
    "AttackPlan",
    "evaluate_run",
    "read_results",
    "render_run",
    "write_report",
]
