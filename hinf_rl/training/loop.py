"""The training loop: one compiled call repeated, logged, saved and resumed exactly.

The compiled call runs a traced number of iterations and reduces their metrics inside, so small
tasks are not bound by dispatch, any stride shares one compilation, and memory stays flat.
Strides end at multiples of `log_every` and `checkpoint_every` counted from zero; where training
was interrupted does not change the numbers.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hinf_rl.agents.api import Algorithm
from hinf_rl.errors import UserError
from hinf_rl.training.checkpoint import available_steps, restore_checkpoint, save_checkpoint
from hinf_rl.training.interrupt import Interrupt, catch_interrupts
from hinf_rl.training.logging import MetricsLog, make_record, read_metrics
from hinf_rl.training.progress import Progress, SilentProgress
from hinf_rl.training.run_directory import RunDirectory
from hinf_rl.types import Array, Metrics, PyTree

Callback = Callable[[Mapping[str, Any]], None]


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
    algorithm: Algorithm, keys: Array, hyperparameters: PyTree = None
) -> Callable[[], PyTree]:
    """Returns a function of nothing that makes the first carry, for all seeds.

    Args:
      algorithm: what is trained.
      keys: [] or [S] typed PRNG keys.
      hyperparameters: leaves [] or [S] for `algorithm.init`; None leaves its defaults.
    """
    arguments = (keys,) if hyperparameters is None else (keys, hyperparameters)
    init = jax.vmap(algorithm.init) if keys.ndim else algorithm.init
    return lambda: _strong(init(*arguments))


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
      callbacks: called with each record of the log.

    Raises:
      UserError: a number that is out of range, a full disk, a checkpoint of something else.
    """
    _check_positive(iterations=iterations, log_every=log_every, checkpoint_every=checkpoint_every)
    progress = progress or SilentProgress()
    with catch_interrupts() as interrupt:
        init = make_init(algorithm, keys, hyperparameters)
        done, carry = _first_carry(init, run, resume, progress)
        session = _Session(
            algorithm, run, iterations, log_every, checkpoint_every, keep_checkpoints, keys.size
        )
        if done >= iterations:
            progress.note("training is complete, nothing is left to do")
            return session.already_complete(carry, done)
        progress.note("compiling the training step")
        call, compile_s = _compile(algorithm.step, carry, is_batched=keys.ndim == 1)
        progress.note(f"compiled in {compile_s:.1f} s")
        return session.run_all(call, carry, done, compile_s, interrupt, progress, tuple(callbacks))


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
        call: Callable[..., Any],
        carry: PyTree,
        done: int,
        compile_s: float,
        interrupt: Interrupt,
        progress: Progress,
        callbacks: tuple[Callback, ...],
    ) -> TrainResult:
        """Repeats the compiled call; the metrics log is closed whatever happens."""
        log = self.run and MetricsLog(
            self.run.metrics, tensorboard=self.run.tensorboard, iteration=done
        )
        last = (log and log.last) or {}
        wall_s, nonfinite = last.get("wall_s", 0.0), last.get("nonfinite_total", 0.0)
        if self.run is not None:
            self.run.begin_session()
        saved, first, busy_s = done if done else -1, done, 0.0
        progress.start(done=done, total=self.iterations)
        try:
            while done < self.iterations and interrupt.signal is None:
                count = self._stride(done)
                start_s = time.perf_counter()
                carry, metrics = call(carry, np.int32(count))
                metrics = jax.device_get(metrics)
                took_s = time.perf_counter() - start_s
                done, busy_s = done + count, busy_s + took_s
                nonfinite += _nonfinite(metrics)
                record = self._record(done, count, wall_s + busy_s, took_s, metrics, nonfinite)
                if log:
                    log.write(record)
                progress.update(record)
                for callback in callbacks:
                    callback(record)
                if done % self.checkpoint_every == 0:
                    saved = self._save(done, carry)
            if saved != done:
                self._save(done, carry)
        finally:
            progress.close()
            if log:
                log.close()
        steps = (done - first) * self.algorithm.env_steps_per_iteration * self.seeds
        speed = steps / busy_s if busy_s else 0.0
        summary = self._summary(done, wall_s + busy_s, speed, compile_s, nonfinite)
        return TrainResult(carry, summary, interrupt.signal)

    def already_complete(self, carry: PyTree, done: int) -> TrainResult:
        """Returns what an earlier session left, untouched."""
        records = read_metrics(self.run.metrics) if self.run else []
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


def _first_carry(
    init: Callable[[], PyTree], run: RunDirectory | None, resume: bool, progress: Progress
) -> tuple[int, PyTree]:
    if resume and run is not None and available_steps(run.checkpoints):
        done, carry = restore_checkpoint(
            run.checkpoints, jax.eval_shape(init), identity=run.identity, warn=progress.note
        )
        progress.note(f"resuming at iteration {done}")
        return done, carry
    return 0, jax.jit(init)()


def _compile(
    step: Callable[[PyTree], tuple[PyTree, Metrics]], carry: PyTree, *, is_batched: bool
) -> tuple[Callable[..., Any], float]:
    """Compiles `call(carry, count) -> (carry, metrics)` ahead of time; the carry is donated."""
    start_s = time.perf_counter()
    # An inner jit keeps the trace, so that asking for shapes does not trace a second time.
    one = jax.jit(jax.vmap(step) if is_batched else step)

    def call(carry: PyTree, count: Array) -> tuple[PyTree, Metrics]:
        carry_after, shapes = jax.eval_shape(one, carry)
        _check_same(carry, carry_after)
        start = {
            name: jnp.full(value.shape, -jnp.inf if _is_max(name) else 0.0, jnp.float32)
            for name, value in shapes.items()
        }

        def body(_: Array, state: tuple[PyTree, Metrics]) -> tuple[PyTree, Metrics]:
            carry, totals = state
            carry, metrics = one(carry)
            return _strong(carry), {
                name: _accumulate(name, total, metrics[name]) for name, total in totals.items()
            }

        carry, totals = jax.lax.fori_loop(0, count, body, (carry, start))
        scale = 1.0 / count.astype(jnp.float32)
        return carry, {
            name: total * scale if _is_mean(name) else total for name, total in totals.items()
        }

    compiled = jax.jit(call, donate_argnums=0).lower(carry, np.int32(1)).compile()
    return compiled, time.perf_counter() - start_s


def _accumulate(name: str, total: Array, value: Array) -> Array:
    value = value.astype(jnp.float32)
    return jnp.maximum(total, value) if _is_max(name) else total + value


def _is_max(name: str) -> bool:
    return name.endswith("_max")


def _is_count(name: str) -> bool:
    """Counts of rare events are summed: a mean over a stride would hide them."""
    return name.rpartition("/")[2].startswith("nonfinite_")


def _is_mean(name: str) -> bool:
    return not _is_max(name) and not _is_count(name)


def _nonfinite(metrics: Mapping[str, np.ndarray]) -> float:
    counts = [np.sum(value) for name, value in metrics.items() if _is_count(name)]
    return float(sum(count for count in counts if math.isfinite(count)))


def _strong(tree: PyTree) -> PyTree:
    """Returns the tree with weak types made strong, so that carry in equals carry out."""

    def one(leaf: Any) -> Any:
        leaf = jnp.asarray(leaf)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return leaf
        return jax.lax.convert_element_type(leaf, leaf.dtype)

    return jax.tree.map(one, tree)


def _check_same(before: PyTree, after: PyTree) -> None:
    """Names the first leaf that a step gives back with another shape or type."""
    left, right = (jax.tree_util.tree_flatten_with_path(tree)[0] for tree in (before, after))
    for (path, old), (path_after, new) in zip(left, right, strict=False):
        if path != path_after or old.shape != new.shape or old.dtype != new.dtype:
            name = jax.tree_util.keystr(path)
            raise TypeError(
                f"step must return the carry that it was given: {name} went in as "
                f"{old.dtype}{list(old.shape)} and came out as {new.dtype}{list(new.shape)} "
                f"at {jax.tree_util.keystr(path_after)}"
            )
    if len(left) != len(right):
        raise TypeError(f"step was given a carry of {len(left)} leaves and returned {len(right)}")


def _check_positive(**numbers: int) -> None:
    for name, value in numbers.items():
        if value < 1:
            raise UserError(f"{name} must be at least 1, got {value}")


__all__ = ["Callback", "TrainResult", "make_init", "seed_keys", "train"]
