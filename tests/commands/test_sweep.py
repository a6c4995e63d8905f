"""A sweep trains every point with its own number, in batches and in processes, and goes on."""

import json
import signal
import subprocess
import sys

import pytest

from hinf_rl import cli
from hinf_rl.commands import sweep as sweeps
from hinf_rl.commands import sweep_processes, sweep_worker
from hinf_rl.errors import UserError
from hinf_rl.training import loop

WORDS = ("sweep", "toy", "--set", "agent.gamma=0.5,1", "env.mass_kg=8,16", "--seeds", "2")


class Worker:
    """Stands in for a process: does the work at once, in this one, where the toy task lives."""

    def __init__(self, path, index, device):
        self.index = index
        try:
            self.returncode = sweep_worker.main(path, index, device)
        except (UserError, RuntimeError):
            self.returncode = 2

    def poll(self):
        return self.returncode

    def terminate(self):
        raise AssertionError("it has ended")

    kill = terminate


@pytest.fixture(autouse=True)
def workers(monkeypatch):
    """Replaces the processes; returns the groups that were started, in order."""
    started = []

    def start(path, index, device):
        started.append(index)
        return Worker(path, index, device)

    monkeypatch.setattr(sweep_processes, "start_worker", start)
    monkeypatch.setattr(sweep_processes, "_POLL_S", 0.0)
    return started


def run(capsys, *words):
    code = cli.main([*words, "--output", "out"])
    return code, capsys.readouterr().err


def test_sweep_trains_every_point_with_its_own_number(capsys, tmp_path, workers):
    code, err = run(capsys, *WORDS)
    assert code == 0
    assert "4 points x 2 seeds, groups: 2" in err and "group 2 of 2: done" in err
    assert "best: hinf-rl train toy --algorithm hinf --set agent.gamma=1 env.mass_kg=16" in err
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    found = {
        (row["settings"]["agent.gamma"], row["settings"]["env.mass_kg"]): row["metrics"]
        for row in table["rows"]
    }
    # After three iterations x = mass gamma^3, by hand; two seeds each.
    assert {point: metrics["episode/return"] for point, metrics in found.items()} == {
        ("0.5", "8"): [1.0, 1.0],
        ("1", "8"): [8.0, 8.0],
        ("0.5", "16"): [2.0, 2.0],
        ("1", "16"): [16.0, 16.0],
    }
    text = (tmp_path / "out" / "table.md").read_text()
    assert "| 0.5 | 8 | 1 ± 0 |" in text
    assert (tmp_path / "out" / "parallel.png").stat().st_size > 1000
    assert run(capsys, *WORDS)[0] == 0
    assert workers == [0, 1, 0, 1]
    assert (tmp_path / "out" / "table.md").read_text() == text
    code, err = run(capsys, *WORDS, "--steps", "90")
    assert code == 2 and "another sweep" in err


def test_numbers_alone_train_in_one_batch_and_in_this_process(capsys, workers):
    code, err = run(capsys, "sweep", "toy", "--set", "agent.gamma=0.5,1")
    assert code == 0 and "groups: 1" in err
    assert workers == []


def test_a_killed_sweep_goes_on_to_the_same_table(capsys, tmp_path, monkeypatch):
    assert run(capsys, *WORDS)[0] == 0
    expected = json.loads((tmp_path / "out" / "table.json").read_text())
    (tmp_path / "out").rename(tmp_path / "whole")
    train, calls = loop.train, []

    def killed(*args, iterations, **options):
        calls.append(iterations)
        if len(calls) == 2:  # in the second group, after a checkpoint of its second iteration
            train(*args, iterations=2, **options)
            raise KeyboardInterrupt
        return train(*args, iterations=iterations, **options)

    monkeypatch.setattr(loop, "train", killed)
    assert run(capsys, *WORDS)[0] == 130
    half = json.loads((tmp_path / "out" / "table.json").read_text())
    assert len(half["rows"]) == 2
    assert run(capsys, *WORDS)[0] == 0
    assert json.loads((tmp_path / "out" / "table.json").read_text()) == expected


def test_a_group_that_fails_leaves_the_others_and_is_named(capsys, tmp_path, monkeypatch):
    train = loop.train

    def fail_on_light(made, run, **options):
        if run.path.name == "group-000":
            raise RuntimeError("out of memory")
        return train(made, run, **options)

    monkeypatch.setattr(loop, "train", fail_on_light)
    code, err = run(capsys, *WORDS)
    assert code == 2
    assert "1 of 2 groups failed" in err and "group-000.log" in err
    rows = json.loads((tmp_path / "out" / "table.json").read_text())["rows"]
    assert {row["settings"]["env.mass_kg"] for row in rows} == {"16"}
    monkeypatch.setattr(loop, "train", train)
    assert run(capsys, *WORDS)[0] == 0


@pytest.fixture
def sleepers(monkeypatch):
    """Real processes that end with 143 when asked to stop, and say so by a file."""
    code = (
        "import signal, sys, time, pathlib\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        "pathlib.Path(sys.argv[1]).touch()\n"
        "time.sleep(60)\n"
    )
    started = []

    def start(path, index, device):
        ready = path / f"ready-{index}"
        process = subprocess.Popen([sys.executable, "-c", code, str(ready)])
        started.append((ready, process))
        return process

    monkeypatch.setattr(sweep_processes, "start_worker", start)
    monkeypatch.setattr(sweep_processes, "_POLL_S", 0.05)
    yield started
    for _, process in started:
        process.kill()
        process.wait()


def test_a_signal_stops_all_processes_and_starts_no_more(tmp_path, sleepers):
    def note(text):
        # The note about the second group comes before its process: ask once both are ready.
        if text.startswith("group 2"):
            signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)

    def ask_when_ready(*_):
        if len(sleepers) == 2 and all(ready.exists() for ready, _ in sleepers):
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGALRM, ask_when_ready)
    try:
        stopped_by = sweep_processes.train_in_processes(
            tmp_path, 3, at_once=2, device=None, note=note, finished=lambda index: None
        )
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    assert stopped_by == signal.SIGTERM
    assert [process.returncode for _, process in sleepers] == [143, 143]


def test_the_worker_is_a_program(tmp_path):
    # Not the stand-in: the true command, on a sweep that names a task that does not exist.
    asked = {"task": "nothing", "algorithm": None, "seeds": 1, "fixed": {}, "points": [{}]}
    (tmp_path / "sweep.json").write_text(json.dumps(asked))
    done = subprocess.run(
        [sys.executable, "-m", sweep_processes._WORKER, str(tmp_path), "0"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1 and "unknown task 'nothing'" in done.stderr


def test_lists_in_a_sweep_go_in_brackets():
    assert sweeps.split_values("(64,64),(128,),x") == ["(64,64)", "(128,)", "x"]
    assert sweeps.split_values(" 1 , 2 ") == ["1", "2"]
    with pytest.raises(UserError, match="cannot split"):
        sweeps.split_values("(1,2")


def test_the_best_settings_have_the_highest_return():
    rows = [
        {"settings": {"x": name}, "metrics": {"episode/return": values}}
        for name, values in (("a", [1.0, 2.0]), ("b", [5.0, None]), ("c", [None, None]))
    ]
    assert sweeps.best_settings(rows) == {"x": "b"}
