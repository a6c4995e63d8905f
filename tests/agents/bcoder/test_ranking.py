"""pass@k against enumeration, ranking against sorting by hand, AUC against all pairs."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinf_rl.agents.bcoder import mean_auc, pass_at_k, rank_programs, ranking_auc, success_at_k
from hinf_rl.agents.bcoder.evaluate import Candidates, ranker_report, sampler_report
from hinf_rl.errors import UserError


@given(data=st.data(), m=st.integers(1, 8))
def test_pass_at_k_equals_the_enumeration_of_all_draws(data, m):
    c, k = data.draw(st.integers(0, m)), data.draw(st.integers(1, m))
    correct = np.arange(m) < c
    draws = [correct[list(chosen)].any() for chosen in itertools.combinations(range(m), k)]
    np.testing.assert_allclose(pass_at_k(c, m, k), np.mean(draws), atol=1e-12)


def test_pass_at_k_of_many_samples_stays_finite():
    # 1 - C(2000, 1000) / C(2500, 1000) is 1 to double precision; C alone would overflow.
    np.testing.assert_allclose(pass_at_k([0, 500, 2500], 2500, 1000), [0.0, 1.0, 1.0])


def test_distinct_ranking_by_hand():
    # Scores put candidates in the order 2, 0, 3, 1; 2 and 0 are the same program, as are 3 and 1.
    tokens = np.array([[[7, 1], [8, 1], [7, 1], [8, 1]]])
    scores = np.array([[0.8, 0.1, 0.9, 0.5]])
    assert rank_programs(scores, tokens, 4, distinct=False).tolist() == [[2, 0, 3, 1]]
    assert rank_programs(scores, tokens, 2).tolist() == [[2, 3]]
    # Fewer than k are distinct: repetitions fill up, the best first.
    assert rank_programs(scores, tokens, 4).tolist() == [[2, 3, 0, 1]]
    correct = np.array([[False, True, False, True]])
    assert not success_at_k(scores, tokens, correct, 2, distinct=False)[0]
    assert success_at_k(scores, tokens, correct, 2)[0]


@given(seed=st.integers(0, 10_000), k=st.integers(1, 6))
def test_ranking_returns_k_distinct_programs_where_there_are(seed, k):
    draw = np.random.default_rng(seed)
    tokens, scores = draw.integers(0, 2, (3, 6, 2)), draw.normal(size=(3, 6))
    chosen = rank_programs(scores, tokens, k)
    for row, programs, score in zip(chosen, tokens, scores, strict=True):
        assert len(set(row.tolist())) == k
        available = len(np.unique(programs, axis=0))
        picked = programs[row]
        assert len(np.unique(picked, axis=0)) == min(k, available)
        assert row[0] == np.argmax(score)


@given(seed=st.integers(0, 10_000))
def test_auc_equals_the_count_over_pairs(seed):
    draw = np.random.default_rng(seed)
    scores, correct = draw.integers(0, 4, 9).astype(float), draw.random(9) < 0.4
    pairs = [np.sign(a - b) / 2 + 0.5 for a in scores[correct] for b in scores[~correct]]
    if pairs:
        np.testing.assert_allclose(ranking_auc(scores, correct), np.mean(pairs))
    else:
        assert np.isnan(ranking_auc(scores, correct))


def test_auc_within_problems_ignores_what_their_scores_share():
    # In each problem the right one is on top; a constant per problem hides it from the pooled AUC.
    scores = np.array([[1.0, 0.0], [11.0, 10.0], [5.0, 5.0]])
    correct = np.array([[True, False], [True, False], [False, False]])
    assert mean_auc(scores, correct) == 1.0
    assert ranking_auc(scores.ravel(), correct.ravel()) < 1.0


def test_reports_by_hand():
    # Two problems, four candidates: one and three right. pass@1 = (1/4 + 3/4) / 2; best of 5 needs
    # five candidates and is left out.
    outcome = np.float32([[1, -0.3, -0.3, -1], [1, 1, 1, -0.6]])
    tokens = np.arange(8).reshape(2, 4, 1)
    candidates = Candidates(tokens, np.ones((2, 4, 1), bool), outcome)
    report = sampler_report(candidates)
    assert report["pass@1"] == 0.5 and "pass@5" not in report
    assert report["share"] == {"-1": 0.125, "-0.6": 0.125, "-0.3": 0.25, "1": 0.5}
    np.testing.assert_allclose(report["mean_outcome"], (4 - 0.6 - 1.6) / 8, rtol=1e-6)
    ranked = ranker_report({"oracle": outcome, "worst": -outcome}, candidates, ks=(1, 2))
    assert ranked["oracle"]["top@1"] == 1.0 and ranked["oracle"]["auc"] == 1.0
    assert ranked["worst"]["top@1"] == 0.0 and ranked["worst"]["distinct@2"] == 0.5
    np.testing.assert_allclose(ranked["oracle"]["mean"]["-0.6"], -0.6, rtol=1e-6)
    # Distinct programs: random top 1 is pass@1, and so is its average over draws, up to noise.
    assert ranked["random"]["top@1"] == 0.5
    assert abs(ranked["random"]["distinct@1"] - 0.5) < 0.2
    np.testing.assert_allclose(ranked["random"]["top@2"], (1 - 3 / 6 + 1) / 2)


@pytest.mark.parametrize("k", [0, 5])
def test_k_out_of_range_is_refused(k):
    with pytest.raises(UserError, match="k = "):
        pass_at_k(1, 4, k)
    with pytest.raises(UserError, match="k = "):
        rank_programs(np.zeros((1, 4)), np.zeros((1, 4, 1)), k)
