"""How fast programs are judged: inside `jit`, by a plain interpreter, and in the sandbox.

python -m experiments.interpreter.run [--batches 64 4800] [--repeats 7] [--output FILE]

Both interpreters take turns in one process, on the same programs, so that their ratio does not
depend on what else the machine does. Their verdicts must agree, or nothing is written.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from hinf_rl.language.tasks import ListMachine, ProblemSet, ResultClass, StackMachine
from hinf_rl.language.tasks.postfix import PostfixTask
from hinf_rl.language.tasks.reference import reference_status
from hinf_rl.language.tasks.sandbox import Job, Sandbox
from hinf_rl.training.files import write_json
from hinf_rl.training.provenance import provenance

RESULTS = Path(__file__).parent / "results" / "interpreter.json"
NUM_PROBLEMS = 200
PYTHON_PROGRAMS = 480
"""Programs that the plain interpreter judges per turn: enough to time, few enough to wait for."""
NUM_RUNS = 24
WORKERS = (1, 2, 4)


def programs_of(task: PostfixTask, batch: int) -> tuple[ProblemSet, np.ndarray, np.ndarray]:
    """Problems, programs [batch, Lc] with the usual bugs, and the problem of each."""
    (problems,) = task.problems(0, [NUM_PROBLEMS])
    noisy = task.noisy_programs(problems, 1, -(-batch // NUM_PROBLEMS))
    # Problem by problem, so that a part of the batch sees all problems too.
    programs = noisy.transpose(1, 0, 2).reshape(-1, task.program_length)[:batch]
    return problems, programs, np.resize(np.arange(NUM_PROBLEMS, dtype=np.int32), batch)


def seconds(action: Callable[[], Any]) -> float:
    """Time that `action` takes."""
    start_s = time.perf_counter()
    action()
    return time.perf_counter() - start_s


def measure(task: PostfixTask, batch: int, repeats: int) -> dict[str, Any]:
    """One row: programs per second of both interpreters, by turns."""
    problems, programs, ids = programs_of(task, batch)
    few = slice(min(batch, PYTHON_PROGRAMS))
    verify = jax.jit(task.verify)

    def vectorised() -> np.ndarray:
        return np.asarray(verify(problems, programs, ids).status)

    def plain() -> np.ndarray:
        return reference_status(task.name, task.vocabulary, problems, programs[few], ids[few])

    compile_s = seconds(vectorised)
    status = vectorised()
    if not np.array_equal(status[few], plain()):
        raise RuntimeError(f"the interpreters of {task.name} disagree")
    turns = [(seconds(vectorised) / batch, seconds(plain) / few.stop) for _ in range(repeats)]
    ratios = [plain_s / vectorised_s for vectorised_s, plain_s in turns]
    classes = np.bincount(status, minlength=len(ResultClass)) / batch
    return {
        "task": task.name,
        "batch": batch,
        "tests_per_program": task.num_tests,
        "compile_s": compile_s,
        "vectorised_programs_per_s": 1.0 / statistics.median(turn[0] for turn in turns),
        "plain_programs_per_s": 1.0 / statistics.median(turn[1] for turn in turns),
        "ratio": {
            "median": statistics.median(ratios),
            "smallest": min(ratios),
            "largest": max(ratios),
        },
        "classes": {kind.name: float(classes[kind]) for kind in ResultClass},
    }


def measure_sandbox(num_workers: int) -> dict[str, Any]:
    """One row: runs per second of a Python program that does next to nothing."""
    sandbox = Sandbox()
    jobs = [Job("print(int(input()) + 1)", stdin=str(n)) for n in range(NUM_RUNS)]
    start_s = time.perf_counter()
    found = sandbox.run_many(jobs, num_workers)
    wall_s = time.perf_counter() - start_s
    if [execution.stdout for execution in found] != [f"{n + 1}\n" for n in range(NUM_RUNS)]:
        raise RuntimeError("the sandbox gave wrong output")
    return {
        "num_workers": num_workers,
        "runs": NUM_RUNS,
        "runs_per_s": NUM_RUNS / wall_s,
        "child_wall_s": statistics.median(execution.wall_s for execution in found),
        "child_cpu_s": statistics.median(execution.cpu_s for execution in found),
    }


def main() -> None:
    """Measures and writes everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", nargs="+", type=int, default=[64, 4800])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows = []
    for task in (StackMachine(), ListMachine()):
        for batch in options.batches:
            rows.append(measure(task, batch, options.repeats))
            print(task.name, batch, rows[-1]["ratio"], flush=True)
    sandbox = [measure_sandbox(num_workers) for num_workers in WORKERS]
    capabilities = Sandbox().capabilities()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    data = {
        "provenance": provenance(),
        "repeats": options.repeats,
        "interpreters": rows,
        "sandbox": sandbox,
        "measures": {"active": sorted(capabilities.active), "missing": capabilities.missing},
    }
    write_json(options.output, data)


if __name__ == "__main__":
    main()
