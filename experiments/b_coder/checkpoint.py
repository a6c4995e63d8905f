"""The pre-trained model of a seed with its samples, made once and kept for all arms."""

import dataclasses
import hashlib
import os
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import serialization

from hinf_rl.agents.bcoder import Material
from hinf_rl.agents.bcoder.evaluate import Candidates, sampler_report
from hinf_rl.language.tasks import ProblemSet
from hinf_rl.program_report import CANDIDATES, Evaluator
from hinf_rl.program_tasks import (
    ProblemData,
    ProgramConfig,
    collect,
    make_reference,
    on_device,
    problem_data,
)
from hinf_rl.types import PyTree

CACHE = Path("runs") / "b_coder"
CURVE_PROBLEMS, CURVE_SAMPLES = 100, 6


class Bundle(NamedTuple):
    """Everything that the arms of one seed share.

    Attributes:
      data: problems and programs.
      material: what training starts from, human programs of all training problems.
      losses: [steps] of the pre-training, nats per token.
      candidates: programs of the pre-trained model for the unseen problems, temperature 1.
    """

    data: ProblemData
    material: Material
    losses: np.ndarray
    candidates: Candidates

    @property
    def curve_problems(self) -> ProblemSet:
        """The training problems that learning curves are measured on."""
        return jax.tree.map(lambda leaf: leaf[:CURVE_PROBLEMS], self.data.train)


class Maker:
    """Makes bundles; seeds share what was compiled."""

    def __init__(self, task: ProgramConfig, evaluator: Evaluator) -> None:
        self._task, self._evaluator = task, evaluator
        self._pretrain = jax.jit(make_reference, static_argnums=0)
        self._collect = jax.jit(collect, static_argnums=0)

    def bundle(self, seed: int) -> tuple[Bundle, float]:
        """Reads or makes the bundle of a seed; returns it and the seconds that it took."""
        start_s = time.perf_counter()
        data = problem_data(dataclasses.replace(self._task, problem_seed=seed))
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), 1), 3)
        corpus = on_device(data.corpus)
        path = CACHE / f"{self._task.machine}-{seed}-{_digest(self._task)}.msgpack"
        shapes = jax.eval_shape(lambda: make_reference(self._task, corpus, keys[0]))
        if path.exists():
            variables, losses = _read(path, shapes)
        else:
            variables, losses = self._pretrain(self._task, corpus, keys[0])
            _write(path, (variables, losses))
        train, human = on_device(data.train), on_device(data.human)
        material = self._collect(self._task, variables, train, human, keys[1])
        candidates = self._evaluator.candidates(variables, data.unseen, CANDIDATES, keys[2], 1.0)
        bundle = Bundle(data, material, np.asarray(losses), candidates)
        return bundle, time.perf_counter() - start_s

    def report(self, bundle: Bundle, seed: int) -> dict[str, Any]:
        """How well the pre-trained model samples."""
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), 2), 3)
        variables, unseen = bundle.material.reference, bundle.data.unseen
        evaluator = self._evaluator
        greedy = evaluator.candidates(variables, unseen, 1, keys[0], 0.0)
        cool = evaluator.candidates(variables, unseen, CANDIDATES, keys[1])
        curve = evaluator.candidates(variables, bundle.curve_problems, CURVE_SAMPLES, keys[2])
        return {
            "pretrain_loss": [round(float(x), 4) for x in bundle.losses[::100]],
            "unseen_temperature_1": sampler_report(bundle.candidates),
            "unseen": sampler_report(cool),
            "unseen_greedy": sampler_report(greedy),
            "train": sampler_report(curve),
            "distinct_share": _distinct_share(bundle.candidates),
        }


def _distinct_share(candidates: Candidates) -> float:
    counts = [len(np.unique(programs, axis=0)) for programs in candidates.tokens]
    return float(np.mean(counts) / candidates.tokens.shape[1])


def _digest(task: ProgramConfig) -> str:
    return hashlib.blake2b(repr(task).encode(), digest_size=4).hexdigest()


def _read(path: Path, shapes: PyTree) -> PyTree:
    return on_device(serialization.from_bytes(shapes, path.read_bytes()))


def _write(path: Path, tree: PyTree) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(serialization.to_bytes(jax.device_get(tree)))
    os.replace(name, path)


__all__ = ["CURVE_PROBLEMS", "CURVE_SAMPLES", "Bundle", "Maker"]
