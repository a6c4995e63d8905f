"""What an evaluation reports: the sampler and the rankers apart, as they are two things.

Gains of a value-based coder may come from ranking alone; both are therefore always shown beside
a random choice and beside likelihood. N problems with m candidates of T tokens each.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from hinf_rl.agents.bcoder.data import Programs, Prompts, draw_programs
from hinf_rl.agents.bcoder.ranking import mean_auc, pass_at_k, ranking_auc, success_at_k
from hinf_rl.language.generation import SamplingConfig
from hinf_rl.networks.transformer import Transformer
from hinf_rl.types import Array, PyTree

# Draws over which the random choice of distinct candidates is averaged.
_RANDOM_DRAWS = 32


class Candidates(NamedTuple):
    """Programs for N problems, and how they fared.

    Attributes:
      tokens: [N, m, T] int32.
      mask: [N, m, T] bool.
      outcome: [N, m] float32 reward of the unit tests.
    """

    tokens: NDArray[np.int32]
    mask: NDArray[np.bool_]
    outcome: NDArray[np.float32]

    @property
    def is_correct(self) -> NDArray[np.bool_]:
        """[N, m] whether all tests passed, which alone earns a positive reward."""
        return self.outcome > 0.0

    @property
    def programs(self) -> Programs:
        """The N m candidates one after the other."""
        count, each, length = self.tokens.shape
        return Programs(
            problem=jnp.repeat(jnp.arange(count, dtype=jnp.int32), each),
            tokens=jnp.asarray(self.tokens.reshape(-1, length)),
            mask=jnp.asarray(self.mask.reshape(-1, length)),
            outcome=jnp.asarray(self.outcome.reshape(-1)),
        )


def draw_candidates(
    transformer: Transformer,
    settings: SamplingConfig,
    variables: PyTree,
    prompts: Prompts,
    per_problem: int,
    key: Array,
    judge: Callable[[Array, Array], Any],
) -> Candidates:
    """Samples candidates of every problem and has them judged.

    Args:
      transformer: the architecture.
      settings: how to sample.
      variables: of the model.
      prompts: the problems.
      per_problem: m.
      key: PRNG key.
      judge: `judge(problem [B], tokens [B, T]) -> [B]` outcomes.
    """
    count = prompts.tokens.shape[0]
    problem = jnp.repeat(jnp.arange(count, dtype=jnp.int32), per_problem)
    tokens, mask = draw_programs(transformer, settings, variables, prompts, problem, key)
    shape = (count, per_problem, tokens.shape[-1])
    outcome = np.asarray(judge(problem, tokens), np.float32)
    return Candidates(
        np.asarray(tokens).reshape(shape),
        np.asarray(mask).reshape(shape),
        outcome.reshape(shape[:2]),
    )


def sampler_report(candidates: Candidates, ks: Sequence[int] = (1, 5)) -> dict[str, Any]:
    """Unbiased pass@k of the sampler itself, mean outcome and share of each outcome."""
    correct = candidates.is_correct.sum(axis=1)
    each = candidates.outcome.shape[1]
    values, counts = np.unique(np.round(candidates.outcome, 3), return_counts=True)
    share = counts / candidates.outcome.size
    return {
        **{f"pass@{k}": float(np.mean(pass_at_k(correct, each, k))) for k in ks if k <= each},
        "mean_outcome": float(np.mean(candidates.outcome)),
        "share": {f"{value:g}": float(part) for value, part in zip(values, share, strict=True)},
    }


def ranker_report(
    scores: Mapping[str, NDArray[np.floating]], candidates: Candidates, ks: Sequence[int] = (1, 5)
) -> dict[str, dict[str, Any]]:
    """How well each score picks among given candidates, a random choice beside them.

    Args:
      scores: [N, m] by ranker.
      candidates: what is picked from.
      ks: how many candidates may be shown.

    Returns:
      by ranker: `top@k` (share of problems solved by the k best), `distinct@k` (by the k best
      distinct ones), `auc` (within a problem, mean over problems), `pooled_auc` (over all
      candidates together; both 0.5 where all are right or none is) and `mean` (mean score by
      outcome).
    """
    correct, tokens = candidates.is_correct, candidates.tokens
    report = {"random": _random_report(candidates, ks)}
    for name, score in scores.items():
        score = np.asarray(score)
        report[name] = {
            **{
                f"{word}@{k}": float(
                    np.mean(success_at_k(score, tokens, correct, k, distinct=distinct))
                )
                for word, distinct in (("top", False), ("distinct", True))
                for k in ks
            },
            "auc": _or_chance(mean_auc(score, correct)),
            "pooled_auc": _or_chance(ranking_auc(score.ravel(), correct.ravel())),
            "mean": {
                f"{value:g}": float(np.mean(score[np.isclose(candidates.outcome, value)]))
                for value in np.unique(np.round(candidates.outcome, 3))
            },
        }
    return report


def score_candidates(
    scores: Callable[..., dict[str, Array]], carry: PyTree, prompts: Prompts, candidates: Candidates
) -> dict[str, NDArray[np.float32]]:
    """[N, m] scores by ranker, of `make_scores`."""
    flat = scores(carry, prompts, candidates.programs)
    shape = candidates.outcome.shape
    return {name: np.asarray(value).reshape(shape) for name, value in jax.device_get(flat).items()}


def _or_chance(area: float) -> float:
    return 0.5 if np.isnan(area) else area


def _random_report(candidates: Candidates, ks: Sequence[int]) -> dict[str, Any]:
    """Exact for candidates as they are, averaged over draws for distinct ones."""
    correct, each = candidates.is_correct, candidates.outcome.shape[1]
    draw = np.random.default_rng(0)
    shuffles = draw.random((_RANDOM_DRAWS, *correct.shape))
    report: dict[str, Any] = {"auc": 0.5, "pooled_auc": 0.5}
    for k in ks:
        report[f"top@{k}"] = float(np.mean(pass_at_k(correct.sum(axis=1), each, k)))
        report[f"distinct@{k}"] = float(
            np.mean([success_at_k(one, candidates.tokens, correct, k) for one in shuffles])
        )
    return report


__all__ = [
    "Candidates",
    "draw_candidates",
    "ranker_report",
    "sampler_report",
    "score_candidates",
]
