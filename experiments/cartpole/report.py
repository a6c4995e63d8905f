"""Renders results to tables, acceptance lines and a figure; no number is ever edited by hand.

    python -m experiments.cartpole.report

Tables go between the markers in README.md, figures beside the results.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.cartpole.settings import RESULTS
from hinf_rl.errors import UserError
from hinf_rl.training.files import read_json, write_atomic

LABELS = {
    "none": "no force",
    "random": "random held force (DR)",
    "unconstrained": "disturber, no constraint",
    "hinf": "H-infinity, eta 2",
    "hinf_eta1": "H-infinity, eta 1",
    "hinf_eta3": "H-infinity, eta 3",
}
_TESTS = {
    "nominal": "nominal",
    "held": "random held",
    "full": "held, full size",
    "impulse": "push 0.2 s",
    "task": "task-seeking",
    "fall": "fall-seeking",
    "stepfall": "fall-seeking by steps",
}
_VERDICTS = {True: "pass", False: "**miss**", None: "open"}
_FACES = ("#ffffff", "#c9c9c9", "#8f8f8f", "#0b4f8a", "#d9720b")
_HATCHES = ("", "...", "///", "", "xxx")


def worst_attacks(results: Mapping[str, Any], attack: str, arm: str) -> dict[str, list[float]]:
    """Returns, per seed, survival and task reward under the attacker that counts.

    That is the one with the lowest survival and, among equals, the lowest task reward.
    """
    cell = results["attacks"][attack]["arms"][arm]
    worst = [
        min(zip(*row, strict=True))
        for row in zip(cell["survival"], cell["task_reward"], strict=True)
    ]
    survival, task_reward = zip(*worst, strict=True)
    return {"survival": list(survival), "task_reward": list(task_reward)}


def cells_of(results: Mapping[str, Any], arm: str) -> dict[str, dict[str, list[float]]]:
    """Returns all tests of one arm by name, attacks with their worst attacker."""
    cells = dict(results["arms"][arm]["cells"])
    return cells | {name: worst_attacks(results, name, arm) for name in sorted(results["attacks"])}


_RULE = (
    "nominal task reward of H-infinity >= 0.95 x DR",
    "nominal task reward without constraint <= 0.92 x DR (a collapse included)",
    "survival of fall-seeking attackers at 0.9 N that explore by steps: H-infinity - DR >= 0.2",
    "multiplier moves against the sign of the slack in > 95 % of its free iterations",
)


def acceptance(results: Mapping[str, Any]) -> list[tuple[str, str, bool | None]]:
    """Returns the acceptance rule's lines as (claim, measured, holds); None: not measured yet.

    Raises:
      UserError: an arm that the rule speaks of is missing.
    """
    arms = results["arms"]
    if not {"random", "unconstrained", "hinf"} <= set(arms):
        raise UserError("acceptance needs the arms of setting 'main'; run it to its end")
    nominal = {name: arm["cells"]["nominal"]["task_reward"] for name, arm in arms.items()}
    reward = {name: float(np.mean(values)) for name, values in nominal.items()}
    dual = arms["hinf"]["training"]["dual"]
    free, against = sum(dual["free"]), sum(dual["against_slack"])
    share = against / free if free else 0.0
    measured = (
        (
            f"{reward['hinf']:.3f} against 0.95 x {reward['random']:.3f}",
            reward["hinf"] >= 0.95 * reward["random"],
        ),
        (
            f"{reward['unconstrained']:.3f} against 0.92 x {reward['random']:.3f}",
            reward["unconstrained"] <= 0.92 * reward["random"],
        ),
        # The rule was set with attackers that explore by steps; the stronger ones are beside it.
        _attack_gap(results, "stepfall_0.9"),
        (f"{against} of {free} ({100 * share:.1f} %)", share > 0.95),
    )
    return [(claim, *line) for claim, line in zip(_RULE, measured, strict=True)]


def _attack_gap(results: Mapping[str, Any], attack: str) -> tuple[str, bool | None]:
    if attack not in results["attacks"]:
        return "not measured yet", None
    ours, theirs = (
        float(np.mean(worst_attacks(results, attack, name)["survival"]))
        for name in ("hinf", "random")
    )
    return f"{ours:.3f} - {theirs:.3f} = {ours - theirs:+.3f}", ours - theirs >= 0.2


def gap_table(results: Mapping[str, Any]) -> str:
    """Returns the Markdown table of what H-infinity gains over DR under each fall-seeking attack.

    Survival means over seeds, and on how many seeds H-infinity lost less.
    """
    lines = [
        "| fall-seeking attack | H-infinity - DR | better or equal, seed by seed |",
        "|---|---|---|",
    ]
    for attack in sorted(name for name in results["attacks"] if "fall" in name):
        ours, theirs = (
            worst_attacks(results, attack, name)["survival"] for name in ("hinf", "random")
        )
        equal = sum(a >= b for a, b in zip(ours, theirs, strict=True))
        gap, _ = _attack_gap(results, attack)
        lines.append(f"| {title(attack)} | {gap} | {equal} of {len(ours)} |")
    return "\n".join(lines)


def table(results: Mapping[str, Any]) -> str:
    """Returns the Markdown table: one column per arm, mean over seeds, worst seed in brackets."""
    columns = {name: cells_of(results, name) for name in results["arms"]}
    header = ["survival", *(LABELS.get(name, name) for name in columns)]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for test in next(iter(columns.values())):
        entries = [spread(cells[test]["survival"], 2) for cells in columns.values()]
        lines.append("| " + " | ".join([title(test), *entries]) + " |")
    rewards = [spread(cells["nominal"]["task_reward"], 3) for cells in columns.values()]
    lines.append("| " + " | ".join(["nominal task reward", *rewards]) + " |")
    return "\n".join(lines)


def attack_table(results: Mapping[str, Any]) -> str:
    """Returns the Markdown table of attacks, seed by seed: survival (task reward)."""
    lines = ["| attack | training | per seed: survival (task reward) |", "|---|---|---|"]
    for attack in sorted(results["attacks"]):
        for name in results["arms"]:
            worst = worst_attacks(results, attack, name)
            pairs = zip(worst["survival"], worst["task_reward"], strict=True)
            entries = ", ".join(f"{s:.2f} ({r:.2f})" for s, r in pairs)
            lines.append(f"| {title(attack)} | {LABELS.get(name, name)} | {entries} |")
    return "\n".join(lines)


def training_table(results: Mapping[str, Any]) -> str:
    """Returns the Markdown table of the last logged iteration, mean over seeds."""
    names = ("constraint/multiplier", "constraint/intensity", "constraint/slack", "env/task_share")
    header = "| training | multiplier | mean intensity | slack | task share | wall clock (s) |"
    lines = [header, "|---" * 6 + "|"]
    for name, arm in results["arms"].items():
        record = arm["training"]
        is_dual = record["dual"] is not None
        ends = [spread_of(record["curves"][key][-1]) for key in names]
        shown = [ends[0] if is_dual else "-", ends[1], ends[2] if is_dual else "-", ends[3]]
        entries = [LABELS.get(name, name), *shown, f"{record['wall_s']:.0f}"]
        lines.append("| " + " | ".join(entries) + " |")
    return "\n".join(lines)


def title(test: str) -> str:
    """Returns a readable name of a test such as "fall_0.9"."""
    kind, _, size = test.partition("_")
    return f"{_TESTS[kind]} {size} N" if size else _TESTS[kind]


def spread(values: Sequence[float], digits: int) -> str:
    """Returns the mean with the lowest value in brackets."""
    return f"{np.mean(values):.{digits}f} ({min(values):.{digits}f})"


def spread_of(values: Sequence[float | None]) -> str:
    """Returns the mean with lowest and highest value in brackets; nothing where unknown."""
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.2f} ({min(known):.2f} to {max(known):.2f})" if known else "-"


def figure(results: Mapping[str, Any], path: Path) -> Path:
    """Draws survival per arm and test: bars are means over seeds, dots the seeds."""
    arms = list(results["arms"])
    cells = {name: cells_of(results, name) for name in arms}
    tests = list(cells[arms[0]])
    canvas = Figure(figsize=(1.0 + 0.95 * len(tests), 3.9), dpi=110, layout="constrained")
    FigureCanvasAgg(canvas)
    panel = canvas.add_subplot()
    width = 0.84 / len(arms)
    for index, name in enumerate(arms):
        centres = np.arange(len(tests)) + (index - (len(arms) - 1) / 2) * width
        values = np.array([cells[name][test]["survival"] for test in tests])
        panel.bar(
            centres,
            values.mean(axis=1),
            width,
            label=LABELS.get(name, name),
            facecolor=_FACES[index],
            hatch=_HATCHES[index],
            edgecolor="black",
            linewidth=0.6,
        )
        offsets = np.linspace(-0.3, 0.3, values.shape[1]) * width
        panel.scatter(
            (centres[:, None] + offsets[None]).ravel(),
            values.ravel(),
            s=7,
            color="black",
            edgecolor="white",
            linewidth=0.4,
            zorder=3,
        )
    names = [title(test).replace(" ", "\n", 1) if "_" in test else title(test) for test in tests]
    panel.set_xticks(np.arange(len(tests)), names, fontsize=8)
    panel.set_ylabel("survival")
    panel.set_ylim(0, 1.03)
    panel.set_xlim(-0.6, len(tests) - 0.4)
    panel.spines[["top", "right"]].set_visible(False)
    canvas.legend(
        loc="outside upper center", ncols=len(arms), fontsize=8, frameon=False, handlelength=1.6
    )
    canvas.savefig(path)
    return path


def render(results: Mapping[str, Any]) -> str:
    """Returns the Markdown of one setting's results."""
    name = results["config"]["setting"]
    parts = [
        f"Mean over {results['config']['seeds']} seeds, worst seed in brackets; of "
        f"{results['config']['attackers']} attackers per policy the worst counts.",
        table(results),
        f"![Survival per training and test](results/{name}.png)",
        "Attacks, seed by seed:",
        attack_table(results),
        "End of training (mean over seeds, lowest to highest in brackets):",
        training_table(results),
        _origin(results),
    ]
    if name == "main":
        lines = [
            f"| {claim} | {measured} | {_VERDICTS[holds]} |"
            for claim, measured, holds in acceptance(results)
        ]
        head = "| acceptance rule, fixed beforehand | measured | |\n|---|---|---|\n"
        parts[:0] = [head + "\n".join(lines), gap_table(results)]
    return "\n\n".join(parts)


def splice(text: str, name: str, content: str) -> str:
    """Puts `content` between the markers of `name` in a Markdown text.

    Raises:
      UserError: the text has no such markers.
    """
    start, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    pattern = re.compile(f"({re.escape(start)}).*?({re.escape(end)})", re.DOTALL)
    if not pattern.search(text):
        raise UserError(f"README.md lacks the markers {start} and {end}; add them")
    return pattern.sub(lambda match: f"{match[1]}\n\n{content}\n\n{match[2]}", text)


def _origin(results: Mapping[str, Any]) -> str:
    made = results["provenance"]
    versions = made["versions"]
    return (
        f"Made by `{made['command']}` on {made['device']['cpu_count']} CPU cores "
        f"({made['date_utc'][:10]}), Python {versions['python']}, jax {versions['jax']}."
    )


def main(results: Path = RESULTS, readme: Path = RESULTS.parent / "README.md") -> None:
    """Renders every results file of a folder into the README.

    Args:
      results: folder with the results of run.py.
      readme: Markdown file with the markers.
    """
    paths = sorted(results.glob("*.json"))
    if not paths:
        raise UserError(f"{results} holds no results; run experiments.cartpole.run first")
    text = readme.read_text(encoding="utf-8")
    for path in paths:
        content = read_json(path)
        figure(content, path.with_suffix(".png"))
        text = splice(text, content["config"]["setting"], render(content))
    write_atomic(readme, text)


if __name__ == "__main__":
    tyro.cli(main)
