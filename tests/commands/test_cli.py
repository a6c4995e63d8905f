"""Wrong commands are told in a line, exit with 2 and write nothing; right ones do their work."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hinf_rl import cli
from hinf_rl.commands import compare
from hinf_rl.errors import UserError
from hinf_rl.training import loop, run_directory, wandb_log


def run(capsys, *words):
    code = cli.main(list(words))
    said = capsys.readouterr()
    return code, said.out, said.err


WRONG = [
    (["trian", "toy"], "did you mean 'train'"),
    (["train"], "TASK"),
    (["train", "tou"], "did you mean 'toy'"),
    (["train", "toy", "--algorithm", "hinff"], "did you mean 'hinf'"),
    (["train", "toy", "--sedes", "3"], "did you mean --seeds"),
    (["train", "toy", "--seeds", "many"], "--seeds"),
    (["train", "toy", "--seeds", "0"], "seeds must be at least 1"),
    (["train", "toy", "--seed", "-1"], "seed must lie in"),
    (["train", "toy", "--steps", "lots"], "total_steps"),
    (["train", "toy", "--steps", "0"], "total_steps must be at least 1"),
    (["train", "toy", "--steps", "1.5"], "total_steps"),
    (["train", "toy", "--device", "abacus"], "--device"),
    (["train", "toy", "--device", "gpu"], "leave --device out"),
    (["train", "toy", "--set"], "--set"),
    (["train", "toy", "--set", "agent.gamma"], "key=value"),
    (["train", "toy", "--set", "agent.gama=0.9"], "did you mean 'agent.gamma'"),
    (["train", "toy", "--set", "agent.gamma=high"], "'agent.gamma' must be float"),
    (["train", "toy", "--set", "agent.gamma=2"], "agent: gamma must lie in (0, 1]"),
    (["train", "toy", "--set", "agent.gamma=0.9", "--set", "agent.gamma=0.8"], "given twice"),
    (["train", "toy", "--set", "agent=1"], "agent.gamma"),
    (["train", "toy", "--set", "seeds=2", "seeds.x=1"], "seeds"),
    (["evaluate"], "RUN"),
    (["evaluate", "nowhere"], "does not exist"),
    (["render", "nowhere"], "does not exist"),
    (["evaluate", "."], "config.toml is missing"),
    (["sweep", "toy"], "--set KEY=A,B,C"),
    (["sweep", "toy", "--set", "agent.gamma=0.9,,0.8"], "cannot split"),
    (["sweep", "toy", "--set", "agent.gama=0.9,0.8"], "did you mean 'agent.gamma'"),
    (["sweep", "toy", "--set", "agent.gamma=0.9,5"], "gamma must lie"),
    (["sweep", "toy", "--set", "agent.gamma=0.9", "--seeds", "0"], "seeds must be at least 1"),
    (["sweep", "toy", "--set", "agent.gamma=1", "--processes", "0"], "processes must be at least"),
    (["compare"], "RUN"),
    (["compare", "nowhere"], "at least two runs"),
    (["compare", "nowhere", "elsewhere"], "does not exist"),
    (["render", ".", "--beside", "."], "config.toml is missing"),
    (["train", "toy", "--wandb"], "--wandb"),
    (["completion", "fish"], "bash"),
    (["list", "everything"], "everything"),
    (["doctor", "--fast"], "--fast"),
    (["--verbose"], "unknown command"),
]


@pytest.mark.parametrize(("words", "part"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_a_wrong_command_is_told_in_a_line(words, part, capsys, tmp_path):
    code, out, err = run(capsys, *words)
    assert code == 2
    assert part in err
    assert err.startswith("error: ")
    assert err.count("\n") <= 2 and len(err) < 500
    assert "Traceback" not in err + out
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback():
    with pytest.raises(UserError, match="unknown task"):
        cli.main(["train", "nothing", "--debug"])


def test_our_own_faults_exit_with_one_and_a_hint(capsys, monkeypatch):
    monkeypatch.setattr(loop, "train", lambda *_, **__: 1 / 0)
    code, _, err = run(capsys, "train", "toy")
    assert code == 1
    assert err.splitlines()[-2:] == [
        "internal error: ZeroDivisionError: division by zero",
        "run the same command with --debug for the traceback",
    ]


def test_help_and_version_answer(capsys):
    for words in ([], ["--help"], ["-h"]):
        code, out, _ = run(capsys, *words)
        assert code == 0
        for command in ("list", "train", "evaluate", "compare", "render", "sweep", "doctor"):
            assert f"hinf-rl {command}" in out
    code, out, _ = run(capsys, "--version")
    assert (code, out.split()[0]) == (0, "hinf-rl")


@pytest.mark.parametrize("command", list(cli._COMMANDS))
def test_each_command_explains_itself(command, capsys):
    code, out, err = run(capsys, command, "--help")
    assert code == 0
    assert f"hinf-rl {command}" in out
    assert err == ""


def test_list_names_tasks_and_algorithms(capsys):
    code, out, _ = run(capsys, "list")
    assert code == 0
    assert "a toy" in out and "nominal" in out


def test_train_writes_a_run_that_loads_and_resumes(capsys, tmp_path):
    words = ("train", "toy", "--output", "out", "--set", "agent.gamma=0.5", "env.mass_kg=8")
    code, _, err = run(capsys, *words)
    assert code == 0
    assert "hinf-rl evaluate out" in err
    config, _, carry = run_directory.load_run("out")
    assert (config.agent.gamma, config.env.mass_kg) == (0.5, 8.0)
    # 30 steps are three iterations of ten: 8 * 0.5^3 = 1.
    assert carry["x"].tolist() == [1.0] * 3
    code, _, err = run(capsys, *words)
    assert code == 2 and "--resume" in err
    code, _, _ = run(capsys, *words, "--resume", "--steps", "50")
    assert code == 0
    # Two more: 1 * 0.5^2 = 0.25.
    assert run_directory.load_run("out")[2]["x"].tolist() == [0.25] * 3
    lines = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["episode/return"] for line in lines] == [[4], [2], [1], [0.5], [0.25]]


def test_evaluate_and_render_pass_their_options_on(capsys, tmp_path):
    assert run(capsys, "train", "toy", "--output", "out")[0] == 0
    code, out, err = run(capsys, "evaluate", "out", "--quick", "--baseline", "other")
    assert (code, out) == (0, "report: out/report/report.md\n")
    assert "next: hinf-rl evaluate out" in err and "next: hinf-rl compare out" in err
    called = tmp_path / "out" / "called.json"
    assert json.loads(called.read_text()) == {"quick": True, "baseline": "other"}
    code, _, err = run(capsys, "evaluate", "out", "--physics", "native")
    assert code == 2 and "task 'toy' has no engine to choose" in err
    assert run(capsys, "render", "out")[:2] == (0, "pictures: out/report\n")
    assert json.loads(called.read_text()) == {"beside": None}
    code, _, err = run(capsys, "render", "out", "--beside", "out")
    assert code == 0 and json.loads(called.read_text()) == {"beside": "out"}


def test_a_signal_gives_its_exit_code_and_says_how_to_go_on(capsys, monkeypatch):
    train = loop.train
    monkeypatch.setattr(
        loop, "train", lambda *args, **options: train(*args, **options)._replace(signal=15)
    )
    monkeypatch.setattr(sys, "argv", ["hinf-rl", "train", "toy"])
    code, _, err = run(capsys, "train", "toy")
    assert code == 143
    assert "go on with: hinf-rl train toy --resume" in err


@pytest.mark.slow
def test_the_installed_command_answers_fast():
    done = subprocess.run(
        [sys.executable, "-m", "hinf_rl.cli", "train", "--sedes", "1"],
        capture_output=True,
        text=True,
        env=dict(os.environ),
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")


def test_train_tells_wandb_each_line_of_the_log(capsys, monkeypatch):
    told = []

    class Log:
        def __init__(self, project, run, config):
            told.append((project, run.path.name, config.task))

        def __enter__(self):
            return self

        def __exit__(self, *error):
            told.append("end")

        def write(self, record):
            told.append(record["iteration"])

    monkeypatch.setattr(wandb_log, "WandbLog", Log)
    monkeypatch.setattr(wandb_log, "check_installed", lambda: None)
    assert run(capsys, "train", "toy", "--output", "out", "--wandb", "robust")[0] == 0
    assert told == [("robust", "out", "toy"), 1, 2, 3, "end"]


def test_a_missing_wandb_is_said_before_a_run_is_made(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(wandb_log.importlib.util, "find_spec", lambda name: None)
    code, _, err = run(capsys, "train", "toy", "--wandb", "robust")
    assert code == 2 and "hinf-rl[wandb]" in err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def evaluated(capsys):
    """Two trained runs with results in the shape of the robustness protocol."""
    for name, survived in (("a", (4, 3)), ("b", (2, 1))):
        words = ("train", "toy", "--seeds", "2", "--output", f"runs/{name}")
        assert run(capsys, *words)[0] == 0
        cells = [
            {
                "nominal": _cell("nominal", 0.0, count),
                "sudden-1": _cell("sudden", 5.0, count - 1),
            }
            for count in survived
        ]
        results = {
            "task": "toy",
            "algorithm": "hinf",
            "protocol": {"num_steps": 5, "dt_s": 0.1, "unit": "N", "reference": 5.0},
            "cells": cells[0],
            "per_seed": [{"cells": one} for one in cells],
        }
        folder = Path("runs") / name / "report"
        folder.mkdir()
        (folder / "results.json").write_text(json.dumps(results))
    return Path("runs")


def _cell(kind, magnitude, survived):
    share = survived / 4
    return {
        "kind": kind,
        "magnitude": magnitude,
        "num_episodes": 4,
        "num_survived": survived,
        "survival": [share, share, share],
        "task_reward_fraction": [share, share, share],
        "tracking": {},
    }


def test_compare_writes_the_report_beside_the_runs(capsys, evaluated):
    code, out, _ = run(capsys, "compare", "runs/a", "runs/b")
    assert code == 0
    path = Path(out.split("report: ")[1].strip())
    assert path == evaluated / "compare-a-b.md"
    found = json.loads(path.with_suffix(".json").read_text())
    # b's seeds survive less than both of a's under both conditions.
    assert found["improvement"]["survival"]["b"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert found["provenance"]["a"]["env_steps"] == 30
    text = path.read_text()
    for picture in ("survival", "curves", "improvement"):
        assert f"(compare-a-b-{picture}.png)" in text
    assert run(capsys, "compare", "runs/a", "runs/a", "--output", "self")[0] == 0
    found = json.loads(Path("self.json").read_text())
    assert found["improvement"]["survival"]["a (2)"]["value"] == 0.5


def test_compare_says_what_to_run_first(capsys, evaluated):
    (evaluated / "b" / "report" / "results.json").unlink()
    code, _, err = run(capsys, "compare", "runs/a", "runs/b")
    assert code == 2 and "`hinf-rl evaluate runs/b` first" in err
    toml = evaluated / "b" / "config.toml"
    toml.write_text(toml.read_text().replace("mass_kg = 1.0", "mass_kg = 2.0"))
    (evaluated / "b" / "report" / "results.json").write_text(
        (evaluated / "a" / "report" / "results.json").read_text()
    )
    log = evaluated / "b" / "metrics.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:2]))
    code, out, _ = run(capsys, "compare", "runs/a", "runs/b")
    assert code == 0 and "note: b was trained and measured with other settings" in out
    assert "different numbers of steps" in out


def test_runs_are_called_by_the_shortest_ends_that_differ():
    runs = [Path("x/seed/one"), Path("y/seed/one"), Path("y/seed/two")]
    assert compare.distinct_labels(runs) == ["x/seed/one", "y/seed/one", "y/seed/two"]
    assert compare.distinct_labels([Path("a/b"), Path("a/c")]) == ["b", "c"]
