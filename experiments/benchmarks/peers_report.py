"""Renders the comparisons with peers as results/peers.md.

python -m experiments.benchmarks.peers_report
"""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hinf_rl.training.files import read_json, write_atomic

RESULTS = Path(__file__).parent / "results"
FILES = ("brax_ppo", "gymnax_cartpole", "native_mjx")


def _ratio(found: Mapping[str, float]) -> str:
    """Median and range, and whether the peer is faster."""
    text = f"{found['median']:.2f} ({found['min']:.2f} to {found['max']:.2f})"
    return f"{text} **lost**" if found["median"] < 1.0 else text


def _seconds(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} s"


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %"


def brax_rows(data: Mapping[str, Any]) -> list[str]:
    """Ratios against Brax's PPO."""
    found, runs = data["summary"], data["runs"]
    speeds, first, wall = found["env_steps_per_s"], found["first_result_s"], found["wall_s"]
    returns = {name: statistics.mean(values) for name, values in found["return"].items()}
    counts = {
        name: (
            statistics.median(run[name]["compiled"]["programs"] for run in runs),
            statistics.median(len(run[name]["compiled"]["long"]) for run in runs),
        )
        for name in ("ours", "brax")
    }
    return [
        f"| PPO / Brax's PPO, steady speed | {_ratio(found['steady_speed_ratio'])} | "
        f"{speeds['ours']:,.0f} and {speeds['brax']:,.0f} steps/s |",
        f"| PPO / Brax's PPO, start of the process to the first result | "
        f"{_ratio(found['first_result_ratio'])} | {_seconds(first['ours'])} and "
        f"{_seconds(first['brax'])} |",
        f"| PPO / Brax's PPO, whole training of {runs[0]['ours']['steps']:,} steps | "
        f"{_ratio(found['wall_ratio'])} | {_seconds(wall['ours'])} and {_seconds(wall['brax'])} |",
        f"| Brax's PPO: programs compiled, those over 0.5 s | | {counts['ours'][0]:.0f} "
        f"({counts['ours'][1]:.0f} long) and {counts['brax'][0]:.0f} "
        f"({counts['brax'][1]:.0f} long) |",
        f"| Brax's PPO: return after equal steps, {len(runs)} seeds | | {returns['ours']:.0f} and "
        f"{returns['brax']:.0f} of {data['settings'].get('episode_length', 1000)} |",
    ]


def gymnax_rows(data: Mapping[str, Any]) -> list[str]:
    """Ratios against the whole-training jit."""
    lines = []
    for seeds, entry in data["seeds"].items():
        label = f"{seeds} seed{'s' if seeds != '1' else ''} x {entry['updates']} updates"
        if "unmeasured" in entry:
            lines.append(f"| cart-pole, {label} | not measured | {entry['unmeasured']} |")
        if "summary" not in entry:
            continue
        found = entry["summary"]
        speeds, first, returns = found["env_steps_per_s"], found["first_result_s"], found["return"]
        last = entry["starts"][-1]
        compiled = {name: last[name]["compiled"] for name in ("ours", "whole_jit")}
        lines += [
            f"| PPO / whole-training jit, {label}, training speed | "
            f"{_ratio(found['training_speed_ratio'])} | {speeds['ours']:,.0f} and "
            f"{speeds['whole_jit']:,.0f} steps/s |",
            f"| PPO / whole-training jit, {label}, start of the process to trained | "
            f"{_ratio(found['first_result_ratio'])} | {_seconds(first['ours'])} and "
            f"{_seconds(first['whole_jit'])}; {compiled['ours']['programs']} and "
            f"{compiled['whole_jit']['programs']} programs compiled "
            f"({len(compiled['ours']['long'])} and {len(compiled['whole_jit']['long'])} long) |",
            f"| whole-training jit, {label}: return of the mean policy | | "
            f"{returns['ours']['return']:.0f} and {returns['whole_jit']['return']:.0f} of 500 |",
        ]
    return lines


def mjx_rows(data: Mapping[str, Any]) -> list[str]:
    """Ratios against MJX."""
    lines = []
    for kind, unit, entries in (
        ("stepping", "physics_steps_per_s", data.get("stepping", ())),
        ("training", "env_steps_per_s", data.get("training", ())),
    ):
        for entry in entries:
            label = f"native physics / MJX (JAX), {kind}, {entry['num_envs']} robots"
            speeds = entry[unit]
            shown = " and ".join(
                f"{speeds[name]:,.0f}" for name in ("native", "mjx") if name in speeds
            )
            what = "physics" if kind == "stepping" else "control"
            if "native_over_mjx" in entry:
                lines.append(
                    f"| {label} | {_ratio(entry['native_over_mjx'])} | {shown} {what} steps/s |"
                )
            else:
                missing = entry.get("unmeasured", {})
                reasons = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
                lines.append(f"| {label} | not measured | {reasons}; {shown} {what} steps/s |")
    return lines


def brax_profile(data: Mapping[str, Any]) -> list[str]:
    """Where a turn of each side goes."""
    lines = ["Where a turn goes, Brax's inverted pendulum (median over seeds):", ""]
    for name, label in (("ours", "ours"), ("brax", "Brax")):
        runs = [run[name] for run in data["runs"]]
        turn = statistics.median(s for run in runs for s in run["turn_s"][2:])
        simulate = statistics.median(s for run in runs for s in run["profile_s"]["simulate"])
        resets = [s for run in runs for s in run["profile_s"].get("reset", [])]
        fresh = (
            f", of which fresh resets {_share(statistics.median(resets), turn)}" if resets else ""
        )
        lines.append(
            f"- {label}: {turn:.2f} s; simulation under random actions "
            f"{_share(simulate, turn)}{fresh}; policy and learner the rest."
        )
    return lines


def gymnax_profile(data: Mapping[str, Any]) -> list[str]:
    """Where a training of each side goes."""
    lines = ["Where a training goes, cart-pole:", ""]
    for seeds, entry in data["seeds"].items():
        if "summary" not in entry:
            continue
        simulation = statistics.median(entry["summary"]["simulation_s"])
        shares = []
        for name, label in (("ours", "ours"), ("whole_jit", "whole-training jit")):
            sides = [start[name] for start in entry["starts"]]
            turn = statistics.median(s for side in sides for s in side["turn_s"])
            profiles = [side["profile_s"] for side in sides if "profile_s" in side]
            learner = [
                (double - single) / single
                for profile in profiles
                for single, double in zip(profile["turn"], profile["double"], strict=True)
            ]
            learns = f"learner {_share(statistics.median(learner), 1.0)}, " if learner else ""
            shares.append(
                f"{label} {turn:.2f} s, {learns}simulation in gymnax {_share(simulation, turn)}"
            )
        lines.append(f"- {seeds} seed{'s' if seeds != '1' else ''}: {'; '.join(shares)}.")
    return lines


# What is known about a ratio that is lost, and what was done or not done about it.
LOST = {
    "brax_ppo": "Where ours is behind it is before the first result, in compiling two larger "
    "programs: the start of a run, and a step that resets each environment by itself, values two "
    "rewards and counts what is not finite. Brax compiles its epoch a second time after its first "
    "result, which ours does not. The fresh start of every environment in every step, once "
    "suspected, is the small share above. What was done: advantages and values are computed once "
    "per iteration, not in each minibatch, and the step is compiled once.",
    "gymnax_cartpole": "Where ours is behind, no part of it stands out: the learner has about the "
    "same share of both. Ours steps two optimisers where the whole-training jit has one, restarts "
    "each environment by its own key, skips what is not finite, bootstraps at time-outs from the "
    "true last observation (a second evaluation of the critic per step), values the task reward "
    "with a head of its own and holds all that a run is resumed from; each, taken out for a trial, "
    "saved little. That stays. With four environments both are mostly the number of kernels, and "
    "the more seeds are computed side by side, the closer they come. What was done: all iterations "
    "run in one compiled call, as there, and the guard of the environments is one reduction. "
    "Before the first result, ours compiles the start of a run and a larger step.",
}

RENDERED = {
    "brax_ppo": (brax_rows, brax_profile),
    "gymnax_cartpole": (gymnax_rows, gymnax_profile),
    "native_mjx": (mjx_rows, None),
}


def table(results: Mapping[str, Any]) -> list[str]:
    """One line for each ratio that has been measured; above 1 is in our favour."""
    lines = ["| | ratio, median (least to largest) | ours and the peer's |", "|---|---|---|"]
    for name, (rows, _) in RENDERED.items():
        if name in results:
            lines += rows(results[name])
    return lines


def sources(results: Mapping[str, Any]) -> list[str]:
    """Where the numbers come from, each origin once."""
    lines = []
    for name in RENDERED:
        for source in _origins(results.get(name, {})):
            line = (
                f"- `{source['command']}`, commit `{source['git']['commit']}`, "
                f"{source['date_utc']}, {source['device']['cpu_count']} CPU cores, "
                f"jax {source['versions']['jax']}, mujoco {source['versions']['mujoco']}."
            )
            if line not in lines:
                lines.append(line)
    return lines


def _origins(data: Any) -> list[Mapping[str, Any]]:
    """Every provenance in a file of results."""
    if isinstance(data, list):
        return [found for part in data for found in _origins(part)]
    if not isinstance(data, Mapping):
        return []
    own = [data["provenance"]] if "provenance" in data else []
    return own + [found for part in data.values() for found in _origins(part)]


def markdown(results: Mapping[str, Any]) -> list[str]:
    """The report."""
    lines = ["# Against peers: results", "", "A ratio above 1 is in our favour.", ""]
    lines += table(results)
    for name, (_, profile) in RENDERED.items():
        if name in results and profile is not None:
            lines += ["", *profile(results[name])]
            if any("**lost**" in row for row in RENDERED[name][0](results[name])):
                lines += ["", LOST[name]]
    return [*lines, "", *sources(results), ""]


def measured() -> dict[str, Any]:
    """The files that exist."""
    paths = {name: RESULTS / f"{name}.json" for name in FILES}
    return {name: read_json(path) for name, path in paths.items() if path.exists()}


def readme_section() -> list[str]:
    """What the README says of this comparison."""
    return [
        "### Speed against peers",
        "",
        "The same settings on both sides, which take turns; a ratio above 1 is in our favour. "
        "Profiles: [experiments/benchmarks](experiments/benchmarks/results/peers.md).",
        "",
        *table(measured()),
    ]


def main() -> None:
    """Writes peers.md."""
    write_atomic(RESULTS / "peers.md", "\n".join(markdown(measured())))


if __name__ == "__main__":
    main()
