"""Wrong commands are told in a line, exit with 2 and write nothing; right ones do their work."""

import dataclasses
import json
import os
import subprocess
import sys
import types
from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest

from hinf_rl import cli
from hinf_rl import config as configs
from hinf_rl.agents.api import Algorithm
from hinf_rl.commands import sweep as sweeps
from hinf_rl.errors import UserError, unknown_name
from hinf_rl.training import loop, run_directory
from hinf_rl.workload import Workload


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnvConfig:
    mass_kg: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgentConfig:
    gamma: float = 0.99
    width: int = 3

    def __post_init__(self):
        if not 0 < self.gamma <= 1:
            raise UserError(f"gamma must lie in (0, 1], got {self.gamma}")


class Numbers(NamedTuple):
    gamma: jax.Array


def make(config, env):
    """x <- gamma x from x = mass, so after n iterations x = mass gamma^n."""

    def init(key, hyperparameters=None):
        gamma = config.gamma if hyperparameters is None else hyperparameters.gamma
        return {"key": key, "gamma": gamma, "x": jnp.full((config.width,), env.mass_kg)}

    def step(carry):
        x = carry["gamma"] * carry["x"]
        return {**carry, "x": x}, {"episode/return": x[0]}

    return Algorithm(init, step, lambda carry: carry, lambda carry: carry, config, 10)


@pytest.fixture(autouse=True)
def registry(monkeypatch, tmp_path):
    """Stands in for tasks, algorithm and evaluation; the commands run in an empty directory."""
    algorithms = {"hinf": "constrained", "nominal": "plain"}

    def make_env(config):
        return types.SimpleNamespace(mass_kg=config.mass_kg)

    def evaluate_run(path, **options):
        (path / "called.json").write_text(json.dumps(options, default=str))
        return path / "report" / "report.md"

    workload = Workload(
        name="toys",
        algorithms=algorithms,
        default_algorithm="hinf",
        apply_algorithm=lambda config, name: config,
        make_algorithm=lambda task, env, agent: make(agent, task.make_env(env)),
        evaluate=evaluate_run,
        batched=("agent.gamma",),
        hyperparameters=lambda task, env, agent: Numbers(jnp.float32(agent.gamma)),
        render=evaluate_run,
    )
    task = types.SimpleNamespace(
        name="toy",
        summary="a toy",
        workload=workload,
        env_config=EnvConfig(),
        agent_config=AgentConfig(),
        make_env=make_env,
    )

    def get_task(name):
        if name != "toy":
            raise unknown_name("task", name, ["toy"])
        return task

    def configure(name, algorithm, overrides):
        found, algorithm = get_task(name), algorithm or "hinf"
        if algorithm not in algorithms:
            raise unknown_name("algorithm", algorithm, algorithms)
        config = run_directory.RunConfig(
            task=name,
            algorithm=algorithm,
            total_steps=30,
            env=found.env_config,
            agent=AgentConfig(),
        )
        return configs.with_overrides(config, overrides)

    def module(name, **content):
        made = types.ModuleType(name)
        for key, value in content.items():
            setattr(made, key, value)
        monkeypatch.setitem(sys.modules, name, made)

    module(
        "hinf_rl.tasks",
        TASKS={"toy": task},
        ALGORITHMS=algorithms,
        get_task=get_task,
        configure=configure,
    )
    monkeypatch.chdir(tmp_path)
    precision = jax.config.jax_default_matmul_precision
    yield
    jax.config.update("jax_default_matmul_precision", precision)


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
        for command in ("list", "train", "evaluate", "render", "sweep", "doctor"):
            assert f"hinf-rl {command}" in out
    code, out, _ = run(capsys, "--version")
    assert (code, out.split()[0]) == (0, "hinf-rl")


@pytest.mark.parametrize("command", ["list", "train", "evaluate", "render", "sweep", "doctor"])
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
    code, out, _ = run(capsys, "evaluate", "out", "--quick", "--baseline", "other")
    assert (code, out) == (0, "report: out/report/report.md\n")
    called = tmp_path / "out" / "called.json"
    assert json.loads(called.read_text()) == {"quick": True, "baseline": "other"}
    assert run(capsys, "render", "out")[:2] == (0, "pictures: out/report\n")
    assert json.loads(called.read_text()) == {}


def test_a_signal_gives_its_exit_code_and_says_how_to_go_on(capsys, monkeypatch):
    train = loop.train
    monkeypatch.setattr(
        loop, "train", lambda *args, **options: train(*args, **options)._replace(signal=15)
    )
    monkeypatch.setattr(sys, "argv", ["hinf-rl", "train", "toy"])
    code, _, err = run(capsys, "train", "toy")
    assert code == 143
    assert "go on with: hinf-rl train toy --resume" in err


def test_sweep_trains_every_point_with_its_own_number(capsys, tmp_path):
    words = ("sweep", "toy", "--set", "agent.gamma=0.5,1", "env.mass_kg=8,16", "--seeds", "2")
    code, _, err = run(capsys, *words, "--output", "out")
    assert code == 0
    assert "group 2 of 2" in err
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
    again, _, err = run(capsys, *words, "--output", "out")
    assert again == 0 and "complete" in err
    assert (tmp_path / "out" / "table.md").read_text() == text
    code, _, err = run(capsys, *words, "--output", "out", "--steps", "90")
    assert code == 2 and "another sweep" in err


def test_lists_in_a_sweep_go_in_brackets():
    assert sweeps.split_values("(64,64),(128,),x") == ["(64,64)", "(128,)", "x"]
    assert sweeps.split_values(" 1 , 2 ") == ["1", "2"]
    with pytest.raises(UserError, match="cannot split"):
        sweeps.split_values("(1,2")


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
