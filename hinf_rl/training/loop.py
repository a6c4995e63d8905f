"""The training loop: one compiled call repeated, logged, saved and resumed exactly.

The compiled call runs a traced number of iterations and reduces their metrics inside, so small
tasks are not bound by dispatch, any stride shares one compilation, and memory stays flat.
Strides end at multiples of `log_every` and `checkpoint_every` counted from zero; where training
was interrupted does not change the numbers. With a mesh the same program runs on several devices;
of several processes the first writes.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from hinf_rl.agents.api import Algorithm
from hinf_rl.errors import UserError
from hinf_rl.training import processes, seeds, sharding
from hinf_rl.training.checkpoint import restore_checkpoint, save_checkpoint
from hinf_rl.training.compiled import Compiled, Order, compile_call, for_seeds, is_count, strong
from hinf_rl.training.interrupt import Interrupt, catch_interrupts
from hinf_rl.training.logging import MetricsLog, make_record, read_metrics
from hinf_rl.training.progress import Progress, SilentProgress
from hinf_rl.training.run_directory import RunDirectory
from hinf_rl.types import Array, PyTree

Callback = Callable[[Mapping[str, Any]], None]
"""Receives each record of the metrics log."""


class TrainResult(NamedTuple):
    """What a training session leaves.

    Attributes:
      carry: the final carry; leaves have a leading axis [S] where `keys` had one.
      summary: `iterations`, `env_steps` (per seed), `seeds`, `wall_s` (over all sessions),
        `steps_per_s` (this session, all seeds), `compile_s`, `nonfinite_total`, `finished`.
      signal: the signal that ended the session early, else None.
    """

    carry: PyTree
    summary: dict[str, Any]
    signal: int | None


def seed_keys(seed: int, seeds: int) -> Array:
    """Returns the keys of `seeds` members; member i does not depend on how many there are.

    Returns:
      [] key for one member, [seeds] keys otherwise.
    """
    if seeds < 1:
        raise UserError(f"seeds must be at least 1, got {seeds}")
    members = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(
        jax.random.key(seed), jnp.arange(seeds, dtype=jnp.uint32)
    )
    return members[0] if seeds == 1 else members


def make_init(
    algorithm: Algorithm, keys: Array, hyperparameters: PyTree = None, mesh: Mesh | None = None
) -> Callable[[], PyTree]:
    """Returns a function of nothing that makes the first carry, for all seeds.

    Args:
      algorithm: what is trained.
      keys: [] or [S] typed PRNG keys.
      hyperparameters: leaves [] or [S] for `algorithm.init`; None leaves its defaults.
      mesh: the devices that it is traced for.
    """
    arguments = (keys,) if hyperparameters is None else (keys, hyperparameters)
    init = for_seeds(algorithm.init, "vmapped", mesh) if keys.ndim else algorithm.init
    return lambda: strong(init(*arguments))


def train(
    algorithm: Algorithm,
    run: RunDirectory | None = None,
    *,
    iterations: int,
    keys: Array,
    hyperparameters: PyTree = None,
    log_every: int = 1,
    checkpoint_every: int = 50,
    keep_checkpoints: int = 3,
    resume: bool = False,
    progress: Progress | None = None,
    callbacks: Iterable[Callback] = (),
    mesh: Mesh | None = None,
    seed_order: seeds.Choice | None = None,
) -> TrainResult:
    """Trains until `iterations` are done, or until SIGINT or SIGTERM asks to stop.

    Args:
      algorithm: what is trained.
      run: where metrics and checkpoints go; None keeps nothing.
      iterations: iterations in all, those of earlier sessions included.
      keys: [] typed PRNG key for one seed, or [S] for S seeds trained side by side.
      hyperparameters: leaves [] or [S] for `algorithm.init`.
      log_every: iterations per compiled call and per line of the log.
      checkpoint_every: iterations between checkpoints; the last is always saved.
      keep_checkpoints: how many of the newest checkpoints to keep.
      resume: go on from the newest intact checkpoint of `run`, if there is one.
      progress: shows what happens; None shows nothing.
      callbacks: called with each record of the log, in every process.
      mesh: the devices to train on, of `sharding.make_mesh`; None for one.
      seed_order: how several seeds compute: "vmapped", "sequential", or what a "probe" finds
        faster (with a mesh there is none); None goes on as the run began, "vmapped" at first.

    Raises:
      UserError: a number that is out of range, a full disk, a checkpoint of something else.
    """
    _check_positive(iterations=iterations, log_every=log_every, checkpoint_every=checkpoint_every)
    progress = progress or SilentProgress()
    with catch_interrupts() as interrupt:
        choice = seeds.settle(seed_order, run, resume=resume)
        layout = _Layout(algorithm, mesh, keys.ndim == 1)
        init = make_init(algorithm, keys, hyperparameters, mesh)
        done, carry = layout.first_carry(init, run, resume, progress)
        session = _Session(
            algorithm, run, iterations, log_every, checkpoint_every, keep_checkpoints, keys.size
        )
        if done >= iterations:
            progress.note("training is complete, nothing is left to do")
            return session.already_complete(carry, done)
        progress.note("compiling the training step")
        compiled = layout.compile(carry, choice, iterations - done, progress)
        progress.note(f"compiled in {compiled.compile_s:.1f} s")
        processes.meet()
        return session.run_all(compiled, carry, done, interrupt, progress, tuple(callbacks))


class _Session(NamedTuple):
    """The fixed settings of one call of `train`."""

    algorithm: Algorithm
    run: RunDirectory | None
    iterations: int
    log_every: int
    checkpoint_every: int
    keep: int
    seeds: int

    def run_all(
        self,
        compiled: Compiled,
        carry: PyTree,
        done: int,
        interrupt: Interrupt,
        progress: Progress,
        callbacks: tuple[Callback, ...],
    ) -> TrainResult:
        """Repeats the compiled call; the metrics log is closed whatever happens."""
        log = _FirstLog(self.run, done, compiled.order)
        wall_s, nonfinite = log.last.get("wall_s", 0.0), log.last.get("nonfinite_total", 0.0)
        saved, first, busy_s = done if done else -1, done, 0.0
        stopped_by = processes.any_signal(interrupt.signal)
        progress.start(done=done, total=self.iterations)
        try:
            while done < self.iterations and stopped_by is None:
                count = self._stride(done)
                start_s = time.perf_counter()
                carry, metrics = compiled.call(carry, np.int32(count))
                metrics = jax.device_get(metrics)
                took_s = time.perf_counter() - start_s
                done, busy_s = done + count, busy_s + took_s
                nonfinite += _nonfinite(metrics)
                record = self._record(done, count, wall_s + busy_s, took_s, metrics, nonfinite)
                log.write(record)
                progress.update(record)
                for callback in callbacks:
                    callback(record)
                if done % self.checkpoint_every == 0:
                    saved = self._save(done, carry)
                stopped_by = processes.any_signal(interrupt.signal)
            if saved != done:
                self._save(done, carry)
        finally:
            progress.close()
            log.close()
        steps = (done - first) * self.algorithm.env_steps_per_iteration * self.seeds
        speed = steps / busy_s if busy_s else 0.0
        summary = self._summary(done, wall_s + busy_s, speed, compiled.compile_s, nonfinite)
        return TrainResult(carry, summary, stopped_by)

    def already_complete(self, carry: PyTree, done: int) -> TrainResult:
        """Returns what an earlier session left, untouched."""
        run = self.run
        records = processes.on_first(lambda: read_metrics(run.metrics)[-1:] if run else [])
        last = records[-1] if records else {}
        wall_s, nonfinite = last.get("wall_s", 0.0), last.get("nonfinite_total", 0.0)
        return TrainResult(carry, self._summary(done, wall_s, 0.0, 0.0, nonfinite), None)

    def _summary(
        self, done: int, wall_s: float, speed: float, compile_s: float, nonfinite: float
    ) -> dict[str, Any]:
        return {
            "iterations": done,
            "env_steps": done * self.algorithm.env_steps_per_iteration,
            "seeds": self.seeds,
            "wall_s": wall_s,
            "steps_per_s": speed,
            "compile_s": compile_s,
            "nonfinite_total": nonfinite,
            "finished": done >= self.iterations,
        }

    def _stride(self, done: int) -> int:
        """Iterations up to the next multiple of `log_every` or `checkpoint_every`, or the end."""
        marks = (done // every * every + every for every in (self.log_every, self.checkpoint_every))
        return min(*marks, self.iterations) - done

    def _record(
        self,
        done: int,
        count: int,
        wall_s: float,
        took_s: float,
        metrics: Mapping[str, np.ndarray],
        nonfinite: float,
    ) -> dict[str, Any]:
        per_iteration = self.algorithm.env_steps_per_iteration
        record = make_record(
            iteration=done,
            env_steps=done * per_iteration,
            wall_s=wall_s,
            steps_per_s=count * per_iteration * self.seeds / took_s,
            metrics=metrics,
        )
        return {**record, "nonfinite_total": nonfinite}

    def _save(self, done: int, carry: PyTree) -> int:
        if self.run is not None:
            save_checkpoint(
                self.run.checkpoints, done, carry, identity=self.run.identity, keep=self.keep
            )
        return done


class _FirstLog:
    """The metrics log of the first process; the others learn what it held, and its errors."""

    def __init__(self, run: RunDirectory | None, done: int, order: Order) -> None:
        self._log: MetricsLog | None = None
        self._is_kept = run is not None
        self.last: Mapping[str, Any] = {}
        if run is not None:
            self.last = processes.on_first(lambda: self._open(run, done, order))

    def _open(self, run: RunDirectory, done: int, order: Order) -> Mapping[str, Any]:
        self._log = MetricsLog(run.metrics, tensorboard=run.tensorboard, iteration=done)
        run.begin_session(seed_order=order)
        return self._log.last or {}

    def write(self, record: Mapping[str, Any]) -> None:
        log = self._log
        if self._is_kept:
            processes.on_first(lambda: log and log.write(record))

    def close(self) -> None:
        if self._log is not None:
            self._log.close()


class _Layout(NamedTuple):
    """What is trained, and on what."""

    algorithm: Algorithm
    mesh: Mesh | None
    has_seeds: bool

    def first_carry(
        self, init: Callable[[], PyTree], run: RunDirectory | None, resume: bool, progress: Progress
    ) -> tuple[int, PyTree]:
        """Restores the newest checkpoint, or starts; returns the iterations done and the carry."""
        with sharding.tracing(self.mesh):
            shapes = jax.eval_shape(init)
        places = self._places(shapes)
        if resume and run is not None and seeds.is_begun(run):
            template = sharding.with_shardings(shapes, places)
            done, carry = restore_checkpoint(
                run.checkpoints, template, identity=run.identity, warn=progress.note
            )
            progress.note(f"resuming at iteration {done}")
            return done, carry
        with sharding.tracing(self.mesh):
            return 0, jax.jit(init, out_shardings=places)()

    def compile(
        self, carry: PyTree, choice: seeds.Choice, iterations: int, progress: Progress
    ) -> Compiled:
        """Compiles the call, in the order that was chosen or that a probe finds faster."""
        step, places = self.algorithm.step, self._places(carry)

        def build(order: Order) -> Compiled:
            all_steps = for_seeds(step, order, self.mesh) if self.has_seeds else step
            return compile_call(all_steps, carry, order, mesh=self.mesh, shardings=places)

        if choice != "probe":
            return build(choice)
        if self.has_seeds and self.mesh is None:
            return seeds.probe(build, carry, iterations=iterations, note=progress.note)
        progress.note("seeds vmapped: no probe for one seed or on several devices")
        return build("vmapped")

    def _places(self, carry: PyTree) -> PyTree:
        fields = self.algorithm.environment_fields
        return sharding.carry_shardings(carry, self.mesh, fields, has_seeds=self.has_seeds)


def _nonfinite(metrics: Mapping[str, np.ndarray]) -> float:
    counts = [np.sum(value) for name, value in metrics.items() if is_count(name)]
    return float(sum(count for count in counts if math.isfinite(count)))


def _check_positive(**numbers: int) -> None:
    for name, value in numbers.items():
        if value < 1:
            raise UserError(f"{name} must be at least 1, got {value}")


__all__ = ["Callback", "TrainResult", "make_init", "seed_keys", "train"]
