"""The B-Coder experiment: its claims on invented results, and a tiny run from end to end."""

import dataclasses

import numpy as np
import pytest

from experiments.b_coder import arms, checkpoint, report, run, toy_python
from experiments.b_coder.claims import claims
from hinf_rl.errors import UserError
from hinf_rl.program_tasks import ProgramConfig


def invented(final=(0.9, 0.9, 0.9), means=(-1.0, 0.1, 0.2, 0.5)):
    """Checkpoint and B-Coder of three seeds; the checkpoint solves 0.4 of the problems."""
    mean = dict(zip(("-1", "-0.6", "-0.3", "1"), means, strict=True))
    rankers = {
        "reward": {"top@1": 0.6, "auc": 0.8, "pooled_auc": 0.7, "mean": mean},
        "log_prob": {"top@1": 0.65, "auc": 0.8, "pooled_auc": 0.8},
        "log_prob_reference": {"top@1": 0.4, "auc": 0.7, "pooled_auc": 0.7},
        "random": {"top@1": 0.3},
    }
    seeds = {
        str(seed): {
            "curve": [{"step": 0}, {"train": {"pass@1": 0.5}}, {"train": {"pass@1": value}}],
            "unseen": {"pass@1": 0.5},
            "rankers_on_reference": rankers,
        }
        for seed, value in enumerate(final)
    }
    start = {"seeds": {seed: {"train": {"pass@1": 0.4}} for seed in seeds}}
    return start, {"bcoder": {"seeds": seeds}}


def verdicts(*results):
    return {row["claim"]: row for row in claims(*results)}


def test_claims_by_hand():
    found = verdicts(*invented())
    gain = found["(ii) B-Coder gains at least 0.3 over the checkpoint, training problems"]
    np.testing.assert_allclose(gain["margins"], [0.2] * 3)  # 0.9 - 0.4 - 0.3
    assert gain["passed"] and gain["held"] == 3
    within = "(iii) AUC of the recovered reward at least 0.75, within a problem"
    assert found[within]["passed"]
    pooled = "(iii) AUC of the recovered reward at least 0.75, all candidates together"
    assert not found[pooled]["passed"]  # 0.7
    likelihood = "(not expected) recovered reward picks better than its own model's likelihood"
    assert not found[likelihood]["passed"]
    # Arms that are not there are not judged.
    assert not any(claim.startswith("(i)") for claim in found)


def test_a_claim_survives_one_seed_but_not_two():
    gain = "(ii) B-Coder gains at least 0.3 over the checkpoint, training problems"
    assert verdicts(*invented(final=(0.95, 0.95, 0.65)))[gain]["passed"]
    assert not verdicts(*invented(final=(1.0, 0.68, 0.68)))[gain]["passed"]


def test_order_of_outcomes_needs_both_ends():
    order = "(iv) mean recovered reward: compile error lowest, pass highest"
    assert verdicts(*invented())[order]["passed"]
    assert not verdicts(*invented(means=(-1.0, 0.6, 0.2, 0.5)))[order]["passed"]
    assert not verdicts(*invented(means=(0.15, 0.1, 0.2, 0.5)))[order]["passed"]


def test_python_exercises_and_their_bugs():
    chosen = toy_python.exercises()
    assert len(chosen) == len({question for question, _ in chosen}) == 72
    assert toy_python.human_programs("a+b")[1].endswith("print(b+a)\n")
    assert len(toy_python.human_programs("a-b")) == 1
    draw = np.random.default_rng(0)
    written = {toy_python.noisy_program("a-b", draw) for _ in range(50)}
    assert {toy_python.program("a-b"), toy_python.program("b-a")} <= written


@pytest.mark.long
def test_a_tiny_run_is_written_resumed_and_reported(tmp_path, monkeypatch, capsys):
    tiny = ProgramConfig(
        checkpoint_problems=12,
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
    monkeypatch.setattr(checkpoint, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(run, "CURVE_EVERY", 2)
    monkeypatch.setattr(report, "CURVE_EVERY", 2)
    monkeypatch.setattr(report, "POLICY_STEPS", 4)
    monkeypatch.setattr(report, "FOLDER", tmp_path)
    folder = tmp_path / "stack_machine"
    folder.mkdir()
    small = {"iterations": 6, "value_fraction": 1 / 3, "batch_size": 8}
    chosen = [
        dataclasses.replace(arm, changes={**arm.changes, **small})
        for arm in arms.ARMS
        if arm.name in ("bcoder", "sft")
    ]
    bundles = run.play_checkpoints(tiny, (0, 1), folder)
    for arm in chosen:
        run.play_arm(arm, tiny, bundles, folder)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6  # two checkpoints, two arms of two seeds
    # What is there is read: the same checkpoint, bit for bit, and nothing is trained again.
    again = run.play_checkpoints(tiny, (0, 1), folder)
    np.testing.assert_array_equal(again[1].candidates.tokens, bundles[1].candidates.tokens)
    run.play_arm(chosen[0], tiny, again, folder)
    assert not capsys.readouterr().out
    text = report.render("stack_machine", folder)
    assert "| B-Coder |" in text and (tmp_path / "stack_machine.png").exists()
    other = dataclasses.replace(chosen[0], changes={**small, "alpha": 0.2})
    with pytest.raises(UserError, match=r"bcoder\.json was made with another agent"):
        run.play_arm(other, tiny, again, folder)
