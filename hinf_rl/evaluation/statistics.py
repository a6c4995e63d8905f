"""Estimates with intervals, in NumPy: what an evaluation may claim from few seeds."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hinf_rl.errors import UserError

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Reduces the last axis of [..., N] values to [...]."""

_RESAMPLES = 2000
_CONFIDENCE = 0.95


class Interval(NamedTuple):
    """An estimate and the ends of its confidence interval."""

    mean: float
    low: float
    high: float


def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Arithmetic mean over the last axis."""
    return np.mean(values, axis=-1)


def interquartile_mean(values: ArrayLike) -> NDArray[np.float64]:
    """Mean of the middle half: `floor(N / 4)` values are dropped at each end of the last axis.

    Less noisy than the median and, unlike the mean, deaf to a single lucky or lost run.
    Source: Agarwal et al. 2021, "Deep RL at the edge of the statistical precipice".

    Args:
      values: [..., N] values.

    Returns:
      [...] interquartile means.
    """
    ordered = np.sort(_values(values), axis=-1)
    count = ordered.shape[-1]
    cut = count // 4
    return np.mean(ordered[..., cut : count - cut], axis=-1)


def bootstrap_interval(
    values: ArrayLike,
    *,
    statistic: Statistic = mean,
    confidence: float = _CONFIDENCE,
    num_resamples: int = _RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap over independent values, for example one per training seed.

    Args:
      values: [N] independent values.
      statistic: what is estimated; reduces the last axis.
      confidence: coverage aimed at, in (0, 1).
      num_resamples: resamples drawn.
      seed: of the resampling, so that a report can be made twice.

    Returns:
      The statistic and its interval. With one value, the interval is that value.
    """
    values = _values(values)
    if values.ndim != 1:
        raise UserError(f"values must be [N], got shape {values.shape}; use stratified_interval")
    picks = np.random.default_rng(seed).integers(0, len(values), (num_resamples, len(values)))
    return _percentile(statistic(values), statistic(values[picks]), confidence)


def stratified_interval(
    values: ArrayLike,
    *,
    statistic: Statistic = mean,
    confidence: float = _CONFIDENCE,
    num_resamples: int = _RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Bootstrap over training seeds and, within each drawn seed, over its episodes.

    Episodes of one policy are alike, so resampling them as if they were independent would
    claim far too much; the seeds carry most of the spread.

    Args:
      values: [S, N] one row of episodes per training seed.
      statistic: applied to the S seed means of a resample; reduces the last axis.
      confidence: coverage aimed at, in (0, 1).
      num_resamples: resamples drawn.
      seed: of the resampling.

    Returns:
      The statistic of the seed means and its interval.
    """
    values = _values(values)
    if values.ndim != 2:
        raise UserError(f"values must be [seeds, episodes], got shape {values.shape}")
    generator = np.random.default_rng(seed)
    num_seeds, num_episodes = values.shape
    estimates = np.empty(num_resamples)
    for index in range(num_resamples):
        rows = generator.integers(0, num_seeds, (num_seeds, 1))
        columns = generator.integers(0, num_episodes, (num_seeds, num_episodes))
        estimates[index] = statistic(np.mean(values[rows, columns], axis=-1))
    return _percentile(statistic(np.mean(values, axis=-1)), estimates, confidence)


def wilson_interval(successes: int, trials: int, *, confidence: float = _CONFIDENCE) -> Interval:
    """Wilson score interval of a share of independent trials.

    `(p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)`. A bootstrap of 96 survivals in
    96 episodes would claim certainty; this does not. Source: Wilson 1927.

    Args:
      successes: trials that succeeded.
      trials: all trials, > 0.
      confidence: coverage aimed at, in (0, 1).
    """
    if not 0 <= successes <= trials or trials < 1:
        raise UserError(f"need 0 <= successes <= trials > 0, got {successes} of {trials}")
    from scipy.special import ndtri

    z = float(ndtri(0.5 + 0.5 * _checked(confidence)))
    share = successes / trials
    centre = share + z**2 / (2 * trials)
    reach = z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    scale = 1 + z**2 / trials
    # At the ends the formula gives exactly the end; rounding must not put it outside.
    low = min((centre - reach) / scale, share)
    high = max((centre + reach) / scale, share)
    return Interval(share, max(low, 0.0), min(high, 1.0))


def probability_of_improvement(ours: ArrayLike, theirs: ArrayLike) -> float:
    """Chance that a run of ours beats a run of theirs: `P(X > Y) + P(X = Y) / 2`.

    Equals the Mann-Whitney statistic divided by `N * M`.

    Args:
      ours: [N] values, larger is better.
      theirs: [M] values.
    """
    gap = _values(ours)[:, None] - _values(theirs)[None, :]
    return float(np.mean(0.5 * (np.sign(gap) + 1.0)))


def paired_difference(
    ours: ArrayLike,
    theirs: ArrayLike,
    *,
    statistic: Statistic = mean,
    confidence: float = _CONFIDENCE,
    num_resamples: int = _RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Difference `ours - theirs` of two arms that share seeds, or start states, pair by pair.

    Args:
      ours: [N] values.
      theirs: [N] values of the same pairs, in the same order.
      statistic: of the differences; reduces the last axis.
      confidence: coverage aimed at, in (0, 1).
      num_resamples: resamples drawn.
      seed: of the resampling.
    """
    ours, theirs = _values(ours), _values(theirs)
    if ours.shape != theirs.shape:
        raise UserError(
            f"paired arms need equal shapes, got {ours.shape} and {theirs.shape}; compare "
            "unpaired arms with probability_of_improvement"
        )
    return bootstrap_interval(
        ours - theirs,
        statistic=statistic,
        confidence=confidence,
        num_resamples=num_resamples,
        seed=seed,
    )


def _values(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    if array.size == 0:
        raise UserError("no values to estimate from; give at least one")
    return array


def _checked(confidence: float) -> float:
    if not 0.0 < confidence < 1.0:
        raise UserError(f"confidence must lie in (0, 1), got {confidence}")
    return confidence


def _percentile(
    estimate: NDArray[np.float64], resampled: NDArray[np.float64], confidence: float
) -> Interval:
    tail = 50.0 * (1.0 - _checked(confidence))
    low, high = np.percentile(resampled, [tail, 100.0 - tail])
    return Interval(float(estimate), float(low), float(high))


__all__ = [
    "Interval",
    "Statistic",
    "bootstrap_interval",
    "interquartile_mean",
    "mean",
    "paired_difference",
    "probability_of_improvement",
    "stratified_interval",
    "wilson_interval",
]
