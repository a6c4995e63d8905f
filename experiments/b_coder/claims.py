"""What was promised before these seeds were run, and whether it holds.

The thresholds come from an earlier program of which only two seeds' results are left. A claim
holds where it holds for the mean over the seeds and for all seeds but at most one.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Results = Mapping[str, Any]


def train_curve(arm: Results, seed: str) -> list[float]:
    """Share of right samples on training problems, after each stretch of stage two."""
    return [row["train"]["pass@1"] for row in arm["seeds"][seed]["curve"] if "train" in row]


def claims(checkpoint: Results, arms: Mapping[str, Results]) -> list[dict[str, Any]]:
    """One row per claim that all arms are there for: margin per seed, >= 0 where it holds."""
    seeds = sorted(checkpoint["seeds"])
    rows = []
    for text, needed, margin in _CLAIMS:
        if not all(name in arms and set(seeds) <= set(arms[name]["seeds"]) for name in needed):
            continue
        margins = [float(margin(checkpoint["seeds"][s], arms, s)) for s in seeds]
        held = sum(value >= 0.0 for value in margins)
        passed = bool(np.mean(margins) >= 0.0 and held >= len(seeds) - 1)
        rows.append({"claim": text, "margins": margins, "held": held, "passed": passed})
    return rows


def _final(arms: Mapping[str, Results], name: str, seed: str) -> float:
    return train_curve(arms[name], seed)[-1]


def _ranker(arms: Mapping[str, Results], seed: str, ranker: str, key: str) -> float:
    return arms["bcoder"]["seeds"][seed]["rankers_on_reference"][ranker][key]


def _over(other: str) -> Callable[..., float]:
    """Margin of the conservative operator over another arm, final share on training problems."""
    return lambda _, arms, s: _final(arms, "conservative_q", s) - _final(arms, other, s) - 0.03


def _auc_above(key: str) -> Callable[..., float]:
    return lambda _, arms, s: _ranker(arms, s, "reward", key) - 0.75


def _auc_over_reference(key: str) -> Callable[..., float]:
    return lambda _, arms, s: (
        _ranker(arms, s, "reward", key) - _ranker(arms, s, "log_prob_reference", key) - 0.07
    )


def _order(_: Results, arms: Mapping[str, Results], seed: str) -> float:
    """Smallest gap of the order: compile error < runtime error, failed test < pass."""
    means = arms["bcoder"]["seeds"][seed]["rankers_on_reference"]["reward"]["mean"]
    middle = [means[name] for name in ("-0.6", "-0.3") if name in means]
    if not middle or not {"-1", "1"} <= set(means):
        return float("nan")
    return min(min(middle) - means["-1"], means["1"] - max(middle))


_CLAIMS: tuple[tuple[str, tuple[str, ...], Callable[..., float]], ...] = (
    (
        "(i) L_Q alone: B^q ends at least 0.03 above B*, training problems",
        ("conservative_q", "optimality_q"),
        _over("optimality_q"),
    ),
    (
        "(i) L_Q alone: B^q ends at least 0.03 above B* without stage one",
        ("conservative_q", "dueling_dqn"),
        _over("dueling_dqn"),
    ),
    (
        "(i) L_Q alone, B* without stage one: below 0.15 after 100 steps",
        ("dueling_dqn",),
        lambda _, arms, s: 0.15 - train_curve(arms["dueling_dqn"], s)[0],
    ),
    (
        "(ii) B-Coder gains at least 0.3 over the checkpoint, training problems",
        ("bcoder",),
        lambda ckpt, arms, s: _final(arms, "bcoder", s) - ckpt["train"]["pass@1"] - 0.3,
    ),
    (
        "(ii) B-Coder is never below the checkpoint",
        ("bcoder",),
        lambda ckpt, arms, s: min(train_curve(arms["bcoder"], s)) - ckpt["train"]["pass@1"],
    ),
    (
        "(iii) recovered reward picks at least 0.15 above a random choice, unseen problems",
        ("bcoder",),
        lambda _, arms, s: (
            _ranker(arms, s, "reward", "top@1") - _ranker(arms, s, "random", "top@1") - 0.15
        ),
    ),
    (
        "(iii) AUC of the recovered reward at least 0.75, all candidates together",
        ("bcoder",),
        _auc_above("pooled_auc"),
    ),
    (
        "(iii) AUC of the recovered reward at least 0.75, within a problem",
        ("bcoder",),
        _auc_above("auc"),
    ),
    (
        "(iii) ... and 0.07 above the checkpoint's likelihood, all candidates together",
        ("bcoder",),
        _auc_over_reference("pooled_auc"),
    ),
    (
        "(iii) ... and 0.07 above the checkpoint's likelihood, within a problem",
        ("bcoder",),
        _auc_over_reference("auc"),
    ),
    (
        "(iv) mean recovered reward: compile error lowest, pass highest",
        ("bcoder",),
        _order,
    ),
    (
        "(not expected) B-Coder samples better than SFT, unseen problems",
        ("bcoder", "sft"),
        lambda _, arms, s: (
            arms["bcoder"]["seeds"][s]["unseen"]["pass@1"]
            - arms["sft"]["seeds"][s]["unseen"]["pass@1"]
        ),
    ),
    (
        "(not expected) recovered reward picks better than its own model's likelihood",
        ("bcoder",),
        lambda _, arms, s: (
            _ranker(arms, s, "reward", "top@1") - _ranker(arms, s, "log_prob", "top@1")
        ),
    ),
)

__all__ = ["claims", "train_curve"]
