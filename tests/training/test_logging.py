"""The log keeps what was measured, and only that."""

import json

import numpy as np
import pytest

from hinf_rl.errors import UserError
from hinf_rl.training.logging import MetricsLog, make_record, read_metrics
from hinf_rl.training.progress import PlainProgress, describe, format_duration


def record(iteration, **metrics):
    return make_record(
        iteration=iteration, env_steps=10 * iteration, wall_s=1.0, steps_per_s=2.0, metrics=metrics
    )


def test_a_record_lists_one_value_per_seed_and_null_for_nan():
    made = record(3, loss=np.array([1.0, np.nan, -np.inf]), single=np.float32(2.5))
    assert made["loss"] == [1.0, None, None]
    assert made["single"] == [2.5]
    assert made["env_steps"] == 30
    assert json.loads(json.dumps(made, allow_nan=False)) == made


@pytest.mark.smoke
def test_tensorboard_events_hold_every_seed(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl", tensorboard=tmp_path / "events")
    log.write(record(1, **{"train/loss": np.array([1.0, 2.0])}))
    log.close()
    content = b"".join(path.read_bytes() for path in (tmp_path / "events").iterdir())
    assert b"train/loss/seed_0" in content and b"train/loss/seed_1" in content


def test_reopening_cuts_both_logs_back(tmp_path):
    path, events = tmp_path / "metrics.jsonl", tmp_path / "events"
    log = MetricsLog(path, tensorboard=events)
    for iteration in (1, 2, 3):
        log.write(record(iteration, **{f"tag_{iteration}": np.float32(1.0)}))
    log.close()
    log = MetricsLog(path, tensorboard=events, iteration=2)
    log.close()
    assert [line["iteration"] for line in read_metrics(path)] == [1, 2]
    content = b"".join(file.read_bytes() for file in events.iterdir())
    assert b"tag_2" in content
    assert b"tag_3" not in content


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"iteration": 1}\n{"itera\n{"iteration": 3}\n')
    with pytest.raises(UserError, match="line 2 is damaged"):
        read_metrics(path)


def test_a_torn_last_line_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"iteration": 1}\n{"itera')
    assert read_metrics(path) == [{"iteration": 1}]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (99.0, "99 s"), (120.0, "2 min"), (6000.0, "1 h 40 min"), (float("nan"), "?")],
)
def test_durations_read_well(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.smoke
def test_progress_shows_means_over_seeds_and_names_each_thing_once():
    shown = describe(
        {"env_steps": 2_500_000, "steps_per_s": 31_400.0, "a/return": [1.0, 3.0], "b/return": [9.0]}
    )
    assert shown == "2.5 M steps  31.4 k steps/s  return 2"


def test_plain_lines_are_rare_but_the_last_is_shown(capsys):
    progress = PlainProgress(every_s=1000.0)
    progress.start(done=0, total=3)
    for iteration in (1, 2, 3):
        progress.update(record(iteration))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines] == ["1/3", "3/3"]
