"""Renders report.md and the figures from the files in results/.

Usage: python -m experiments.prdp.report
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from experiments.prdp.acceptance import (
    Verdict,
    curve,
    final,
    images_verdicts,
    objective,
    reach_verdicts,
    ring_verdicts,
)
from experiments.prdp.run import RESULTS
from experiments.prdp.settings import ARMS, SEEDS
from hinf_rl.evaluation.diffusion_pictures import draw_images, draw_reach, draw_ring
from hinf_rl.training.files import read_json, write_atomic

FOLDER = Path(__file__).parent
SHOWN = {
    "ring": ("alignment", "kl", "off_ring"),
    "steep": ("alignment", "kl", "off_ring"),
    "reach": ("reward", "success", "collision", "kl"),
    "images": ("reward", "class_accuracy", "likeness", "kl"),
    "pictures": ("reward", "brightness", "class_accuracy", "likeness", "kl"),
    "cartpole": ("reward", "survival", "kl"),
}
TITLES = {
    "ring": "Task A: a ring of Gaussians, contexts that never return",
    "steep": "Task A under the published bound 0.999 on a training step's noise",
    "reach": "Task B: a diffusion policy around an obstacle",
    "images": "Task C: 8 x 8 images, a reward that ignores the class",
    "pictures": "16 x 16 images by a U-Net, three black boxes",
    "cartpole": "Action chunks on the cart-pole, without pushes and under random ones",
}
DRAW = {
    "ring": draw_ring,
    "reach": draw_reach,
    "images": draw_images,
    "pictures": draw_images,
}
CELLS = {
    "nominal": "no force",
    "randomised": "randomised physics",
    "continuous-1": "continuous 0.6 N",
    "continuous-1.5": "continuous 0.9 N",
    "sudden-1": "pushes of 0.6 N",
    "sudden-2": "pushes of 1.2 N",
}
Results = dict[str, dict[str, Any]]


def load() -> tuple[Results, dict[str, Any] | None]:
    """The results that are there, in the order of the arms, and the ring's oracle."""
    found = {
        name: read_json(RESULTS / f"{name}.json")
        for name in ARMS
        if (RESULTS / f"{name}.json").exists()
    }
    oracle = RESULTS / "ring_oracle.json"
    return found, read_json(oracle) if oracle.exists() else None


def section(data: dict[str, Any]) -> str:
    """Which part of the report an arm belongs to."""
    return data["task"].partition("_")[0]


def origin(data: dict[str, Any]) -> str:
    """Where an arm's numbers come from, one line."""
    source = data["provenance"]
    versions, device = source["versions"], source["device"]
    return (
        f"`{source['command']}`, commit `{source['git']['commit']}`, {source['date_utc']}, jax "
        f"{versions['jax']}, Python {versions['python']}, {device['kind']} "
        f"({device['cpu_count']} cores, shared with other jobs); {data['wall_s']:.0f} s for all "
        "members and seeds."
    )


def verdict_table(verdicts: list[Verdict]) -> Iterator[str]:
    """Promise, measured value, verdict."""
    yield "| promise | measured | met |"
    yield "|---|---|---|"
    for one in verdicts:
        yield f"| {one.claim} | {one.measured} | {'yes' if one.passed else '**no**'} |"


def arm_table(task: str, found: Results) -> Iterator[str]:
    """One line per member: held-out measurements at the end, per seed."""
    names = SHOWN[task]
    extra = " objective |" if task in ("ring", "steep") else ""
    yield f"| arm | member | {' | '.join(names)} |{extra}"
    yield "|---|---|" + "---|" * (len(names) + bool(extra))
    for arm, data in found.items():
        if section(data) != task:
            continue
        for member in data["members"]:
            cells = " | ".join(_seeds(final(data, name, member)) for name in names)
            more = f" {_seeds(objective(data, member))} |" if extra else ""
            yield f"| {arm} | {member or '-'} | {cells} |{more}"


def checkpoint_table(data: dict[str, Any], member: str, names: tuple[str, ...]) -> Iterator[str]:
    """Mean over seeds at each checkpoint."""
    yield "| iteration | " + " | ".join(map(str, data["checkpoints"])) + " |"
    yield "|---|" + "---|" * len(data["checkpoints"])
    for name in names:
        values = curve(data, name, member).mean(axis=0)
        yield f"| {name} | " + " | ".join(f"{value:.2f}" for value in values) + " |"


def oracle_table(oracle: dict[str, Any]) -> Iterator[str]:
    """What the objective can reach from the references."""
    yield "| beta | tilted reward, per seed | largest objective | its KL | least sample size |"
    yield "|---|---|---|---|---|"
    for beta, one in oracle["beta"].items():
        cells = " | ".join(_seeds(np.asarray(one[k])) for k in ("reward", "objective", "kl"))
        yield f"| {beta} | {cells} | {min(one['least_sample_size']):.0f} |"


def markdown(found: Results, oracle: dict[str, Any] | None) -> str:
    """The report as text."""
    verdicts = {
        "ring": list(ring_verdicts(found, oracle)) if oracle else [],
        "steep": [],
        "reach": list(reach_verdicts(found)),
        "images": list(images_verdicts(found)),
        "pictures": [],
        "cartpole": [],
    }
    lines = ["# PRDP: results", "", "Per seed, on held-out contexts, at the end of training."]
    for task, title in TITLES.items():
        arms = {name: data for name, data in found.items() if section(data) == task}
        if not arms:
            continue
        lines += ["", f"## {title}", ""]
        if verdicts[task]:
            lines += [*verdict_table(verdicts[task]), ""]
        if task == "ring" and oracle:
            lines += [*oracle_table(oracle), ""]
        lines += [*arm_table(task, found), ""]
        if task == "cartpole":
            lines += [*robust_table(), ""]
        if task in ("images", "pictures"):
            for name, data in arms.items():
                for member in data["members"]:
                    lines += ["", f"{name} {member}, mean over seeds:", ""]
                    lines += checkpoint_table(data, member, SHOWN[task])
        if task in DRAW:
            lines += ["", f"![samples before and after]({task}.png)", ""]
        lines += [f"- {name}: {origin(data)}" for name, data in arms.items()]
    lines += memory_section()
    return "\n".join(lines) + "\n"


def readme_section() -> list[str]:
    """What README shows: the promises of all tasks."""
    found, oracle = load()
    verdicts = [*(ring_verdicts(found, oracle) if oracle else ()), *reach_verdicts(found),
                *images_verdicts(found)]  # fmt: skip
    return [
        "### PRDP: diffusion policies from rewards that have no gradient",
        "",
        f"{SEEDS} seeds; A: a ring of Gaussians beside the exact tilted optimum, B: a diffusion "
        "policy around an obstacle, C: small images. DDPO with the group's own baseline reaches "
        "the same objective where it pays the same price of KL: the stability is not PRDP's alone. "
        "Details: [experiments/prdp](experiments/prdp/README.md).",
        "",
        *verdict_table(verdicts),
    ]


def robust_table() -> Iterator[str]:
    """The robustness protocol on chunk policies: survival and share of the task reward."""
    path = RESULTS / "cartpole_robust.json"
    if not path.exists():
        return
    cells = read_json(path)["cells"]
    yield "The robustness protocol, survival / share of the task reward, mean over seeds:"
    yield ""
    yield "| policy | " + " | ".join(CELLS.values()) + " |"
    yield "|---|" + "---|" * len(CELLS)
    for name, seeds in cells.items():
        row = [
            " / ".join(
                f"{np.mean([one[cell][key] for one in seeds]):.3f}"
                for key in ("survival", "task_share")
            )
            for cell in CELLS
        ]
        yield f"| {name} | " + " | ".join(row) + " |"


def memory_section() -> list[str]:
    """What one gradient allocates."""
    path = RESULTS / "memory.json"
    if not path.exists():
        return []
    data = read_json(path)
    at_once = {row["images"]: row for row in data["rows"] if row["microbatch"] is None}
    parts = {row["images"]: row for row in data["rows"] if row["microbatch"] is not None}
    size = next(iter(parts.values()))["microbatch"]
    lines = ["", "## Memory of one gradient", ""]
    lines += [
        "U-Net, 16 x 16 images, 10 denoising steps each; what the compiler allocates beside the "
        f"trajectories (MB), at once and in two passes of {size} steps at a time.",
        "",
        "| images | trajectories | at once | two passes |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {images} | {row['inputs_mb']:.1f} | {row['workspace_mb']:.1f} | "
        f"{parts[images]['workspace_mb']:.1f} |"
        for images, row in at_once.items()
    ]
    return lines


def figure(task: str, found: Results) -> None:
    """Samples of the first seed before and after each arm, one panel per member."""
    panels = [
        (name, member, index)
        for name, data in found.items()
        if section(data) == task
        for index, member in enumerate(data["members"])
    ]
    if not panels:
        return
    columns = min(4, len(panels) + 1)
    rows = -(-(len(panels) + 1) // columns)
    drawn, axes = plt.subplots(
        rows, columns, figsize=(3.1 * columns, 3.1 * rows), layout="constrained", squeeze=False
    )
    draw = DRAW[task]
    flat = axes.ravel()
    first = np.load(RESULTS / f"{panels[0][0]}.npz")
    draw(flat[0], _part(first, "before", 0))
    flat[0].set_title("reference", fontsize=8)
    for axis, (name, member, index) in zip(flat[1:], panels, strict=False):
        draw(axis, _part(np.load(RESULTS / f"{name}.npz"), "after", index))
        axis.set_title(f"{name.removeprefix(task + '_')} {member}", fontsize=8)
    for axis in flat[len(panels) + 1 :]:
        axis.axis("off")
    drawn.savefig(FOLDER / f"{task}.png", dpi=90)
    plt.close(drawn)


def _part(file: Any, when: str, member: int) -> dict[str, np.ndarray]:
    prefix = f"{when}/"
    return {
        name.removeprefix(prefix): file[name][member].astype(np.float32)
        for name in file.files
        if name.startswith(prefix)
    }


def _seeds(values: np.ndarray) -> str:
    return " ".join(f"{value:.3g}" for value in values)


def main() -> None:
    """Writes report.md and one figure per task beside this file."""
    found, oracle = load()
    write_atomic(FOLDER / "report.md", markdown(found, oracle))
    for task in DRAW:
        figure(task, found)


if __name__ == "__main__":
    main()
