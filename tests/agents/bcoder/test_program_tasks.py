"""The small languages as a workload: settings, data, a tiny run and its report."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.agents.bcoder import BCoderConfig
from hinf_rl.errors import UserError
from hinf_rl.ops.bellman_tokens import completion_mask
from hinf_rl.program_report import evaluate_carry, report_text
from hinf_rl.program_tasks import (
    PROGRAM_SYNTHESIS,
    PROGRAM_TASKS,
    ProgramConfig,
    ProgramSource,
    judge,
    on_device,
    problem_data,
)
from hinf_rl.training.loop import train

TINY = ProgramConfig(
    checkpoint_problems=12,
    noisy_per_problem=2,
    pretrain_steps=3,
    pretrain_batch_size=8,
    train_problems=6,
    samples_per_problem=2,
    human_per_problem=2,
    unseen_problems=5,
    num_layers=1,
    hidden_size=16,
    num_heads=2,
    ff_size=16,
)
AGENT = BCoderConfig(iterations=4, value_fraction=0.5, batch_size=8)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"machine": "stack_machin"}, "did you mean 'stack_machine'"),
        ({"train_problems": 0}, "train_problems"),
        ({"problem_seed": -1}, "problem_seed"),
        ({"pretrain_learning_rate": 0.0}, "pretrain_learning_rate"),
        ({"human_problems": 7}, "human_problems"),
        ({"num_heads": 3}, "num_heads"),
    ],
)
def test_bad_settings_are_refused_by_name(changes, named):
    with pytest.raises(UserError, match=named):
        dataclasses.replace(TINY, **changes)


@pytest.mark.parametrize("machine", ["stack_machine", "list_machine"])
def test_human_programs_pass_and_samples_are_judged_like_them(machine, key):
    # Problems are made on the host, also where that is asked for while tracing.
    config = dataclasses.replace(TINY, machine=machine, problem_seed=17)
    material = jax.jit(ProgramSource(config).material)(key)
    data = on_device(problem_data(config))
    found = judge(config, data.train, data.human.problem, data.human.tokens)
    np.testing.assert_array_equal(found, np.ones(12))
    np.testing.assert_array_equal(data.human.problem, np.repeat(np.arange(6), 2))
    np.testing.assert_array_equal(material.human.tokens, data.human.tokens)
    mask = completion_mask(data.human.tokens, config.task.vocabulary.eos_id)
    np.testing.assert_array_equal(data.human.mask, mask)
    again = judge(config, data.train, material.generated.problem, material.generated.tokens)
    np.testing.assert_array_equal(material.generated.outcome, again)
    # An untrained model: samples that never end are compile errors.
    unended = ~np.any(np.asarray(material.generated.tokens) == 3, axis=-1)
    assert np.all(np.asarray(material.generated.outcome)[unended] == -1.0)


def test_fewer_problems_with_human_programs():
    few = problem_data(dataclasses.replace(TINY, human_problems=2)).human
    all_of_them = problem_data(TINY).human
    assert set(few.problem.tolist()) == {0, 1}
    np.testing.assert_array_equal(few.tokens, all_of_them.tokens[:4])


@pytest.mark.slow
def test_a_tiny_run_is_trained_evaluated_and_can_be_read(key):
    algorithm = PROGRAM_SYNTHESIS.make_algorithm(PROGRAM_TASKS[0], TINY, AGENT)
    carry = train(algorithm, iterations=4, keys=key).carry
    assert carry.iteration == 4
    results, own, scores = evaluate_carry(TINY, AGENT, carry)
    assert set(results) == {"reference", "policy", "rankers", "rankers_on_reference"}
    assert own.tokens.shape[:2] == (5, 24) and scores["reward"].shape == (5, 24)
    run = {"task": "tiny", "algorithm": "bcoder", "per_problem": 24, "seeds": [results]}
    text = report_text(run, TINY, own, scores)
    assert "random choice" in text and "recovered reward, approximate" in text
    prompt = problem_data(TINY).unseen.prompts[0]
    assert f"`{TINY.task.vocabulary.decode(prompt[prompt > 3].tolist())}`" in text
    # The best score of the first problem stands first.
    assert f"| {jnp.max(scores['reward'][0]):.3f} |" in text
