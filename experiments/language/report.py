"""Renders results/*.json as results/report.md.

python -m experiments.language.report
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hinf_rl.training.files import read_json, write_atomic

RESULTS = Path(__file__).parent / "results"


def throughput_table(data: Mapping[str, Any]) -> list[str]:
    """One line per size."""
    lines = [
        "| model and responses | cached, tokens/s | plain, tokens/s | cached / plain, median "
        "(least to largest) | sequences that are equal |",
        "|---|---|---|---|---|",
    ]
    for name, found in data["cases"].items():
        sizes, speeds, times = found["config"], found["tokens_per_s"], found["cached_over_plain"]
        lines.append(
            f"| {name}: {sizes['num_layers']} layers of {sizes['hidden_size']}, "
            f"{sizes['sequences']} prompts of {sizes['prompt_slots']} tokens, "
            f"{sizes['new_tokens']} new ones each | {speeds['cached']:,.0f} | "
            f"{speeds['plain']:,.0f} | {times['median']:.1f} ({times['min']:.1f} to "
            f"{times['max']:.1f}) | {found['equal_sequences']:.1%} |"
        )
    return lines


def parity_table(data: Mapping[str, Any]) -> list[str]:
    """One line per checkpoint."""
    lines = [
        "| checkpoint | files | largest error: blocks | normed hidden states | logits | held to | "
        "equal greedy tokens | met | logits off float32: ours, reference |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {found['files']} | {max(found['error_of_blocks']):.1e} | "
        f"{found['error_of_hidden']:.1e} | {found['error_of_logits']:.1e} | "
        f"{found['tolerance']:.0e} | {found['equal_greedy_tokens']:.1%} | "
        f"{'yes' if found['met'] else '**no**'} | {found['rounding_of_logits']['ours']:.1e}, "
        f"{found['rounding_of_logits']['reference']:.1e} |"
        for name, found in data["cases"].items()
    ]
    return lines


def origin(source: Mapping[str, Any]) -> str:
    """Where a file comes from, one line."""
    versions = source["versions"]
    shown = [
        f"{name} {versions[name]}"
        for name in ("jax", "flax", "torch", "transformers")
        if name in versions
    ]
    return (
        f"`{source['command']}`, commit `{source['git']['commit']}`, {source['date_utc']}, "
        f"{source['device']['cpu_count']} CPU cores, {', '.join(shown)}."
    )


def main() -> None:
    """Writes report.md from what has been measured."""
    lines = ["# Token side: results"]
    for name, title, table in (
        ("throughput", "Cached sampling against whole passes", throughput_table),
        ("reference_parity", "Imported checkpoints against transformers", parity_table),
    ):
        path = RESULTS / f"{name}.json"
        if path.exists():
            data = read_json(path)
            lines += ["", f"## {title}", "", *table(data), "", origin(data["provenance"])]
    write_atomic(RESULTS / "report.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
