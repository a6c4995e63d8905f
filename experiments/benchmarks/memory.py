"""Compilations and memory of a long small training.

python -m experiments.benchmarks.memory [--iterations N]
"""

import argparse
import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from hinf_rl.agents.hinf import make
from hinf_rl.tasks import configure, get_task
from hinf_rl.training import loop
from hinf_rl.training.files import write_json
from hinf_rl.training.provenance import provenance

RESULTS = Path(__file__).parent / "results" / "memory.json"
COMPILATION = "/jax/core/compile/backend_compile_duration"
_SMALL = {"agent.num_envs": 32, "agent.unroll_length": 8, "agent.num_epochs": 1}


@contextlib.contextmanager
def count_compilations() -> Iterator[list[str]]:
    """Collects the name of each program that is compiled, or read from a cache, in the block."""
    names: list[str] = []

    def listen(event: str, duration_secs: float, **details: Any) -> None:
        del duration_secs
        if event == COMPILATION:
            names.append(str(details.get("fun_name", "unnamed")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def resident_bytes() -> int:
    """Memory of this process that is in use now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def slope(values: list[int]) -> float:
    """Least-squares slope per entry."""
    return float(np.polyfit(np.arange(len(values)), np.asarray(values, np.float64), 1)[0])


def measure(task: str, iterations: int) -> dict[str, Any]:
    """Trains with one compiled call per iteration and looks at the process after each."""
    config = configure(task, "hinf", {**_SMALL, "agent.iterations": iterations})
    algorithm = make(config.agent, get_task(task).make_env(config.env))
    resident: list[int] = []
    compiled_at: list[int] = []

    with count_compilations() as names:

        def look(_record: Mapping[str, Any]) -> None:
            resident.append(resident_bytes())
            compiled_at.append(len(names))

        result = loop.train(
            algorithm, iterations=iterations, keys=loop.seed_keys(0, 1), callbacks=(look,)
        )
    # The allocator and the thread pools settle in the first third.
    settled = resident[iterations // 3 :]
    return {
        "iterations": iterations,
        "compilations_of_step": sum("call" in name for name in names),
        "compilations_after_first_call": compiled_at[-1] - compiled_at[0],
        "compile_s": result.summary["compile_s"],
        "resident_mb": {"first": resident[0] / 1e6, "last": resident[-1] / 1e6},
        "slope_kb_per_iteration": slope(settled) / 1e3,
        "growth_of_last_two_thirds": settled[-1] / settled[0] - 1.0,
        "resident_bytes": resident,
    }


def main() -> None:
    """Measures a pure JAX task and one on native physics, and writes one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--tasks", nargs="+", default=["cartpole", "aliengo"])
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    found = {}
    for task in options.tasks:
        found[task] = measure(task, options.iterations)
        shown = {name: value for name, value in found[task].items() if name != "resident_bytes"}
        print(f"{task}: {shown}", flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.output, {"provenance": provenance(), "tasks": found})


if __name__ == "__main__":
    main()
