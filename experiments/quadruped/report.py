"""Renders results/*.json as results/report.md and two figures.

python -m experiments.quadruped.report
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hinf_rl.evaluation import plots
from hinf_rl.training.files import read_json, write_atomic

RESULTS = Path(__file__).parent / "results"
ORDER = (
    "nominal",
    "domain_randomisation",
    "rarl",
    "unconstrained",
    "hinf",
    "hinf-eta2",
    "nominal-long",
    "hinf-long",
)
_SURVIVAL = (
    ("nominal", "nominal"),
    ("randomised", "randomised"),
    ("continuous-1", "continuous 100 N"),
    ("continuous-1.5", "continuous 150 N"),
    ("sudden-1.5", "sudden 150 N"),
    ("sudden-2", "sudden 200 N"),
    ("deliberate-0.5", "deliberate 50 N"),
    ("deliberate-1", "deliberate 100 N"),
    ("deliberate-1.5", "deliberate 150 N"),
)


def load() -> dict[str, Any]:
    """Results by algorithm, as far as they are there."""
    paths = {name: RESULTS / f"{name}.json" for name in ORDER}
    return {name: read_json(path) for name, path in paths.items() if path.exists()}


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
    for cell in ("nominal", "continuous-1", "deliberate-1"):
        errors = [arm["cells"][cell]["tracking"]["velocity_error"] for arm in arms.values()]
        rewards = [arm["cells"][cell]["task_reward_fraction"] for arm in arms.values()]
        lines.append(
            f"| {cell}: velocity error (m/s) | " + " | ".join(map(_interval, errors)) + " |"
        )
        lines.append(
            f"| {cell}: task reward / best | " + " | ".join(map(_interval, rewards)) + " |"
        )
    return lines


def readme_section() -> list[str]:
    """The part of README that these results support."""
    arms = load()
    first = next(iter(arms.values()))
    return [
        "### Aliengo under force",
        "",
        f"Trained on two CPU cores; survival of {first['protocol']['num_envs']} episodes of 20 s "
        "per cell and seed, mean with bootstrap 95 % interval and the worst seed. Deliberate: "
        "fresh attackers trained against each frozen policy, the worst counts. Details: "
        "[experiments/quadruped](experiments/quadruped/results/report.md).",
        "",
        *survival_table(arms),
        "",
        *tracking_table(arms),
        "",
        "![survival over force](experiments/quadruped/results/survival.png)",
    ]


def write_report() -> Path:
    """Writes report.md and the figures; returns the report's path."""
    arms = load()
    first = next(iter(arms.values()))
    plots.survival_against_force(arms, RESULTS / "survival.png")
    plots.learning_curves(
        {name: [arm["curves"]] for name, arm in arms.items()},
        RESULTS / "curves.png",
        names=("env/task_share", "episode/length", "constraint/intensity"),
    )
    protocol, plan = first["protocol"], first["attack_plan"]
    text = [
        "# Aliengo under force",
        "",
        f"Protocol `{protocol['name']}`: {protocol['num_envs']} episodes of "
        f"{protocol['num_steps'] * protocol['dt_s']:g} s per cell and seed. Mean over seeds with "
        "bootstrap 95 % interval over seeds (and episodes, for survival), and the worst seed.",
        f"Deliberate: the worst of {2 * plan['per_objective']} fresh attackers per policy "
        f"({plan['iterations']} iterations of {plan['num_envs']} environments, half of them "
        "seeking a low task reward, half the fall).",
        "",
        *survival_table(arms),
        "",
        *tracking_table(arms),
        "",
        "![survival over force](survival.png)",
        "",
        "![training](curves.png)",
        "",
        *(
            f"- {name}: trained by `{arm['training'].get('command', '')}` at commit "
            f"{arm['training'].get('git', {}).get('commit', '')}, {arm['wall_s']:.0f} s"
            for name, arm in arms.items()
        ),
        "",
    ]
    path = RESULTS / "report.md"
    write_atomic(path, "\n".join(text))
    return path


if __name__ == "__main__":
    print(write_report())
