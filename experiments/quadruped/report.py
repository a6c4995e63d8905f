"""Renders results/*.json as results/report.md and two figures.

python -m experiments.quadruped.report [--results DIR]
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hinf_rl.evaluation import plots
from hinf_rl.training.files import read_json, write_atomic
from hinf_rl.training.provenance import described_device

RESULTS = Path(__file__).parent / "results"
ORDER = ("nominal", "domain_randomisation", "rarl", "unconstrained", "hinf")
_MAIN_JOB = "main_job"
_SURVIVAL = (
    ("nominal", "nominal"),
    ("randomised", "randomised"),
    ("continuous-0.5", "continuous 50 N"),
    ("continuous-0.75", "continuous 75 N"),
    ("continuous-1", "continuous 100 N"),
    ("continuous-1.5", "continuous 150 N"),
    ("sudden-1", "sudden 100 N"),
    ("sudden-1.5", "sudden 150 N"),
    ("sudden-2", "sudden 200 N"),
    ("deliberate-0.5", "deliberate 50 N"),
    ("deliberate-1", "deliberate 100 N"),
    ("deliberate-1.5", "deliberate 150 N"),
)


_TRACKING = {
    "velocity error (m/s)": lambda cell: cell["tracking"]["velocity_error"],
    "task reward / best": lambda cell: cell["task_reward_fraction"],
}


def load(folder: Path = RESULTS) -> dict[str, Any]:
    """Results by algorithm, as far as they are there; then the variants by name."""
    arms = {path.stem: path for path in sorted(folder.glob("*.json")) if path.stem != _MAIN_JOB}
    names = [name for name in ORDER if name in arms]
    names += [name for name in arms if name not in ORDER]
    return {name: read_json(arms[name]) for name in names}


def acceptance_table(arms: Mapping[str, Any]) -> list[str]:
    """What was asked of H-infinity beforehand, and what was measured."""
    hinf, nominal = arms["hinf"]["cells"], arms["nominal"]["cells"]
    error = hinf["nominal"]["tracking"]["velocity_error"][0]
    alive = hinf["nominal"]["survival"][0]
    ours, theirs = (cells["continuous-1"]["survival"][0] for cells in (hinf, nominal))
    random = arms["domain_randomisation"]["cells"]
    attacked, drilled = (cells["deliberate-1"]["survival"][0] for cells in (hinf, random))
    claims = (
        ("nominal survival of 20 s >= 0.95", f"{alive:.2f}", alive >= 0.95),
        (
            "velocity error <= 0.35 m/s (aim 0.25; standing still 0.6)",
            f"{error:.2f}",
            error <= 0.35,
        ),
        (
            "survives continuous random forces of 100 N more often than nominal training",
            f"{ours:.2f} - {theirs:.2f} = {ours - theirs:+.2f}",
            ours > theirs,
        ),
        (
            "survives attackers of 100 N more often than random forces teach to, by >= 0.05",
            f"{attacked:.2f} - {drilled:.2f} = {attacked - drilled:+.2f}",
            attacked - drilled >= 0.05,
        ),
    )
    return [
        "| asked of `hinf` beforehand | measured, mean over seeds | |",
        "|---|---|---|",
        *(
            f"| {claim} | {measured} | {'pass' if met else '**miss**'} |"
            for claim, measured, met in claims
        ),
    ]


def _interval(value: list[float]) -> str:
    return f"{value[0]:.2f} [{value[1]:.2f}, {value[2]:.2f}]"


def survival_table(arms: Mapping[str, Any]) -> list[str]:
    """Survival of every arm in every test: mean over seeds, interval, worst seed."""
    lines = [
        "| survival | " + " | ".join(arms) + " |",
        "|---|" + "---|" * len(arms),
        "| steps per seed, seeds | "
        + " | ".join(f"{a['steps_per_seed'] / 1e6:.1f} M, {a['num_seeds']}" for a in arms.values())
        + " |",
    ]
    for cell, label in _SURVIVAL:
        row = []
        for arm in arms.values():
            found = arm["cells"].get(cell)
            if found is None:
                row.append("-")
                continue
            worst = min(found["survival_per_seed"])
            row.append(f"{_interval(found['survival'])}, worst {worst:.2f}")
        lines.append(f"| {label} | " + " | ".join(row) + " |")
    return lines


def tracking_table(arms: Mapping[str, Any]) -> list[str]:
    """Velocity error and task reward of every arm."""
    lines = [
        "| | " + " | ".join(arms) + " |",
        "|---|" + "---|" * len(arms),
    ]
    for cell in ("nominal", "continuous-0.5", "continuous-1", "deliberate-0.5"):
        for label, read in _TRACKING.items():
            found = [arm["cells"].get(cell) for arm in arms.values()]
            row = ["-" if one is None else _interval(read(one)) for one in found]
            lines.append(f"| {cell}: {label} | " + " | ".join(row) + " |")
    return lines


def main_job_table() -> list[str]:
    """What `make train` gave on a fresh clone: one seed, intervals over episodes."""
    job = read_json(RESULTS / f"{_MAIN_JOB}.json")
    shown = [(cell, label) for cell, label in _SURVIVAL if cell in job["cells"]]
    return [
        f"One seed of {job['steps_per_seed'] / 1e6:.1f} M steps, trained in "
        f"{job['wall_s'] / 60:.0f} minutes on {job['training']['device']['cpu_count']} cores; "
        "intervals of 95 % over its episodes, which say nothing about other seeds.",
        "",
        "| `make train` | survival | velocity error (m/s) | task reward / best |",
        "|---|---|---|---|",
        *(
            f"| {label} | {_interval(job['cells'][cell]['survival'])} | "
            + " | ".join(_interval(read(job["cells"][cell])) for read in _TRACKING.values())
            + " |"
            for cell, label in shown
        ),
    ]


def readme_section() -> list[str]:
    """The part of README that these results support."""
    arms = load()
    return [
        "### Aliengo under force",
        "",
        *main_job_table(),
        "",
        "The comparison of algorithms, at fewer steps: survival of episodes of 20 s, mean with "
        "95 % interval over seeds and episodes, and the worst seed. "
        "Deliberate: fresh attackers trained against each frozen policy, the worst counts. "
        "Details, and how to read it: [experiments/quadruped](experiments/quadruped/README.md).",
        "",
        *acceptance_table(arms),
        "",
        *survival_table(arms),
        "",
        *tracking_table(arms),
        "",
        "![survival over force](experiments/quadruped/results/survival.png)",
    ]


def _origin(name: str, arm: Mapping[str, Any]) -> str:
    made, plan = arm["training"], arm["attack_plan"]
    return (
        f"- {name}: `{made['command']}`, commit {made['git']['commit'][:10]}, "
        f"{made['date_utc'][:10]}, attenuation {arm['attenuation']:g}, {arm['wall_s']:.0f} s on "
        f"{described_device(made['device'])}; {arm['protocol']['num_envs']} episodes per "
        f"cell, {2 * plan['per_objective']} attackers of {plan['iterations']} iterations"
    )


def write_report(folder: Path = RESULTS) -> Path:
    """Writes report.md and the figures of a folder of results; returns the report's path."""
    arms = load(folder)
    first = next(iter(arms.values()))
    plots.survival_against_force(arms, folder / "survival.png")
    plots.learning_curves(
        {name: [arm["curves"]] for name, arm in arms.items()},
        folder / "curves.png",
        names=("env/task_share", "episode/length", "constraint/intensity"),
    )
    protocol = first["protocol"]
    text = [
        "# Aliengo under force",
        "",
        f"Protocol `{protocol['name'].split(' ')[0]}`, episodes of "
        f"{protocol['num_steps'] * protocol['dt_s']:g} s. Mean with 95 % interval (over seeds and "
        "episodes; over episodes where there is one seed only), and the worst seed. Deliberate: "
        "the worst of the attackers trained afresh against each policy, half of them seeking a "
        "low task reward, half the fall.",
        "",
        *(
            [*acceptance_table(arms), ""]
            if {"domain_randomisation", "hinf", "nominal"} <= set(arms)
            else ()
        ),
        *survival_table(arms),
        "",
        *tracking_table(arms),
        "",
        "![survival over force](survival.png)",
        "",
        "![training](curves.png)",
        "",
        *(_origin(name, arm) for name, arm in arms.items()),
        "",
    ]
    path = folder / "report.md"
    write_atomic(path, "\n".join(text))
    return path


def main() -> None:
    """Renders a folder of results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    print(write_report(parser.parse_args().results))


if __name__ == "__main__":
    main()
