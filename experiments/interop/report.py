"""Renders results/brax_ppo.json as report.md.

python -m experiments.interop.report
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.interop.brax_ppo import RESULTS
from hinf_rl.training.files import read_json, write_atomic


def table(data: Mapping[str, Any]) -> list[str]:
    """One line for each of Brax's evaluations."""
    lines = [
        "| critic sees | environment steps | return | task part | episode length | wall clock |",
        "|---|---|---|---|---|---|",
    ]
    for name, label in (("symmetric", "what the actor sees"), ("asymmetric", "the force, too")):
        for row in data.get(name, ()):
            lines.append(
                f"| {label} | {row['env_steps']:,} | {row['return']:.1f} | "
                f"{row['task_return']:.1f} | {row['length']:.0f} of {data['episode_length']} | "
                f"{row['wall_s']:.0f} s |"
            )
    return lines


def markdown(data: Mapping[str, Any]) -> str:
    """The report as text."""
    source, versions = data["provenance"], data["versions"]
    lines = [
        "# Our cart-pole, trained by Brax's PPO: results",
        "",
        "Random forces push the pole all the time; the numbers are those of Brax's evaluations, "
        "of the stochastic policy. Wall clock includes compilation.",
        "",
        *table(data),
        "",
        f"- `{source['command']}`, commit `{source['git']['commit']}`, {source['date_utc']}, "
        f"{source['device']['cpu_count']} CPU cores, jax {versions['jax']}, brax "
        f"{versions['brax']}.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Writes report.md beside this file."""
    write_atomic(Path(__file__).parent / "report.md", markdown(read_json(RESULTS)))


if __name__ == "__main__":
    main()
