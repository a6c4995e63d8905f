"""A killed process resumes to the numbers of one that was let be."""

import json
import random

import jax
import jax.numpy as jnp
import pytest

from experiments.resume import run as resume


@pytest.mark.slow
def test_killed_training_ends_with_the_same_bits(tmp_path):
    setting, iterations = resume.SETTINGS["cartpole"], 6
    cache, whole, killed = tmp_path / "cache", tmp_path / "whole", tmp_path / "killed"
    iteration_s = resume.run_whole(setting, whole, cache, iterations) / iterations
    kills = resume.run_chain(
        setting,
        killed,
        cache,
        iteration_s=iteration_s,
        kills=2,
        generator=random.Random(1),
        iterations=iterations,
    )
    assert kills and all(kill.intact for kill in kills)
    # The newest complete checkpoint, or the very start where there was none.
    assert [kill.resumed_at for kill in kills] == [kill.saved for kill in kills]
    assert resume.differing_leaves(resume.restore(whole)[1], resume.restore(killed)[1]) == []
    assert resume.same_metrics(whole, killed)
    assert resume.logged_iterations(killed) == list(range(1, iterations + 1))


def test_a_differing_bit_is_found():
    key = jax.random.key(3)
    carry = {"x": jnp.array([0.0, jnp.nan], jnp.float32), "key": key}
    assert resume.differing_leaves(carry, dict(carry)) == []
    # Equal as numbers, not as bits.
    assert resume.differing_leaves(carry, {**carry, "x": -carry["x"]}) == ["['x']"]
    assert resume.differing_leaves(carry, {**carry, "key": jax.random.key(4)}) == ["['key']"]
    assert resume.differing_leaves(carry, {"key": key}) == ["['x']"]


def test_a_log_with_a_gap_or_another_number_is_found(tmp_path):
    def write(name, *records):
        (tmp_path / name).mkdir()
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (tmp_path / name / "metrics.jsonl").write_text(lines)
        return tmp_path / name

    first = {"iteration": 1, "wall_s": 1.0, "loss": [0.5]}
    second = {"iteration": 2, "wall_s": 2.0, "loss": [0.25]}
    whole = write("whole", first, second)
    assert resume.same_metrics(whole, write("slower", {**first, "wall_s": 9.0}, second))
    assert not resume.same_metrics(whole, write("gap", first))
    assert not resume.same_metrics(whole, write("double", first, first, second))
    assert not resume.same_metrics(whole, write("other", {**first, "loss": [0.75]}, second))
    assert resume.logged_iterations(whole) == [1, 2]
