"""How long an exported policy takes for one control step, on one thread.

python -m experiments.export.latency
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.export.run import RESULTS

WARM_UP, STEPS = 200, 5000
NETWORKS: dict[str, dict[str, Any]] = {
    "task's own": {},
    "history of 6": {"env.history": 6},
    "large": {"env.history": 6, "agent.actor.hidden": (512, 256, 128)},
}
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_SMALL = {
    "agent.num_envs": 2,
    "agent.unroll_length": 2,
    "agent.num_minibatches": 1,
    "agent.iterations": 1,
}


def untrained_run(path: Path, task: str, settings: Mapping[str, Any]) -> Path:
    """Makes a run directory whose policy never learned: it takes as long as one that did."""
    import jax

    from hinf_rl.tasks import configure
    from hinf_rl.training.checkpoint import save_checkpoint
    from hinf_rl.training.loop import make_init, seed_keys
    from hinf_rl.training.run_directory import identity, make_algorithm, open_run

    config = configure(task, "nominal", {**_SMALL, **settings})
    init = make_init(make_algorithm(config), seed_keys(config.seed, config.seeds))
    run = open_run(path, config)
    run.begin_session()
    save_checkpoint(run.checkpoints, 0, jax.jit(init)(), identity=identity(config), keep=1)
    return run.path


def timed(step: Callable[[], object]) -> dict[str, float]:
    """Quantiles of the time of a call, in microseconds."""
    taken = np.empty(WARM_UP + STEPS)
    for i in range(len(taken)):
        start_ns = time.perf_counter_ns()
        step()
        taken[i] = time.perf_counter_ns() - start_ns
    taken = taken[WARM_UP:] / 1000.0
    low, middle, high = np.quantile(taken, [0.01, 0.5, 0.99])
    return {
        "p01_us": float(low),
        "median_us": float(middle),
        "p99_us": float(high),
        "max_us": float(taken.max()),
    }


def measure(name: str, settings: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Times every runnable format of one network, a single robot's inputs at a time."""
    from hinf_rl.export.files import load_runner, prepare_export, write_export

    run = untrained_run(folder / "run", "aliengo", settings)
    prepared = prepare_export(run, unfinished=True)
    rows = []
    for kind in ("numpy", "onnx"):
        runner = load_runner(write_export(prepared, kind).path)
        lead = () if kind == "numpy" else (1,)
        sizes = {
            part["name"]: part["slice"][1] - part["slice"][0]
            for part in runner.metadata["observation"]["parts"]
            if part["is_input"]
        }
        rng = np.random.default_rng(0)
        inputs = {key: rng.normal(size=(*lead, size)) for key, size in sizes.items()}
        row = timed(lambda step=runner.step, inputs=inputs: step(**inputs))
        rows.append(
            {"network": name, "sizes": runner.metadata["network"]["sizes"], "format": kind, **row}
        )
    return rows


def main() -> None:
    if any(os.environ.get(name) != "1" for name in _ONE_THREAD):
        # The linear algebra library reads these once, when NumPy is imported.
        command = [sys.executable, "-m", "experiments.export.latency"]
        sys.exit(subprocess.run(command, env={**os.environ, **_ONE_THREAD}).returncode)
    from hinf_rl.training.devices import select_device
    from hinf_rl.training.files import write_json
    from hinf_rl.training.provenance import provenance

    select_device("cpu")
    rows = []
    for name, settings in NETWORKS.items():
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(name, settings, Path(folder))
    for row in rows:
        print(row)
    RESULTS.mkdir(exist_ok=True)
    write_json(
        RESULTS / "latency.json",
        {
            "provenance": provenance(),
            "cpu": cpu_model(),
            "load": os.getloadavg()[0],
            "steps": STEPS,
            "rows": rows,
        },
    )


def cpu_model() -> str:
    """Name of the processor, as Linux tells it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown"


if __name__ == "__main__":
    main()
