"""Renders results/walks.json as report.md, with the world and survival over levels as pictures.

python -m experiments.terrain.report [FILE]
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LightSource
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from hinf_rl.envs.legged.config import TerrainConfig
from hinf_rl.envs.legged.heights import TILE_KINDS
from hinf_rl.envs.legged.terrain import build_terrain, column_kinds
from hinf_rl.evaluation import style
from hinf_rl.evaluation.statistics import Interval, stratified_interval, wilson_interval
from hinf_rl.training.files import read_json, write_atomic
from hinf_rl.training.provenance import described_device

RESULTS = Path(__file__).parent / "results"


def cells_of(data: Mapping[str, Any], kind: str) -> dict[int, Mapping[str, Any]]:
    """The measured levels of a kind, in order."""
    names = (name.split() for name in data["cells"])
    levels = sorted(int(level) for found, level in names if found == kind)
    return {level: data["cells"][f"{kind} {level}"] for level in levels}


def interval(values: ArrayLike) -> Interval:
    """Mean over seeds with its interval; of one seed, over its walks."""
    array = np.asarray(values, float)
    is_share = set(np.unique(array)) <= {0.0, 1.0}
    if len(array) == 1 and is_share:
        return wilson_interval(int(array.sum()), array.size)
    return stratified_interval(array)


def progress(cell: Mapping[str, Any], duration_s: float) -> np.ndarray:
    """[seeds, walks] furthest distance over what the command asked for in the whole walk."""
    return np.asarray(cell["distance_m"], float) / (cell["asked_m_s"] * duration_s)


def rows(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row for each kind and level, with intervals."""
    found = []
    for kind in TILE_KINDS:
        for level, cell in cells_of(data, kind).items():
            found.append(
                {
                    "kind": kind,
                    "level": level,
                    "survival": interval(cell["survived"]),
                    "worst_seed": min(float(np.mean(seed)) for seed in cell["survived"]),
                    "progress": interval(progress(cell, data["config"]["duration_s"])),
                    "velocity_error": interval(cell["velocity_error"]),
                }
            )
    return found


def _text(value: Interval) -> str:
    return f"{value.mean:.2f} [{value.low:.2f}, {value.high:.2f}]"


def table(data: Mapping[str, Any]) -> list[str]:
    """Survival, progress and tracking of every kind and level."""
    lines = [
        "| terrain | level | survival | worst seed | walked / asked for | velocity error (m/s) |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows(data):
        lines.append(
            f"| {row['kind'].replace('_', ' ')} | {row['level']} | {_text(row['survival'])} | "
            f"{row['worst_seed']:.2f} | {_text(row['progress'])} | "
            f"{_text(row['velocity_error'])} |"
        )
    return lines


def passed_levels(data: Mapping[str, Any], share: float = 0.9) -> list[str]:
    """The highest level of each kind up to which at least `share` of the walks survive."""
    lines = [
        f"| terrain | highest level with survival >= {share:.2f} at it and below | measured |",
        "|---|---|---|",
    ]
    for kind in TILE_KINDS:
        cells = cells_of(data, kind)
        if not cells:
            continue
        highest = "none"
        for level, cell in cells.items():
            if np.mean(cell["survived"]) < share:
                break
            highest = str(level)
        lines.append(f"| {kind.replace('_', ' ')} | {highest} | {', '.join(map(str, cells))} |")
    return lines


def representation_table(data: Mapping[str, Any]) -> list[str]:
    """Physics steps per second of each way to hold stairs, and as a share of the plane's."""
    names = list(dict.fromkeys(name for part in data.values() for name in part["rows"]))
    heads = [f"{name}, steps/s | over the plane | compiled in" for name in data]
    lines = ["| stairs as | " + " | ".join(heads) + " |", "|---|" + "---|" * 3 * len(data)]
    for name in names:
        texts = []
        for part in data.values():
            one = part["rows"].get(name)
            if one is None:
                texts += ["-", "-", "-"]
                continue
            share = one["over_plane"]
            texts += [
                f"{one['steps_per_s']:,.0f}",
                f"{share['median']:.2f} ({share['min']:.2f} to {share['max']:.2f})",
                f"{one['first_call_s']:.0f} s",
            ]
        lines.append(f"| {name} | " + " | ".join(texts) + " |")
    return lines


def representation_report(data: Mapping[str, Any]) -> str:
    """The table, and where it comes from."""
    lines = [
        "# How stairs are held: speeds",
        "",
        "Robots stand on stairs, in turns with as many on a plane; the share is of the speeds of "
        "one round, median (least to largest).",
        "",
        *representation_table(data),
        "",
    ]
    for name, part in data.items():
        source = part["provenance"]
        lines.append(
            f"- {name}: {part['num_envs']} robots, `{source['command']}`, commit "
            f"`{source['git']['commit']}`, {source['date_utc']}, jax {source['versions']['jax']}."
        )
    return "\n".join([*lines, ""])


def physics_steps_table(data: Mapping[str, Any]) -> list[str]:
    """Survival and tracking of the same walks with each length of the physics step."""
    lines = [
        "| physics step | contact's time constant | survival | velocity error (m/s) |",
        "|---|---|---|---|",
    ]
    for name, cell in data["cells"].items():
        step_ms = 1000 * float(name)
        lines.append(
            f"| {step_ms:g} ms | {2 * step_ms:g} ms | {_text(interval(cell['survived']))} | "
            f"{_text(interval(cell['velocity_error']))} |"
        )
    return lines


def draw_survival(data: Mapping[str, Any], path: Path) -> None:
    """Survival and progress over levels, one line for each kind."""
    figure, panels = style.panels(2, inches=(4.5, 3.6))
    found = rows(data)
    for panel, name, label in (
        (panels[0], "survival", "survival"),
        (panels[1], "progress", "walked / asked for"),
    ):
        for index, kind in enumerate(TILE_KINDS):
            line = [(row["level"], row[name]) for row in found if row["kind"] == kind]
            if line:
                levels, values = zip(*line, strict=True)
                errors = np.array([[v.mean - v.low, v.high - v.mean] for v in values]).T
                panel.errorbar(
                    levels,
                    [v.mean for v in values],
                    yerr=np.maximum(errors, 0.0),
                    capsize=2,
                    label=kind.replace("_", " "),
                    **style.line(index),
                )
        style.finish(panel, x="level", y=label)
        panel.set_ylim(bottom=-0.05)
    style.legend(figure, panels)
    style.save(figure, path)


def draw_world(path: Path) -> None:
    """Every kind at four levels, from above, lit from the side."""
    config = TerrainConfig(
        kind="mixed", num_levels=4, num_columns=len(TILE_KINDS), shares=(1.0,) * len(TILE_KINDS)
    )
    terrain, _ = build_terrain(config)
    heights = np.asarray(terrain.heights)
    grip = np.asarray(terrain.grip).repeat(10, axis=0).repeat(10, axis=1)
    light = LightSource(azdeg=315, altdeg=35)
    shade = light.hillshade(heights, vert_exag=1.0, dx=terrain.cell_m, dy=terrain.cell_m)
    figure = Figure(figsize=(7, 8.5), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    extent = (0.0, 8.0 * config.num_levels, 0.0, 8.0 * config.num_columns)
    panel.imshow(shade, cmap="gray", origin="lower", extent=extent)
    image = panel.imshow(heights, cmap="terrain", alpha=0.45, origin="lower", extent=extent)
    slippery = np.ma.masked_greater_equal(grip, 1.0)
    panel.imshow(slippery, cmap="Blues_r", alpha=0.6, origin="lower", extent=extent, vmin=0, vmax=1)
    middles = 8.0 * np.arange(config.num_columns) + 4.0
    panel.set_yticks(middles, [kind.replace("_", " ") for kind in column_kinds(config)])
    panel.set_xticks(
        8.0 * np.arange(config.num_levels) + 4.0,
        [f"d = {level / config.num_levels:g}" for level in range(config.num_levels)],
    )
    figure.colorbar(image, label="height (m)", shrink=0.6)
    figure.savefig(path, dpi=110)


def markdown(data: Mapping[str, Any], stem: str) -> str:
    """The report as text."""
    config, made = data["config"], data["training"]
    seeds = "1 seed" if config["seeds"] == 1 else f"{config['seeds']} seeds"
    return "\n".join(
        [
            "# Terrain: results",
            "",
            f"`{config['task']}`, `{config['algorithm']}`, {seeds} of "
            f"{config['steps_per_seed'] / 1e6:.2f} M steps. {config['episodes']} walks of "
            f"{config['duration_s']:g} s per seed, kind and level, {config['speed_m_s']:g} m/s "
            "straight ahead from a random heading, nominal physics, no forces. Mean with 95 % "
            "interval, over seeds and walks where there are several seeds.",
            "",
            *passed_levels(data),
            "",
            *table(data),
            "",
            f"![survival over level]({stem}.png)",
            "",
            "![a walk over rough ground](rough.png)",
            "",
            "![the kinds of terrain](world.png)",
            "",
            f"Trained by `{made['command']}`, commit {str(made['git']['commit'])[:10]}, on "
            f"{described_device(made['device'])}; measured on native physics by "
            f"`{data['evaluation']['command']}`, {data['evaluation']['date_utc'][:10]}, on "
            f"{data['evaluation']['device']['cpu_count']} cores.",
            "",
        ]
    )


def write_report(results: Path) -> Path:
    """Writes the report and the pictures beside the results; returns the report's path."""
    data = read_json(results)
    draw_survival(data, results.with_suffix(".png"))
    draw_world(results.parent / "world.png")
    path = results.with_suffix(".md")
    write_atomic(path, markdown(data, results.stem))
    return path


def main() -> None:
    """Renders the given results, and the speeds where they were measured."""
    given = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS / "walks.json"
    if given.exists():
        print(write_report(given))
    steps = RESULTS / "physics_steps.json"
    if steps.exists():
        data = read_json(steps)
        config, made = data["config"], data["evaluation"]
        lines = [
            "# Physics steps on terrain",
            "",
            f"{config['episodes']} walks of {config['duration_s']:g} s over gentle slopes, native "
            f"physics, of the policy trained in `{config['trained_on']}` with steps of "
            f"{1000 * config['trained_with_s']:g} ms.",
            "",
            *physics_steps_table(data),
            "",
            f"`{made['command']}`, {made['date_utc'][:10]}.",
            "",
        ]
        write_atomic(steps.with_suffix(".md"), "\n".join(lines))
    speeds = RESULTS / "representation.json"
    if speeds.exists():
        write_atomic(RESULTS / "representation.md", representation_report(read_json(speeds)))


if __name__ == "__main__":
    main()
