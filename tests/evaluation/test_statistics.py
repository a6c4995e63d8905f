import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from hinf_rl.errors import UserError
from hinf_rl.evaluation import statistics

_LISTS = st.lists(st.floats(-100.0, 100.0), min_size=1, max_size=12)


def test_interquartile_mean_drops_a_quarter_at_each_end():
    # 8 values: 2 dropped at each end, (3 + 4 + 5 + 6) / 4 = 4.5, whatever the outlier.
    assert statistics.interquartile_mean([1, 2, 3, 4, 5, 6, 7, 1000.0]) == 4.5


@settings(deadline=None)
@given(values=_LISTS)
def test_interquartile_mean_is_scipys_trimmed_mean(values):
    expected = scipy.stats.trim_mean(values, 0.25)
    np.testing.assert_allclose(statistics.interquartile_mean(values), expected, atol=1e-9)


@pytest.mark.parametrize(("successes", "trials"), [(0, 7), (7, 7), (50, 96), (96, 96), (1, 1)])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_wilson_interval_is_scipys(successes, trials, confidence):
    ours = statistics.wilson_interval(successes, trials, confidence=confidence)
    theirs = scipy.stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    np.testing.assert_allclose(ours, (successes / trials, theirs.low, theirs.high), atol=1e-7)


def test_wilson_interval_by_hand():
    # No success in n trials: 0 to z^2 / (n + z^2) = 3.8415 / 13.8415 = 0.27753 for n = 10.
    low_end = statistics.wilson_interval(0, 10)
    np.testing.assert_allclose(low_end, (0.0, 0.0, 0.27753), atol=1e-5)


@settings(deadline=None)
@given(ours=_LISTS, theirs=_LISTS)
def test_probability_of_improvement_is_mann_whitney(ours, theirs):
    statistic = scipy.stats.mannwhitneyu(ours, theirs, method="asymptotic").statistic
    expected = statistic / (len(ours) * len(theirs))
    computed = statistics.probability_of_improvement(ours, theirs)
    np.testing.assert_allclose(computed, expected, atol=1e-9)


def test_probability_of_improvement_by_hand():
    # Pairs: 1<2, 1<3, 3>2, 3=3: (0 + 0 + 1 + 0.5) / 4.
    assert statistics.probability_of_improvement([1, 3], [2, 3]) == 0.375


def test_bootstrap_matches_the_normal_theory_of_a_large_sample():
    values = np.random.default_rng(3).normal(2.0, 5.0, 2000)
    interval = statistics.bootstrap_interval(values, num_resamples=4000)
    half_width = 1.96 * values.std() / np.sqrt(2000)
    assert interval.mean == pytest.approx(values.mean())
    # 4000 resamples place a 2.5 % quantile to about 3 % of the half width.
    np.testing.assert_allclose(interval.high - interval.mean, half_width, rtol=0.1)
    np.testing.assert_allclose(interval.mean - interval.low, half_width, rtol=0.1)


def test_bootstrap_interval_covers_the_true_mean_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        interval = statistics.bootstrap_interval(
            generator.normal(size=40), confidence=0.8, num_resamples=300, seed=trial
        )
        covered += interval.low <= 0.0 <= interval.high
    # 200 trials at 0.8: standard error 0.028; 40 values cost the percentile method about 0.01.
    assert 0.70 <= covered / 200 <= 0.88


def test_equal_values_leave_no_interval():
    assert statistics.bootstrap_interval([2.0, 2.0, 2.0]) == (2.0, 2.0, 2.0)
    assert statistics.stratified_interval(np.full((3, 5), 2.0)) == (2.0, 2.0, 2.0)


def test_seeds_widen_the_interval_where_episodes_are_alike():
    # Seeds 0 and 1 with 50 identical episodes each: half of the resamples have seed mean 0.5,
    # a quarter 0 and a quarter 1, so the interval is the whole of [0, 1]. Treated as 100
    # independent values it would be 0.5 +- 0.1.
    values = np.repeat([[0.0], [1.0]], 50, axis=1)
    assert statistics.stratified_interval(values) == (0.5, 0.0, 1.0)
    pooled = statistics.bootstrap_interval(values.ravel())
    assert pooled.low > 0.35


def test_stratified_interval_of_one_seed_is_the_interval_of_its_episodes():
    values = np.random.default_rng(1).normal(size=200)
    rows = statistics.stratified_interval(values[None], num_resamples=4000)
    plain = statistics.bootstrap_interval(values, num_resamples=4000)
    np.testing.assert_allclose(rows, plain, atol=0.02)


def test_pairing_removes_what_both_arms_share():
    shared = np.random.default_rng(2).normal(0.0, 100.0, 30)
    interval = statistics.paired_difference(shared + 1.0, shared)
    np.testing.assert_allclose(interval, (1.0, 1.0, 1.0), atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(values=_LISTS, shift=st.floats(-10.0, 10.0), scale=st.floats(0.1, 10.0))
def test_intervals_move_and_scale_with_the_values(values, shift, scale):
    plain = statistics.bootstrap_interval(values, num_resamples=50)
    moved = statistics.bootstrap_interval(shift + scale * np.asarray(values), num_resamples=50)
    np.testing.assert_allclose(moved, shift + scale * np.asarray(plain), atol=1e-6)
    assert plain.low <= plain.high


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: statistics.bootstrap_interval([]), "no values"),
        (lambda: statistics.bootstrap_interval([[1.0]]), "stratified_interval"),
        (lambda: statistics.bootstrap_interval([1.0], confidence=1.0), "confidence"),
        (lambda: statistics.stratified_interval([1.0]), "seeds, episodes"),
        (lambda: statistics.wilson_interval(3, 2), "3 of 2"),
        (lambda: statistics.paired_difference([1.0], [1.0, 2.0]), "equal shapes"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(UserError, match=message):
        call()
