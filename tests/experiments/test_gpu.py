"""The script for accelerators: budget, failures and aims, with stages that only pretend."""

import json
import sys
import textwrap
import time

import pytest

from experiments.gpu import plan, report, run, stages, wheels
from hinf_rl.errors import UserError
from hinf_rl.training.files import read_json

FOUND = {
    "platform": "gpu",
    "kind": "test card",
    "count": 1,
    "mjx": True,
    "warp": False,
    "smoke": False,
}


@pytest.fixture
def session(tmp_path, monkeypatch):
    """Makes a session whose stages are this script, and what it tells."""
    pretend = tmp_path / "pretend.py"
    pretend.write_text(
        textwrap.dedent("""
        import json, sys, time
        kind, settings, output = sys.argv[1], json.loads(sys.argv[3]), sys.argv[5]
        def save(result):
            open(output, "w").write(json.dumps({"result": result}))
        save({"part": 1})
        if settings.get("die"):
            sys.exit("boom: RESOURCE_EXHAUSTED")
        if settings.get("hang"):
            time.sleep(60)
        save({"part": 2, **settings})
        """)
    )
    asked = []
    original = run.run_limited

    def limited(command, limit_s, environment, saving_s=0.2):
        asked.append((command[3], environment))
        return original(
            [sys.executable, str(pretend), *command[3:]], limit_s, environment, saving_s
        )

    monkeypatch.setattr(run, "run_limited", limited)
    told = []

    def make(budget_s=100.0, found=FOUND):
        return run.Session(
            tmp_path / "gpu.json",
            budget_s,
            found,
            environment={"MARK": "1"},
            runs=tmp_path / "runs",
            tell=told.append,
        )

    make.told, make.asked, make.output = told, asked, tmp_path / "gpu.json"
    return make


def stage(name, kind="speed", estimate_s=1.0, limit_s=50.0, **settings):
    return plan.Stage(name, kind, settings, estimate_s, limit_s)


def test_a_stage_that_dies_or_hangs_loses_only_itself(session, monkeypatch):
    monkeypatch.setattr(run, "SAVING_S", 0.0)
    first = [stage("a"), stage("dies", die=True), stage("hangs", limit_s=1.5, hang=True)]
    session().run([*first, stage("b", platform=None)])
    held = read_json(session.output)["stages"]
    assert [entry["status"] for entry in held.values()] == ["ok", "failed", "stopped", "ok"]
    # What was measured before is kept, with the last words.
    assert held["dies"]["result"] == {"part": 1}
    assert held["dies"]["error"] == "boom: RESOURCE_EXHAUSTED"
    assert held["hangs"]["result"] == {"part": 1} and "limit of" in held["hangs"]["error"]
    assert held["b"]["result"]["part"] == 2
    assert all(environment["MARK"] == "1" for _, environment in session.asked)


def test_what_does_not_fit_is_skipped_and_the_file_says_so(session, monkeypatch):
    monkeypatch.setattr(run, "SAVING_S", 0.0)
    session(budget_s=10.0).run([stage("long", estimate_s=60.0), stage("short", impl="warp")])
    held = read_json(session.output)["stages"]
    assert held["long"]["status"] == "skipped" and "60 s expected" in held["long"]["reason"]
    assert held["short"]["reason"] == "warp-lang is not installed"
    assert session.asked == []


def test_a_second_call_runs_what_is_missing(session, monkeypatch):
    monkeypatch.setattr(run, "SAVING_S", 0.0)
    session(budget_s=10.0).run([stage("a"), stage("b", estimate_s=60.0)])
    # What "a" took is the better estimate of "b", the same kind of stage.
    assert read_json(session.output)["stages"]["b"]["status"] == "ok"
    session().run([stage("a"), stage("b"), stage("c")])
    assert len(session.asked) == 3 and "a: kept" in session.told
    with pytest.raises(UserError, match="results of another device"):
        session(found={**FOUND, "kind": "another card"})


def test_an_evaluation_needs_a_training(session):
    evaluation = plan.Stage("evaluate", "evaluate", {}, 1.0, 5.0, needs="train")
    session().run([evaluation])
    assert "left no result" in read_json(session.output)["stages"]["evaluate"]["reason"]


def side(speed):
    return {"env_steps_per_s": speed, "seconds": [1.0], "compile_s": 9.0, "peak_memory_mb": None}


def speeds(impl, num_envs, **sides):
    values = {name: side(value) for name, value in sides.items()}
    result = {"impl": impl, "num_envs": num_envs, "seeds": 1, "sides": values}
    return {"kind": "speed", "status": "ok", "seconds": 9.0, "result": result}


def test_aims_by_hand():
    held = {
        "speed jax 8192": speeds("jax", 8192, simulation=500e3, nominal=300e3),
        "speed warp 8192": speeds("warp", 8192, simulation=1e6, nominal=600e3, hinf=400e3),
    }
    assert plan.fastest(held) == "warp" and plan.fastest({}) == "jax"
    found = {row["aim"]: (row["measured"], row["met"]) for row in plan.measured_aims(held)}
    speed, train, share, hinf = plan.AIMS
    assert found[speed] == (600e3, True) and found[train] == (None, None)
    assert found[share] == (pytest.approx(0.6), False)
    assert found[hinf] == (pytest.approx(1.5), False)
    held["train hinf"] = {"result": {"env_steps": 100_000_000, "seeds": 2, "wall_s": 400.0}}
    assert plan.measured_aims(held)[1]["met"] is True
    # Not the whole training: its time is no measure.
    held["train hinf"]["result"]["env_steps"] -= 1
    assert plan.measured_aims(held)[1]["measured"] is None


def test_the_plan_is_in_the_order_of_its_worth():
    names = [one.name for one in plan.full_plan()]
    assert names[:4] == ["parity", "speed jax 8192", "speed warp 8192", "train hinf"]
    assert len(set(names)) == len(names)
    sizes = {one.settings["num_envs"] for one in plan.full_plan() if one.kind == "speed"}
    assert sizes == {1024, 4096, 8192, 16384}
    assert {"train a1-hind-legs hinf", "train aliengo-terrain hinf"} < set(names)
    for one in [*plan.full_plan(), *plan.smoke_plan()]:
        assert one.kind in stages.KINDS and json.dumps(dict(one.settings))
    assert {one.kind for one in plan.smoke_plan()} == set(stages.KINDS)
    # What is worth most fits into the budget of 25 minutes.
    assert sum(one.estimate_s for one in plan.full_plan()[:6]) < 25 * 60


def test_the_report_tells_results_from_misses():
    held = {
        "speed jax 8192": speeds("jax", 8192, simulation=500e3, nominal=300e3),
        "train nominal": {
            "kind": "train",
            "status": "failed",
            "seconds": 3.0,
            "error": "out of | memory",
        },
        "train hinf": {
            "kind": "train",
            "status": "ok",
            "seconds": 9.0,
            "result": {
                "impl": "warp",
                "task": "aliengo",
                "algorithm": "hinf",
                "num_envs": 4,
                "seeds": 3,
                "env_steps": 2_000_000,
                "wall_s": 7.0,
                "to_reference": None,
                "reference": {"training_task_share": 0.75},
            },
        },
        "train a1-hind-legs hinf": {
            "kind": "train",
            "status": "ok",
            "seconds": 9.0,
            "result": {
                "impl": "jax",
                "task": "a1-hind-legs",
                "algorithm": "hinf",
                "num_envs": 4,
                "seeds": 1,
                "env_steps": 1_000_000,
                "wall_s": 7.0,
                "to_reference": None,
                "reference": None,
                "task_share": 0.5,
            },
        },
        "speed warp 8192": {"kind": "speed", "status": "skipped", "reason": "no warp"},
    }
    text = report.markdown({"device": FOUND, "stages": held, "aims": plan.measured_aims(held)})
    assert (
        "| training at 8192 environments (control steps/s) | >= 476,000 | 300,000 | **missed**"
        in (text)
    )
    assert "| 200 M steps of training (s) | <= 420 | - | not measured |" in text
    assert "| speed warp 8192 | skipped | - | no warp |" in text
    assert "out of \\| memory" in text
    assert "| jax | 8192 x 1 | nominal | 300,000 | 0.60 | 9 | - |" in text
    assert "`hinf`, 3 seeds of 4 environments, MJX warp: 6.0 M steps in 7 s of training." in text
    assert "MJX jax: 1.0 M steps in 7 s of training. Share of the task reward at the end" in text
    assert "0.75, was not reached under these forces" in text


def test_without_accelerator_it_ends_with_the_list_of_wheels(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(wheels, "probe", lambda environment=None: {**FOUND, "platform": "cpu"})
    assert run.main(["--output", str(tmp_path / "x.json")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: no accelerator") and "--device cpu --smoke" in said
    for part in (f"jax[cuda13]=={wheels.pins()['jax']}", "mujoco-mjx==", "warp-lang"):
        assert part in said
    assert not (tmp_path / "x.json").exists()
    monkeypatch.setattr(wheels, "probe", lambda environment=None: {**FOUND, "mjx": False})
    assert run.main(["--output", str(tmp_path / "x.json")]) == 2
    assert "mujoco-mjx is not installed" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, message",
    [
        (["--device", "cpu"], "--device cpu goes with --smoke"),
        (["--device", "cpu", "--smoke"], "give another --output"),
        (["--minutes", "0"], "--minutes must be positive"),
    ],
)
def test_options_that_make_no_sense_are_refused(words, message, capsys):
    assert run.main(words) == 2
    assert message in capsys.readouterr().err


def test_the_list_of_wheels_can_be_asked_for(capsys):
    assert run.main(["--wheels"]) == 0
    assert "jax[cuda12]==" in capsys.readouterr().out


def test_a_process_past_its_time_may_still_save():
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "time.sleep(60)"
    )
    begin = time.monotonic()
    status, why = run.run_limited([sys.executable, "-c", code], 1.0, {}, saving_s=20.0)
    assert status == "stopped" and "killed" not in why and time.monotonic() - begin < 15
    stubborn = code.replace("sys.exit(0)", "None")
    status, why = run.run_limited([sys.executable, "-c", stubborn], 1.0, {}, saving_s=0.5)
    assert status == "stopped" and why.endswith("killed")


def test_time_to_the_reference_is_the_first_line_that_has_it():
    log = [
        {"env_steps": 10, "wall_s": 1.0, "env/task_share": 0.2},
        {"env_steps": 20, "wall_s": 2.0, "env/task_share": [0.5, 0.7]},
        {"env_steps": 30, "wall_s": 3.0, "env/task_share": 0.9},
    ]
    assert stages.time_to(log, 0.6) == {"env_steps": 20, "wall_s": 2.0}
    assert stages.time_to(log, 0.95) is None
    reached = stages.reference()
    assert 0.5 < reached["training_task_share"] < 1.0 and reached["survival"] > 0.9
