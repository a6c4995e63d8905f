"""The report of a fine-tuned diffusion policy: held-out reward and KL, samples before and after."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from hinf_rl.agents.prdp import FinetuneConfig, HeldOut, evaluate
from hinf_rl.diffusion.problem import Problem
from hinf_rl.evaluation.diffusion_pictures import Draw
from hinf_rl.evaluation.plots import NothingToDrawError, learning_curves
from hinf_rl.evaluation.statistics import bootstrap_interval
from hinf_rl.training.files import read_json, write_atomic, write_json
from hinf_rl.training.logging import read_metrics
from hinf_rl.training.provenance import provenance
from hinf_rl.training.run_directory import RunDirectory
from hinf_rl.types import PyTree

_SHOWN = 256
_CURVES = ("reward/mean", "policy/kl", "policy/loss", "policy/clipped")

Tell = Callable[[str], None]


def evaluate_finetuning(
    run_dir: Path | str,
    config: FinetuneConfig,
    problem: Problem,
    carry: PyTree,
    *,
    draw: Draw,
    num_samples: int = 1024,
    tell: Tell | None = None,
) -> dict[str, Any]:
    """Measures a fine-tuned policy beside its reference and writes `report/`.

    Args:
      run_dir: the run.
      config: its settings.
      problem: what it was trained on.
      carry: its last carry; leaves have a leading axis [seeds] where there are several.
      draw: fills an axis with an outcome.
      num_samples: held-out contexts per policy and seed, one sample each.
      tell: receives progress in words.

    Returns:
      The results, as written to `report/results.json`.
    """
    tell = tell or (lambda text: None)
    run = RunDirectory(run_dir)
    run.report.mkdir(parents=True, exist_ok=True)
    if carry.iteration.ndim == 0:
        carry = jax.tree.map(lambda leaf: leaf[None], carry)

    def measure(params: PyTree, reference: PyTree) -> HeldOut:
        return evaluate(config, problem, params, reference, num_samples=num_samples)

    measured = jax.jit(lambda *pair: jax.lax.map(lambda one: measure(*one), pair))
    results: dict[str, Any] = {"task": problem.name, "num_seeds": int(carry.iteration.shape[0])}
    per_seed: dict[str, Any] = {}
    pictures = {}
    for name, params in (("reference", carry.reference), ("fine-tuned", carry.learner.params)):
        tell(f"measuring the {name} policy")
        found = jax.device_get(measured(params, carry.reference))
        rows = _per_seed(found, config)
        per_seed[name] = {key: row.tolist() for key, row in rows.items()}
        results[name] = {
            key: [float(x) for x in bootstrap_interval(row)] for key, row in rows.items()
        }
        shown = found.outcome | {"context": found.context}
        pictures[name] = {key: value[0, :_SHOWN] for key, value in shown.items()}
    results |= {
        "per_seed": per_seed,
        "num_samples": num_samples,
        "beta": config.beta,
        "objective": config.objective,
        "provenance": {
            "evaluation": provenance(),
            "training": read_json(run.manifest) if run.manifest.exists() else None,
        },
    }
    write_json(run.report / "results.json", results)
    _draw_samples(pictures, draw, run.report / "samples.png")
    _draw_curves(run, tell)
    write_atomic(run.report / "report.md", report_text(results, run.report))
    tell(f"report written to {run.report / 'report.md'}")
    return results


def report_text(results: Mapping[str, Any], folder: Path) -> str:
    """Returns the report in Markdown.

    Args:
      results: of `evaluate_finetuning`.
      folder: where the report will lie; pictures that are there are shown.
    """
    names = list(results["reference"])
    lines = [f"# {results['task']}: fine-tuned by {results['objective']}", ""]
    lines += ["| measure | reference | fine-tuned |", "|---|---|---|"]
    lines += [
        f"| {name} | {_cell(results['reference'][name])} | {_cell(results['fine-tuned'][name])} |"
        for name in names
    ]
    lines += [
        "",
        f"Held-out contexts, {results['num_samples']} samples per policy and seed, "
        f"{results['num_seeds']} seeds; brackets: 95 % bootstrap over "
        + ("seeds." if results["num_seeds"] > 1 else "nothing, there is one seed."),
        f"`kl` is the mean log-ratio of whole denoising trajectories to the reference, "
        f"`objective` the reward less {results['beta']:g} times it.",
        "",
    ]
    for name, caption in (
        ("samples.png", "Samples of the first seed, same contexts and noise before and after"),
        ("curves.png", "Training"),
    ):
        if (folder / name).exists():
            lines += [f"![{caption}]({name})", "", f"*{caption}.*", ""]
    return "\n".join(lines)


def _per_seed(found: HeldOut, config: FinetuneConfig) -> dict[str, NDArray[np.floating]]:
    """[S] means over the samples of each measurement."""
    measures = {name: np.mean(value, axis=-1) for name, value in found.measures.items()}
    reward, kl = np.mean(found.reward, axis=-1), np.mean(found.log_ratio, axis=-1)
    return {"reward": reward, "kl": kl, "objective": reward - config.beta * kl, **measures}


def _draw_samples(pictures: Mapping[str, Any], draw: Draw, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.0 * len(pictures), 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(pictures), squeeze=False)[0]
    for axis, (name, outcome) in zip(axes, pictures.items(), strict=True):
        draw(axis, outcome)
        axis.set_title(name, fontsize=9)
    figure.savefig(path, dpi=100)


def _draw_curves(run: RunDirectory, tell: Tell) -> None:
    if not run.metrics.exists():
        return
    try:
        learning_curves(
            {"run": [read_metrics(run.metrics)]}, run.report / "curves.png", names=_CURVES
        )
    except NothingToDrawError as error:
        tell(str(error))


def _cell(interval: list[float]) -> str:
    mean, low, high = interval
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


__all__ = ["evaluate_finetuning", "report_text"]
