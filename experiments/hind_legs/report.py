"""Renders results/*.json as results/report.md and two figures.

python -m experiments.hind_legs.report
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hinf_rl.evaluation import plots, style
from hinf_rl.training.files import read_json, write_atomic
from hinf_rl.training.provenance import described_device

RESULTS = Path(__file__).parent / "results"
ZERO, TRAINED = "zero action", "trained"
_KINDS = ("nominal", "randomised", "continuous", "sudden")
_ARMS = (TRAINED, ZERO)


def load() -> dict[str, Any]:
    """Results by algorithm."""
    return {path.stem: read_json(path) for path in sorted(RESULTS.glob("*.json"))}


def label(name: str, cell: Mapping[str, Any], unit: str) -> str:
    """A cell's kind and size in words."""
    if cell["kind"] in ("nominal", "randomised"):
        return "no force, randomised robot" if name == "randomised" else "no force"
    return f"{cell['kind']} {cell['magnitude']:g} {unit}"


def _interval(value: list[float]) -> str:
    return f"{value[0]:.2f} [{value[1]:.2f}, {value[2]:.2f}]"


def survival_table(result: Mapping[str, Any]) -> list[str]:
    """Time on two legs and survival in every cell, trained beside zero action."""
    arms = result["arms"]
    first = arms[TRAINED]
    unit, length = first["protocol"]["unit"], first["protocol"]["num_steps"]
    episode_s = length * first["protocol"]["dt_s"]
    lines = [
        f"| | time on two legs of {episode_s:g} s: trained | zero action | "
        "survival: trained | zero action |",
        "|---|---|---|---|---|",
    ]
    for name, cell in first["cells"].items():
        other = arms[ZERO]["cells"][name]
        row = [
            _interval(one[measure])
            for measure in ("survival_time_s", "survival")
            for one in (cell, other)
        ]
        lines.append(f"| {label(name, cell, unit)} | " + " | ".join(row) + " |")
    return lines


def tracking_table(result: Mapping[str, Any]) -> list[str]:
    """Errors until the fall, and the task reward over the whole episode."""
    measures = {
        "velocity error (m/s)": lambda cell: cell["tracking"]["velocity_error"],
        "yaw rate error (rad/s)": lambda cell: cell["tracking"]["yaw_error"],
        "lean (rad)": lambda cell: cell["tracking"]["lean_error"],
        "task reward / best": lambda cell: cell["task_reward_fraction"],
    }
    lines = ["| without force, until the fall | trained | zero action |", "|---|---|---|"]
    for name, read in measures.items():
        row = [_interval(read(result["arms"][arm]["cells"]["nominal"])) for arm in _ARMS]
        lines.append(f"| {name} | " + " | ".join(row) + " |")
    return lines


def acceptance(result: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """What was asked beforehand: longer on two legs than zero action, with and without force."""
    rows = []
    for name in ("nominal", "randomised", "continuous-1", "sudden-1"):
        ours, theirs = (result["arms"][arm]["cells"][name] for arm in _ARMS)
        unit = result["arms"][TRAINED]["protocol"]["unit"]
        # The intervals must not touch: a little longer on average proves little.
        low, high = ours["survival_time_s"][1], theirs["survival_time_s"][2]
        rows.append(
            (
                f"longer on two legs than zero action: {label(name, ours, unit)}",
                f"{_interval(ours['survival_time_s'])} s and "
                f"{_interval(theirs['survival_time_s'])} s",
                low > high,
            )
        )
    return rows


def acceptance_table(result: Mapping[str, Any]) -> list[str]:
    """The same as a table."""
    return [
        "| asked beforehand | measured | |",
        "|---|---|---|",
        *(
            f"| {claim} | {measured} | {'pass' if met else '**miss**'} |"
            for claim, measured, met in acceptance(result)
        ),
    ]


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Time on two legs over the size of the force, one panel for each kind of force."""
    figure, panels = style.panels(2, inches=(4.2, 3.4))
    for panel, kind in zip(panels, _KINDS[2:], strict=True):
        for index, arm in enumerate(_ARMS):
            look = style.line(index)
            cells = result["arms"][arm]["cells"]
            shown = [cells["nominal"], *(c for c in cells.values() if c["kind"] == kind)]
            mean, low, high = zip(*(cell["survival_time_s"] for cell in shown), strict=True)
            size = [cell["magnitude"] for cell in shown]
            panel.plot(size, mean, label=arm, **look)
            panel.fill_between(size, low, high, color=look["color"], alpha=0.15)
        style.finish(panel, x="size (N)", y="time on two legs (s)", title=f"{kind} force")
        panel.set_ylim(bottom=0.0)
    panels[1].sharey(panels[0])
    style.legend(figure, panels)
    style.save(figure, path)


def origin(result: Mapping[str, Any]) -> str:
    """How the numbers were made, one line."""
    made = result["training"]
    return (
        f"`{made['command']}`, commit {made['git']['commit'][:10]}, {made['date_utc'][:10]}, "
        f"{result['wall_s']:.0f} s on {described_device(made['device'])}; "
        f"{result['arms'][TRAINED]['protocol']['num_envs']} episodes per cell and seed"
    )


def sections(name: str, result: Mapping[str, Any]) -> list[str]:
    """The report of one algorithm."""
    seeds = result["seeds"]
    return [
        f"## {name}: {result['steps_per_seed'] / 1e6:.1f} M steps, "
        f"{seeds} seed{'' if seeds == 1 else 's'}",
        "",
        *acceptance_table(result),
        "",
        *survival_table(result),
        "",
        *tracking_table(result),
        "",
        f"![time on two legs over force](survival-{name}.png)",
        "",
        f"- {origin(result)}.",
        "",
    ]


def write_report() -> Path:
    """Writes report.md and the figures; returns the report's path."""
    results = load()
    text = [
        "# A1 on its hind legs",
        "",
        "Mean with 95 % interval: over seeds and episodes, over episodes where there is one seed "
        "only. A fall ends the time on two legs; zero action holds the stance that the episode "
        "starts in.",
        "",
    ]
    for name, result in results.items():
        draw(result, RESULTS / f"survival-{name}.png")
        text += sections(name, result)
    plots.learning_curves(
        {name: [result["curves"]] for name, result in results.items()},
        RESULTS / "curves.png",
        names=("episode/length", "env/task_share"),
    )
    text += ["![training](curves.png)", ""]
    path = RESULTS / "report.md"
    write_atomic(path, "\n".join(text))
    return path


if __name__ == "__main__":
    print(write_report())
