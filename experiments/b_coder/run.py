"""B-Coder and its baselines on small programming languages with a checkpoint full of bugs.

Usage: python -m experiments.b_coder.run [--machine stack_machine|list_machine|all]
         [--groups main alpha scarce] [--seeds 100 101 102] [--output FOLDER]

One JSON file per arm and one of the checkpoints, written after every seed; what is there already is
not computed again.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.b_coder.arms import ARMS, GROUPS, SEEDS, TASKS, Arm
from experiments.b_coder.checkpoint import CURVE_SAMPLES, Bundle, Maker
from hinf_rl.agents.bcoder import BCoderConfig, Carry, Material, make
from hinf_rl.agents.bcoder.evaluate import ranker_report, sampler_report
from hinf_rl.config import to_dict
from hinf_rl.errors import UserError
from hinf_rl.program_report import CANDIDATES, Evaluator
from hinf_rl.program_tasks import ProgramConfig, ProgramSource
from hinf_rl.training.compiled import Call, compile_call
from hinf_rl.training.files import read_json, write_json
from hinf_rl.training.provenance import provenance
from hinf_rl.types import Array

RESULTS = Path(__file__).parent / "results"
CURVE_EVERY = 100


class StoredSource(ProgramSource):
    """A source whose checkpoint and samples are there already."""

    def __init__(self, config: ProgramConfig, material: Material) -> None:
        super().__init__(config)
        self._material = material

    def material(self, key: Array) -> Material:
        return self._material


class ArmRunner:
    """Trains one arm; its seeds share what was compiled."""

    def __init__(self, arm: Arm, base: ProgramConfig) -> None:
        self.arm, self._task = arm, arm.task(base)
        self.agent: BCoderConfig = arm.agent
        self._evaluator = Evaluator(self._task, self.agent)
        self._call: Call | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What the results depend on, JSON values."""
        return {
            "algorithm": self.arm.algorithm,
            "agent": to_dict(self.agent),
            "task": to_dict(self._task),
        }

    def __call__(self, bundle: Bundle, seed: int) -> dict[str, Any]:
        """Trains and measures one seed."""
        key, *keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), 3), 4)
        start_s = time.perf_counter()
        carry = self._first_carry(bundle, key)
        step = make(self.agent, ProgramSource(self._task)).step
        if self._call is None:
            self._call = compile_call(step, carry).call
        carry, curve = self._train(carry, bundle, keys[0])
        train_s = time.perf_counter() - start_s
        unseen, variables = bundle.data.unseen, carry.policy.transformer
        own = self._evaluator.candidates(variables, unseen, CANDIDATES, keys[1])
        greedy = self._evaluator.candidates(variables, unseen, 1, keys[2], 0.0)
        reference = bundle.candidates
        scores, own_scores = (
            self._evaluator.scores(carry, unseen, candidates) for candidates in (reference, own)
        )
        return {
            "curve": curve,
            "unseen": sampler_report(own),
            "unseen_greedy": sampler_report(greedy),
            "rankers_on_reference": ranker_report(scores, reference),
            "rankers_on_own": ranker_report(own_scores, own),
            "train_s": round(train_s, 1),
            "wall_s": round(time.perf_counter() - start_s, 1),
        }

    def _first_carry(self, bundle: Bundle, key: Array) -> Carry:
        material, limit = bundle.material, self._task.human_problems
        if limit is not None:
            rows = limit * self._task.human_per_problem
            human = jax.tree.map(lambda leaf: leaf[:rows], material.human)
            material = material._replace(human=human)

        def init(material: Material, key: Array) -> Carry:
            return make(self.agent, StoredSource(self._task, material)).init(key)

        return jax.jit(init)(material, key)

    def _train(
        self, carry: Carry, bundle: Bundle, key: Array
    ) -> tuple[Carry, list[dict[str, Any]]]:
        """Trains to the end; returns the carry and a row per stretch of steps."""
        assert self._call is not None
        curve, done, first = [], 0, self.agent.value_iterations
        while done < self.agent.iterations:
            limit = first if done < first else self.agent.iterations
            count = min(CURVE_EVERY, limit - done)
            carry, metrics = self._call(carry, np.int32(count))
            done += count
            row: dict[str, Any] = {"step": done - first}
            row |= {name: round(float(value), 5) for name, value in metrics.items()}
            if done > first:
                candidates = self._evaluator.candidates(
                    carry.policy.transformer,
                    bundle.curve_problems,
                    CURVE_SAMPLES,
                    jax.random.fold_in(key, done),
                )
                row["train"] = sampler_report(candidates)
            curve.append(row)
        return carry, curve


def play_arm(arm: Arm, base: ProgramConfig, bundles: dict[int, Bundle], folder: Path) -> None:
    """Runs the seeds of an arm that are not there yet."""
    runner = ArmRunner(arm, base)
    path = folder / f"{arm.name}.json"
    data = _load(path, {"arm": arm.name, "title": arm.title, **runner.settings})
    for seed, bundle in bundles.items():
        if str(seed) in data["seeds"]:
            continue
        result = runner(bundle, seed)
        data["seeds"][str(seed)] = result
        data["provenance"] = provenance()
        write_json(path, data)
        last = result["curve"][-1]["train"]
        print(
            f"{base.machine} {arm.name} seed {seed}: train {last['pass@1']:.3f}, "
            f"unseen {result['unseen']['pass@1']:.3f}, {result['wall_s']:.0f} s",
            flush=True,
        )


def play_checkpoints(
    base: ProgramConfig, seeds: tuple[int, ...], folder: Path
) -> dict[int, Bundle]:
    """Pre-trains, or reads, the checkpoint of every seed and reports on it."""
    maker = Maker(base, Evaluator(base, ARMS[0].agent))
    path = folder / "checkpoint.json"
    data = _load(path, {"task": to_dict(base)})
    bundles = {}
    for seed in seeds:
        bundles[seed], wall_s = maker.bundle(seed)
        if str(seed) in data["seeds"]:
            continue
        report = maker.report(bundles[seed], seed) | {"wall_s": round(wall_s, 1)}
        data["seeds"][str(seed)] = report
        data["provenance"] = provenance()
        write_json(path, data)
        print(
            f"{base.machine} checkpoint seed {seed}: temperature 1 "
            f"{report['unseen_temperature_1']['pass@1']:.3f}, {wall_s:.0f} s",
            flush=True,
        )
    return bundles


def _load(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The results so far, of the same settings."""
    if not path.exists():
        return {**settings, "seeds": {}, "provenance": {}}
    data = read_json(path)
    for name, value in settings.items():
        if data.get(name) != value:
            raise UserError(f"{path} was made with another {name}; delete it or move it away")
    return data


def main() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--machine", choices=(*TASKS, "all"), default="all")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    machines = tuple(TASKS) if arguments.machine == "all" else (arguments.machine,)
    for machine in machines:
        folder = arguments.output / machine
        folder.mkdir(parents=True, exist_ok=True)
        base = TASKS[machine]
        bundles = play_checkpoints(base, tuple(arguments.seeds), folder)
        for arm in ARMS:
            if arm.group in arguments.groups:
                play_arm(arm, base, bundles, folder)


if __name__ == "__main__":
    main()
