"""Renders results/*.json as results/report.md.

python -m experiments.benchmarks.report
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hinf_rl.training.files import read_json, write_atomic

RESULTS = Path(__file__).parent / "results"
# What each ratio is held to; "at most" where smaller is better.
BARS = {"bare": 0.9, "mjx": 50.0, "share": 0.75, "hinf": 1.35}


def _with_range(found: Mapping[str, float]) -> str:
    return f"{found['median']:.2f} ({found['min']:.2f} to {found['max']:.2f})"


def physics_rows(data: Mapping[str, Any]) -> list[str]:
    """Ratios of the simulation alone."""
    bare, mjx = data["bare"], data["mjx"]
    speeds, slow = bare["physics_steps_per_s"], mjx["physics_steps_per_s"]
    return [
        f"| physics behind JAX / bare loop over MuJoCo's batch, {bare['num_envs']} robots | "
        f"{_with_range(bare['native_over_bare'])} | at least {BARS['bare']} | "
        f"{speeds['native']:,.0f} and {speeds['bare']:,.0f} physics steps/s |",
        f"| physics behind JAX / MJX (JAX), {mjx['num_envs']} robots | "
        f"{_with_range(mjx['native_over_mjx'])} | at least {BARS['mjx']:.0f} | "
        f"{slow['native']:,.0f} and {slow['mjx']:,.0f} physics steps/s |",
    ]


def training_rows(data: Mapping[str, Any]) -> list[str]:
    """Ratios of training, for each setting of the physics."""
    lines = []
    for physics, found in data["physics"].items():
        speeds = found["env_steps_per_s"]
        for name, label in (("nominal", "PPO"), ("hinf", "H-infinity")):
            lines.append(
                f"| {label} training / simulation alone, {physics} | "
                f"{_with_range(found['share_of_simulation'][name])} | "
                f"at least {BARS['share']} | {speeds[name]:,.0f} and "
                f"{speeds['simulation']:,.0f} control steps/s |"
            )
        compile_s = found["compile_s"]
        lines.append(
            f"| time of an H-infinity iteration / PPO iteration, {physics} | "
            f"{_with_range(found['hinf_over_nominal_time'])} | at most {BARS['hinf']} | compiled "
            f"in {compile_s['hinf']:.0f} and {compile_s['nominal']:.0f} s |"
        )
    return lines


def memory_rows(data: Mapping[str, Any]) -> list[str]:
    """Compilations and growth of the process."""
    return [
        f"| {task}, {found['iterations']} iterations: compilations of the step, growth of the "
        f"last two thirds | {found['compilations_of_step']}, "
        f"{100 * found['growth_of_last_two_thirds']:.2f} % | exactly 1, none | "
        f"{found['slope_kb_per_iteration']:.1f} kB per iteration of "
        f"{found['resident_mb']['last']:.0f} MB |"
        for task, found in data["tasks"].items()
    ]


def table() -> list[str]:
    """One line for each ratio that has been measured."""
    lines = ["| | median (least to largest) | held to | |", "|---|---|---|---|"]
    for name, rows in (
        ("physics", physics_rows),
        ("training", training_rows),
        ("memory", memory_rows),
    ):
        path = RESULTS / f"{name}.json"
        if path.exists():
            lines += rows(read_json(path))
    return lines


def readme_section() -> list[str]:
    """What the README says of this experiment."""
    return [
        "### Speed",
        "",
        "Sides that are compared take turns in one process; ratios are of neighbouring runs.",
        "",
        *table(),
        "",
        *sources(),
    ]


def sources() -> list[str]:
    """Where each file comes from."""
    lines = []
    for name in ("physics", "training", "memory"):
        path = RESULTS / f"{name}.json"
        if path.exists():
            source = read_json(path)["provenance"]
            lines.append(
                f"- `{source['command']}`, commit `{source['git']['commit']}`, "
                f"{source['date_utc']}, {source['device']['cpu_count']} CPU cores, "
                f"jax {source['versions']['jax']}, mujoco {source['versions']['mujoco']}."
            )
    return lines


def main() -> None:
    """Writes report.md."""
    lines = ["# Speed: results", "", *table(), "", *sources(), ""]
    write_atomic(RESULTS / "report.md", "\n".join(lines))


if __name__ == "__main__":
    main()
