"""Renders results/brax_ppo.json as report.md.

python -m experiments.interop.report
"""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.interop.brax_ppo import RESULTS
from hinf_rl.training.files import read_json, write_atomic


def table(data: Mapping[str, Any]) -> list[str]:
    """One line for each arm: untrained, and at the end, over its seeds."""
    lines = [
        "| pushes up to | critic sees | entropy cost | episode length, untrained | trained | "
        "return, untrained | trained | of which task | wall clock |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for arm in data["arms"].values():
        first, last = ([seed[i] for seed in arm["seeds"]] for i in (0, -1))
        push = f"{data['push_limit_n']:g} N" if arm["is_pushed"] else "none"
        lines.append(
            f"| {push} | {'the push, too' if arm['asymmetric'] else 'what the actor sees'} | "
            f"{arm['entropy_cost']:g} | "
            f"{_spread(first, 'length')} | {_spread(last, 'length')} | "
            f"{_spread(first, 'return')} | {_spread(last, 'return')} | "
            f"{_spread(last, 'task_return')} | {_spread(last, 'wall_s')} s |"
        )
    return lines


def _spread(rows: Sequence[Mapping[str, float]], field: str) -> str:
    """Mean, and the least and largest seed."""
    values = [row[field] for row in rows]
    return f"{statistics.mean(values):.0f} ({min(values):.0f} to {max(values):.0f})"


def markdown(data: Mapping[str, Any]) -> str:
    """The report as text."""
    source, versions = data["provenance"], data["versions"]
    arms = list(data["arms"].values())
    seeds, last = len(arms[0]["seeds"]), arms[0]["seeds"][0][-1]
    lines = [
        "# Our cart-pole, trained by Brax's PPO: results",
        "",
        f"{last['env_steps']:,} environment steps, episodes of at most {data['episode_length']}; "
        f"mean (least to largest) of {seeds} seeds, as Brax's evaluations measure the stochastic "
        "policy under the same pushes. Wall clock includes compilation.",
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
