"""Settings: what is refused, and what each algorithm changes."""

import dataclasses

import pytest

from hinf_rl.agents.bcoder import ALGORITHMS, BCoderConfig, apply_algorithm
from hinf_rl.errors import UserError


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"iterations": 0}, "iterations"),
        ({"batch_size": 0}, "batch_size"),
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": float("inf")}, "alpha"),
        ({"gamma": 1.01}, "gamma"),
        ({"human_fraction": -0.1}, "human_fraction"),
        ({"value_fraction": 1.0}, "value_fraction"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"q_weight": -1.0}, "q_weight"),
        ({"operator": "soft"}, "operator"),
        ({"objective": "ppo"}, "objective"),
        ({"q_weight": 0.0, "advantage_weight": 0.0, "cross_entropy_weight": 0.0}, "one of"),
        ({"human_fraction": 0.0}, "human_fraction"),
        ({"objective": "policy_gradient", "group_size": 1}, "group_size"),
        ({"objective": "policy_gradient", "group_size": 5}, "group_size"),
    ],
)
def test_bad_settings_are_refused_by_name(changes, named):
    with pytest.raises(UserError, match=named):
        BCoderConfig(**changes)


def test_the_papers_split_of_batch_and_steps():
    config = BCoderConfig()
    assert (config.num_human, config.value_iterations, config.policy_iterations) == (32, 300, 400)
    # Without human programs only L_Q can be learned.
    alone = BCoderConfig(human_fraction=0.0, advantage_weight=0.0, cross_entropy_weight=0.0)
    assert alone.num_human == 0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_takes_the_same_steps_of_stage_two(algorithm):
    config = apply_algorithm(BCoderConfig(), algorithm)
    assert config.policy_iterations == 400
    has_first_stage = algorithm in ("bcoder", "conservative_q", "optimality_q")
    assert config.value_iterations == (300 if has_first_stage else 0)
    assert config.uses_value == (algorithm not in ("sft", "reinforce"))


def test_algorithms_differ_by_what_their_name_says():
    full = BCoderConfig()
    alone = apply_algorithm(full, "conservative_q")
    assert alone == dataclasses.replace(full, advantage_weight=0.0, cross_entropy_weight=0.0)
    assert apply_algorithm(full, "optimality_q") == dataclasses.replace(
        alone, operator="optimality"
    )
    assert apply_algorithm(full, "bcoder") is full
    with pytest.raises(UserError, match="did you mean 'reinforce'"):
        apply_algorithm(full, "reinforced")


def test_short_trainings_keep_a_step_of_stage_two():
    assert BCoderConfig(iterations=1, value_fraction=0.9).policy_iterations == 1
