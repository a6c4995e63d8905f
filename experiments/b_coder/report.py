"""Renders tables and figure of each machine from its JSON files.

Usage: python -m experiments.b_coder.report [--results FOLDER]
"""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.b_coder.arms import ARMS, POLICY_STEPS, TASKS
from experiments.b_coder.claims import claims, train_curve
from experiments.b_coder.run import CURVE_EVERY, RESULTS
from hinf_rl.agents.bcoder import RANKERS
from hinf_rl.evaluation import style
from hinf_rl.training.files import read_json, write_atomic

FOLDER = Path(__file__).parent
Results = Mapping[str, Any]
_MAIN = tuple(arm.name for arm in ARMS if arm.group == "main")


def load(folder: Path) -> tuple[Results, dict[str, Results]]:
    """The checkpoints' results and those of every arm that is there."""
    arms = {
        arm.name: read_json(folder / f"{arm.name}.json")
        for arm in ARMS
        if (folder / f"{arm.name}.json").exists()
    }
    return read_json(folder / "checkpoint.json"), arms


def cell(results: Results, value: Callable[[Results], float]) -> str:
    """Mean over the seeds, then the lowest and the highest of them."""
    values = [value(seed) for seed in results["seeds"].values()]
    return f"{np.mean(values):.3f} [{min(values):.3f}, {max(values):.3f}]"


def claim_table(rows: list[dict[str, Any]]) -> list[str]:
    """Claim, margin by seed, verdict."""
    lines = ["| claim | margin, per seed | holds |", "|---|---|---|"]
    lines += [
        f"| {row['claim']} | {', '.join(f'{margin:+.3f}' for margin in row['margins'])} | "
        f"{'yes' if row['passed'] else '**no**'} |"
        for row in rows
    ]
    return lines


def readme_section() -> list[str]:
    """What README shows: the claims and the samplers on the language that was tuned on."""
    checkpoint, arms = load(RESULTS / "stack_machine")
    main = {name: arms[name] for name in _MAIN if name in arms}
    return [
        "### B-Coder: programs from a language model full of bugs",
        "",
        f"{len(checkpoint['seeds'])} seeds that nothing was tuned on; the claims were fixed "
        "beforehand, the last two are not expected to hold. Details, rankers, another language: "
        "[experiments/b_coder](experiments/b_coder/README.md).",
        "",
        *claim_table(claims(checkpoint, arms)),
        "",
        *sampler_table(checkpoint, main),
    ]


def checkpoint_table(checkpoint: Results) -> list[str]:
    """What training starts from."""
    lines = [
        "| seed | right at temperature 1 | compile, runtime, test, pass | right at 0.6 | greedy | "
        "training problems at 0.6 | distinct |",
        "|---|---|---|---|---|---|---|",
    ]
    for seed, row in checkpoint["seeds"].items():
        hot = row["unseen_temperature_1"]
        share = " ".join(
            f"{hot['share'].get(name, 0.0):.2f}" for name in ("-1", "-0.6", "-0.3", "1")
        )
        lines.append(
            f"| {seed} | {hot['pass@1']:.3f} | {share} | {row['unseen']['pass@1']:.3f} | "
            f"{row['unseen_greedy']['pass@1']:.3f} | {row['train']['pass@1']:.3f} | "
            f"{row['distinct_share']:.2f} |"
        )
    return lines


def sampler_table(checkpoint: Results, arms: Mapping[str, Results]) -> list[str]:
    """The policies themselves, nothing ranked."""
    lines = [
        "| arm | training problems, pass@1 | unseen, pass@1 | unseen, pass@5 | unseen, greedy |",
        "|---|---|---|---|---|",
        f"| checkpoint | {cell(checkpoint, lambda s: s['train']['pass@1'])} | "
        f"{cell(checkpoint, lambda s: s['unseen']['pass@1'])} | "
        f"{cell(checkpoint, lambda s: s['unseen']['pass@5'])} | "
        f"{cell(checkpoint, lambda s: s['unseen_greedy']['pass@1'])} |",
    ]
    for arm in arms.values():
        parts = (
            cell(arm, lambda s: s["curve"][-1]["train"]["pass@1"]),
            cell(arm, lambda s: s["unseen"]["pass@1"]),
            cell(arm, lambda s: s["unseen"]["pass@5"]),
            cell(arm, lambda s: s["unseen_greedy"]["pass@1"]),
        )
        lines.append(f"| {arm['title']} | " + " | ".join(parts) + " |")
    return lines


def ranker_table(arms: Mapping[str, Results], names: tuple[str, ...], group: str) -> list[str]:
    """How each arm's scores pick among the same candidates."""
    lines = [
        "| arm | ranker | top 1 | best 5 | best 5 distinct | AUC within a problem | AUC pooled |",
        "|---|---|---|---|---|---|---|",
    ]
    keys = ("top@1", "top@5", "distinct@5", "auc", "pooled_auc")
    for arm in (arms[name] for name in names if name in arms):
        for ranker in next(iter(arm["seeds"].values()))[group]:
            parts = [cell(arm, lambda s, r=ranker, k=key: s[group][r][k]) for key in keys]
            title = RANKERS.get(ranker, "random choice")
            lines.append(f"| {arm['title']} | {title} | " + " | ".join(parts) + " |")
    return lines


def outcome_table(arms: Mapping[str, Results]) -> list[str]:
    """Mean recovered reward of the checkpoint's programs by how they fared."""
    lines = [
        "| arm | compile error | runtime error | failed test | pass |",
        "|---|---|---|---|---|",
    ]
    for arm in arms.values():
        if not arm["agent"]["q_weight"] or arm["agent"]["objective"] != "value":
            continue
        parts = [
            cell(arm, lambda s, n=name: s["rankers_on_reference"]["reward"]["mean"].get(n, np.nan))
            for name in ("-1", "-0.6", "-0.3", "1")
        ]
        lines.append(f"| {arm['title']} | " + " | ".join(parts) + " |")
    return lines


def alpha_table(arms: Mapping[str, Results]) -> list[str]:
    """The temperature decides how much of the model L_Q may move."""
    lines = [
        "| alpha | Bellman error^2 at the end of stage one | of stage two | training problems | "
        "unseen | AUC of the recovered reward |",
        "|---|---|---|---|---|---|",
    ]
    sweep = [arm for arm in arms.values() if arm["arm"] == "bcoder" or "alpha" in arm["arm"]]
    for arm in sorted(sweep, key=lambda arm: arm["agent"]["alpha"]):
        parts = (
            cell(arm, _end_of_stage_one),
            cell(arm, lambda s: s["curve"][-1]["bellman/loss"]),
            cell(arm, lambda s: s["curve"][-1]["train"]["pass@1"]),
            cell(arm, lambda s: s["unseen"]["pass@1"]),
            cell(arm, lambda s: s["rankers_on_reference"]["reward"]["auc"]),
        )
        lines.append(f"| {arm['agent']['alpha']:g} | " + " | ".join(parts) + " |")
    return lines


def _end_of_stage_one(seed: Results) -> float:
    return next(row["bellman/loss"] for row in seed["curve"] if row["step"] == 0)


def figure(checkpoint: Results, arms: Mapping[str, Results], path: Path) -> None:
    """Learning curves of the main arms and of the sweep: mean, band from lowest to highest."""
    panels = (
        ("algorithms", [arm for arm in ARMS if arm.group == "main"]),
        ("alpha", [arm for arm in ARMS if arm.name == "bcoder" or arm.group == "alpha"]),
    )
    canvas, axes = style.panels(len(panels), inches=(5.5, 4.2))
    start = [row["train"]["pass@1"] for row in checkpoint["seeds"].values()]
    steps = np.arange(0, POLICY_STEPS + 1, CURVE_EVERY)
    for axis, (title, members) in zip(axes, panels, strict=True):
        members = [arm for arm in members if arm.name in arms]
        for index, arm in enumerate(members):
            results = arms[arm.name]
            label = f"alpha {arm.agent.alpha:g}" if title == "alpha" else arm.title
            runs = np.array(
                [
                    [checkpoint["seeds"][seed]["train"]["pass@1"], *train_curve(results, seed)]
                    for seed in results["seeds"]
                ]
            )
            look = style.line(index)
            axis.plot(steps, runs.mean(axis=0), label=label, markersize=4, **look)
            axis.fill_between(
                steps, runs.min(axis=0), runs.max(axis=0), color=look["color"], alpha=0.15
            )
        axis.axhline(np.mean(start), color="black", linewidth=0.8, linestyle=":")
        style.finish(axis, x="steps of stage two", y="training programs right", title=title)
        axis.legend(fontsize=8, frameon=False, handlelength=3.5)
    axes[1].sharey(axes[0])
    style.save(canvas, path)


def origin(arms: Mapping[str, Results]) -> list[str]:
    """Where the numbers come from."""
    first = next(iter(arms.values()))
    source = first["provenance"]
    versions, device = source["versions"], source["device"]
    seconds = [seed["wall_s"] for arm in arms.values() for seed in arm["seeds"].values()]
    return [
        f"`{source['command']}`, commit `{source['git']['commit']}`, {source['date_utc']}, jax "
        f"{versions['jax']}, Python {versions['python']}, {device['kind']} "
        f"({device['cpu_count']} cores, shared with other jobs); {np.mean(seconds):.0f} s per arm "
        f"and seed on average, evaluation and compilation included.",
    ]


def render(machine: str, folder: Path) -> str:
    """The report of one machine in Markdown; its figure is written beside it."""
    checkpoint, arms = load(folder)
    figure(checkpoint, arms, FOLDER / f"{machine}.png")
    ranked = ("bcoder", "sft", "conservative_q")
    seeds = ", ".join(checkpoint["seeds"])
    return "\n".join(
        [
            f"# B-Coder on {machine.replace('_', ' ')}",
            "",
            f"Seeds {seeds}: problems, checkpoint and training all differ. Cells: mean [lowest, "
            "highest] over the seeds.",
            "",
            *claim_table(claims(checkpoint, arms)),
            "",
            "## The checkpoint",
            "",
            *checkpoint_table(checkpoint),
            "",
            "## Samplers",
            "",
            f"![Learning curves]({machine}.png)",
            "",
            *sampler_table(checkpoint, arms),
            "",
            "## Rankers, on the checkpoint's programs for unseen problems",
            "",
            *ranker_table(arms, ranked, "rankers_on_reference"),
            "",
            "## Rankers, on each arm's own programs for unseen problems",
            "",
            *ranker_table(arms, ("bcoder", "sft"), "rankers_on_own"),
            "",
            "## Mean recovered reward by outcome",
            "",
            *outcome_table(arms),
            "",
            "## Temperature",
            "",
            *alpha_table(arms),
            "",
            *origin(arms),
            "",
        ]
    )


def main() -> None:
    """Renders every machine that has results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    for machine in TASKS:
        folder = arguments.results / machine
        if (folder / "checkpoint.json").exists():
            write_atomic(FOLDER / f"{machine}.md", render(machine, folder))


if __name__ == "__main__":
    main()
