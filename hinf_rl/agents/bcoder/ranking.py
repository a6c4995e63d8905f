"""Which of many candidate programs to show: pass@k, ranking, and how well a score ranks.

NumPy, on the host: N problems with m candidates each.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hinf_rl.errors import UserError


def pass_at_k(num_correct: ArrayLike, num_samples: int, k: int) -> NDArray[np.float64]:
    """Chance that one of k candidates drawn without replacement is right, unbiased.

    `1 - C(m - c, k) / C(m, k)`, as a product so that nothing overflows. Source: Chen et al.
    2021 (arXiv 2107.03374), equation 1.

    Args:
      num_correct: [...] right ones c among the m candidates of each problem.
      num_samples: m.
      k: candidates that may be shown, 1 to m.

    Returns:
      [...] chances.

    Raises:
      UserError: k or a count is out of range.
    """
    correct = np.asarray(num_correct, np.int64)
    if not 1 <= k <= num_samples:
        raise UserError(f"pass@k needs 1 <= k <= samples, got k = {k} of {num_samples}")
    if np.any((correct < 0) | (correct > num_samples)):
        raise UserError(f"correct samples must be 0 to {num_samples}, got {correct.max()}")
    wrong = num_samples - correct[..., None]
    # C(m - c, k) / C(m, k) = prod_{i < k} (m - c - i) / (m - i); a factor is 0 where c > m - k.
    index = np.arange(k)
    factors = np.maximum(wrong - index, 0) / (num_samples - index)
    return 1.0 - np.prod(factors, axis=-1)


def rank_programs(
    scores: ArrayLike, tokens: ArrayLike, k: int, *, distinct: bool = True
) -> NDArray[np.int64]:
    """Picks the k candidates of each problem with the highest scores.

    Args:
      scores: [N, m] scores; equal ones keep their order.
      tokens: [N, m, T] programs, with the same padding wherever they are the same.
      k: how many to pick, 1 to m.
      distinct: pass over a program that was picked already; where fewer than k are distinct,
        the best of the repetitions fill up.

    Returns:
      [N, k] candidates, best first.

    Raises:
      UserError: k is out of range.
    """
    scores, tokens = np.asarray(scores), np.asarray(tokens)
    if not 1 <= k <= scores.shape[1]:
        raise UserError(f"ranking needs 1 <= k <= candidates, got k = {k} of {scores.shape[1]}")
    order = np.argsort(-scores, axis=1, kind="stable")
    if distinct:
        for row, programs in zip(order, tokens, strict=True):
            # Stable: the new ones first, in order, then the repetitions in theirs.
            row[:] = row[np.argsort(_is_repeated(programs[row]), kind="stable")]
    return order[:, :k]


def success_at_k(
    scores: ArrayLike, tokens: ArrayLike, is_correct: ArrayLike, k: int, *, distinct: bool = True
) -> NDArray[np.bool_]:
    """[N] whether one of the k best candidates by `scores` is right; see `rank_programs`."""
    chosen = rank_programs(scores, tokens, k, distinct=distinct)
    return np.any(np.take_along_axis(np.asarray(is_correct, bool), chosen, axis=1), axis=1)


def ranking_auc(scores: ArrayLike, is_correct: ArrayLike) -> float:
    """Chance that a right candidate scores above a wrong one, ties counting half.

    Args:
      scores: [m] scores.
      is_correct: [m] bool.

    Returns:
      Area under the ROC curve; NaN where all are right or none is.
    """
    scores, correct = np.asarray(scores, np.float64), np.asarray(is_correct, bool)
    if correct.all() or not correct.any():
        return float("nan")
    wrong = np.sort(scores[~correct])
    below = np.searchsorted(wrong, scores[correct], side="left")
    not_above = np.searchsorted(wrong, scores[correct], side="right")
    return float(np.mean(below + not_above) / (2 * wrong.size))


def mean_auc(scores: ArrayLike, is_correct: ArrayLike) -> float:
    """Mean of `ranking_auc` over the problems that have right and wrong candidates.

    Args:
      scores: [N, m] scores.
      is_correct: [N, m] bool.
    """
    areas = [
        ranking_auc(*row)
        for row in zip(np.asarray(scores), np.asarray(is_correct, bool), strict=True)
    ]
    known = [area for area in areas if not np.isnan(area)]
    return float(np.mean(known)) if known else float("nan")


def _is_repeated(programs: NDArray[np.integer]) -> NDArray[np.bool_]:
    """[m] whether an earlier row is the same."""
    _, first = np.unique(programs, axis=0, return_index=True)
    repeated = np.ones(len(programs), bool)
    repeated[first] = False
    return repeated


__all__ = [
    "mean_auc",
    "pass_at_k",
    "rank_programs",
    "ranking_auc",
    "success_at_k",
]
