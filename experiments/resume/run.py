"""Kills training at random moments, resumes it, and compares it with a run that was let be.

python -m experiments.resume.run [--chains N] [--task TASK ...]
"""

import argparse
import dataclasses
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from hinf_rl.training.checkpoint import available_steps, restore_checkpoint
from hinf_rl.training.files import write_json
from hinf_rl.training.logging import read_metrics
from hinf_rl.training.loop import make_init, seed_keys
from hinf_rl.training.provenance import provenance
from hinf_rl.training.run_directory import RunDirectory, identity, make_algorithm, read_config

RESULTS = Path(__file__).parent / "results"
ITERATIONS = 24
# Killed at most this often, a chain then runs to its end.
MAX_KILLS = 6
_TIMEOUT_S = 900.0
_POLL_S = 0.002
_TIMES = ("wall_s", "steps_per_s")

When = Literal["random", "saving"]


@dataclasses.dataclass(frozen=True)
class Setting:
    """A small training whose every iteration is saved and logged."""

    task: str
    num_envs: int
    unroll_length: int

    def words(self, output: Path, iterations: int = ITERATIONS) -> list[str]:
        """The command line that starts the run or goes on with it."""
        return [
            *("train", self.task, "--output", str(output), "--resume", "--device", "cpu"),
            *("--set", f"agent.iterations={iterations}", "log_every=1", "checkpoint_every=1"),
            *(f"agent.num_envs={self.num_envs}", f"agent.unroll_length={self.unroll_length}"),
            *("agent.num_epochs=1", "agent.num_minibatches=2"),
            # The disturber acts from the first iteration on, so its state is at stake as well.
            *("agent.disturbance.warmup_fraction=0", "agent.disturbance.ramp_fraction=0"),
        ]


SETTINGS = {
    "cartpole": Setting("cartpole", num_envs=16, unroll_length=8),
    "aliengo": Setting("aliengo", num_envs=32, unroll_length=8),
}


@dataclasses.dataclass(frozen=True)
class Kill:
    """One SIGKILL and what it left.

    Attributes:
      when: "random" (uniform over the time that was left) or "saving" (a half-written
        checkpoint was on disk).
      saved: iteration of the newest complete checkpoint; None where there was none yet.
      logged: iteration of the last whole line of the log.
      half_written: whether an incomplete checkpoint was left behind.
      intact: whether every complete checkpoint passes its checksums.
      resumed_at: iteration that the next process said it resumes at.
    """

    when: When
    saved: int | None
    logged: int
    half_written: bool
    intact: bool
    resumed_at: int | None = None


class Training:
    """A training process of the command line in its own session, stderr in a file."""

    def __init__(self, setting: Setting, output: Path, cache: Path, iterations: int) -> None:
        self.output = output
        self._log = output.with_name(f"{output.name}.{time.monotonic_ns()}.log")
        with self._log.open("w") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hinf_rl.cli", *setting.words(output, iterations)],
                stdout=subprocess.DEVNULL,
                stderr=stream,
                env=environment(cache),
            )

    def said(self) -> str:
        """Everything on its stderr so far."""
        return self._log.read_text(errors="replace")

    def is_running(self) -> bool:
        return self._process.poll() is None

    def wait_for_training(self) -> None:
        """Waits until the compiled step runs, or the process has ended."""
        self._wait(lambda: "compiled in" in self.said())

    def saved(self) -> int:
        """Iteration of the newest complete checkpoint, 0 where there is none."""
        return max(available_steps(RunDirectory(self.output).checkpoints), default=0)

    def wait_for_checkpoint(self, iteration: int) -> None:
        """Waits until `iteration` is saved, or the process has ended."""
        self._wait(lambda: self.saved() >= iteration)

    def wait_for_save(self) -> None:
        """Waits until a half-written checkpoint is on disk, or the process has ended."""
        folder = RunDirectory(self.output).checkpoints
        # What an earlier kill left is removed by the next save; only this process's counts.
        pattern = f".saving-*-{self._process.pid}"
        self._wait(lambda: any(folder.glob(pattern)))

    def finish(self) -> None:
        """Waits for its end, which must be a good one."""
        if self._process.wait(_TIMEOUT_S) != 0:
            raise RuntimeError(f"training ended with {self._process.returncode}: {self.said()}")

    def kill(self) -> bool:
        """Sends SIGKILL; returns whether that is what ended it."""
        self._process.kill()
        return self._process.wait() < 0

    def resumed_at(self) -> int | None:
        """The iteration that it said it resumes at."""
        found = [line for line in self.said().splitlines() if line.startswith("resuming at")]
        return int(found[-1].split()[-1]) if found else None

    def _wait(self, condition: Any) -> None:
        start_s = time.monotonic()
        while self.is_running() and not condition():
            if time.monotonic() - start_s > _TIMEOUT_S:
                self.kill()
                raise TimeoutError(f"no progress in {_TIMEOUT_S} s: {self.said()}")
            time.sleep(_POLL_S)


def environment(cache: Path) -> dict[str, str]:
    """The environment of a training process: a shared compilation cache makes restarts cheap."""
    return {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def run_whole(setting: Setting, output: Path, cache: Path, iterations: int = ITERATIONS) -> float:
    """Trains without a kill; returns the seconds of its iterations, saves included."""
    training = Training(setting, output, cache, iterations)
    training.wait_for_training()
    start_s = time.monotonic()
    training.finish()
    return time.monotonic() - start_s


def run_chain(
    setting: Setting,
    output: Path,
    cache: Path,
    *,
    iteration_s: float,
    kills: int,
    generator: random.Random,
    iterations: int = ITERATIONS,
) -> list[Kill]:
    """Trains to the end through up to `kills` kills; returns them.

    Args:
      setting: what is trained.
      output: run directory.
      cache: compilation cache of all processes.
      iteration_s: seconds of one iteration; a random kill comes at a random point of one that is
        drawn uniformly from what is left.
      kills: how many kills at most; every other one waits for a checkpoint being written.
      generator: draws the moments.
      iterations: length of the training.
    """
    found: list[Kill] = []
    while True:
        training = Training(setting, output, cache, iterations)
        training.wait_for_training()
        if found:
            found[-1] = dataclasses.replace(found[-1], resumed_at=training.resumed_at())
        when: When = "saving" if len(found) % 2 else "random"
        if len(found) == kills or not _strike(training, when, iteration_s, iterations, generator):
            training.finish()
            return found
        found.append(inspect(output, when))


def _strike(
    training: Training, when: When, iteration_s: float, iterations: int, generator: random.Random
) -> bool:
    """Kills at the wanted moment; False where the process ended before it."""
    # By iterations, not by the clock, which means little on a busy machine.
    saved = training.saved()
    if saved >= iterations:
        return False
    training.wait_for_checkpoint(generator.randrange(saved, iterations))
    if when == "saving":
        training.wait_for_save()
    else:
        time.sleep(generator.uniform(0.0, iteration_s))
    return training.is_running() and training.kill()


def inspect(output: Path, when: When) -> Kill:
    """What a killed process left on disk."""
    run = RunDirectory(output)
    steps = available_steps(run.checkpoints)
    warnings: list[str] = []
    if steps:
        restore(output, warnings)
    records = read_metrics(run.metrics)
    return Kill(
        when=when,
        saved=steps[-1] if steps else None,
        logged=records[-1]["iteration"] if records else 0,
        half_written=any(run.checkpoints.glob(".saving-*")),
        intact=not warnings,
    )


def restore(output: Path, warnings: list[str] | None = None) -> tuple[int, Any]:
    """The newest checkpoint as (iteration, carry); damage found on the way goes to `warnings`."""
    config = read_config(output)
    init = make_init(make_algorithm(config), seed_keys(config.seed, config.seeds))
    return restore_checkpoint(
        RunDirectory(output).checkpoints,
        jax.eval_shape(init),
        identity=identity(config),
        warn=None if warnings is None else warnings.append,
    )


def differing_leaves(one: Any, other: Any) -> list[str]:
    """Names of the leaves of two carries that differ in a bit; keys count as their data."""
    left, right = (
        {
            jax.tree_util.keystr(path): _bits(leaf)
            for path, leaf in jax.tree_util.tree_flatten_with_path(carry)[0]
        }
        for carry in (one, other)
    )
    return sorted(name for name in {**left, **right} if left.get(name) != right.get(name))


def _bits(leaf: Any) -> bytes:
    if isinstance(leaf, jax.Array) and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf).tobytes()


def same_metrics(one: Path, other: Path) -> bool:
    """Whether both logs say the same of the same iterations, apart from how long they took."""
    logs = [
        [
            {name: value for name, value in record.items() if name not in _TIMES}
            for record in read_metrics(RunDirectory(output).metrics)
        ]
        for output in (one, other)
    ]
    return logs[0] == logs[1]


def logged_iterations(output: Path) -> list[int]:
    """The iterations in the order of their lines."""
    return [record["iteration"] for record in read_metrics(RunDirectory(output).metrics)]


def experiment(setting: Setting, chains: int, seed: int, folder: Path) -> dict[str, Any]:
    """One task: a run without kills and some chains beside it."""
    cache, whole = folder / "cache", folder / "whole"
    iteration_s = run_whole(setting, whole, cache) / ITERATIONS
    rows = []
    for index in range(chains):
        output = folder / f"chain-{index}"
        generator = random.Random(f"{setting.task}-{seed}-{index}")
        kills = run_chain(
            setting, output, cache, iteration_s=iteration_s, kills=MAX_KILLS, generator=generator
        )
        rows.append(
            {
                "kills": [dataclasses.asdict(kill) for kill in kills],
                "differing_leaves": differing_leaves(restore(whole)[1], restore(output)[1]),
                "metrics_equal": same_metrics(whole, output),
                "metrics_complete": logged_iterations(output) == list(range(1, ITERATIONS + 1)),
            }
        )
        print(f"{setting.task} chain {index}: {len(kills)} kills, {rows[-1]['differing_leaves']}")
    leaves = len(jax.tree.leaves(restore(whole)[1]))
    return {"setting": dataclasses.asdict(setting), "leaves": leaves, "chains": rows}


def summarise(tasks: Mapping[str, Any]) -> dict[str, Any]:
    """Counts over all tasks and chains."""
    chains = [chain for task in tasks.values() for chain in task["chains"]]
    kills = [kill for chain in chains for kill in chain["kills"]]
    return {
        "chains": len(chains),
        "kills": len(kills),
        "kills_while_saving": sum(kill["half_written"] for kill in kills),
        "chains_equal_bit_for_bit": sum(not chain["differing_leaves"] for chain in chains),
        "logs_complete_and_equal": sum(
            chain["metrics_complete"] and chain["metrics_equal"] for chain in chains
        ),
        "resumed_at_newest_complete": sum(
            kill["resumed_at"] == kill["saved"] and kill["intact"] for kill in kills
        ),
    }


def main() -> None:
    """Runs the tasks and writes one JSON file for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", nargs="+", choices=sorted(SETTINGS), default=sorted(SETTINGS))
    parser.add_argument("--chains", type=int, default=3, help="killed runs of each task")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.task:
        with tempfile.TemporaryDirectory() as folder:
            found = experiment(SETTINGS[name], options.chains, options.seed, Path(folder))
        result = {"provenance": provenance(), "iterations": ITERATIONS, **found}
        write_json(options.output / f"{name}.json", result)
        for what, value in summarise({name: found}).items():
            print(f"{name}: {what}: {value}")


if __name__ == "__main__":
    main()
