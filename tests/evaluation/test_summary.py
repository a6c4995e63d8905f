import numpy as np

from hinf_rl.evaluation import summary


def test_survival_by_direction_weighs_episodes_by_their_force():
    # First direction: 2 N in an episode that was survived, 6 N in one that was not: 2 / 8.
    # Second: 3 N in the lost one alone. Third: nobody was pushed that way.
    rose = np.array([[2.0, 0.0, 0.0], [6.0, 3.0, 0.0]])
    assert summary._weighted_shares([True, False], rose) == [0.25, 0.0, None]


def test_shares_of_seeds_that_are_not_known_have_no_weight():
    shares = [[0.5, np.nan], [1.0, 0.25]]
    # (0.5 * 1 + 1 * 3) / 4 in the first direction, the second seed's own in the second.
    assert summary._weighted_shares(shares, [[1.0, 0.0], [3.0, 2.0]]) == [0.875, 0.25]
