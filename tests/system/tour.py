"""What a user does with an installed package in an empty folder; fails where a step does.

python tour.py    (Python of an environment with hinf-rl[export]; uses no source tree)
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

# 19 200 steps: seconds, but long enough to be stopped on the way.
ITERATIONS = 300
TRAIN = ("train", "cartpole", "--output", "run", "--steps", str(8 * 8 * ITERATIONS), "--resume")
TRAIN += ("--set", "log_every=1", "agent.num_envs=8", "agent.unroll_length=8", "agent.num_epochs=1")
SMALL = ("agent.num_envs=8", "agent.unroll_length=8", "agent.num_epochs=1")
SMALL += ("agent.num_minibatches=1", "agent.actor.hidden=[32]", "agent.critic.hidden=[32]")
HINF_RL = str(Path(sys.executable).with_name("hinf-rl"))
# A cache within the environment: the second start of a training compiles nothing.
# Where jaxlib has them, the older emitters compile in a third of the time (see tests/conftest.py).
CHEAPER = {"XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"}
ENV = {
    **os.environ,
    **(CHEAPER if version("jaxlib").startswith("0.10.") else {}),
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": str(Path(sys.prefix) / "xla-cache"),
}


def main() -> None:
    folder = Path.cwd()
    assert not any(folder.iterdir()), f"{folder} is not empty"
    check_that_it_is_installed()
    assert command("--version").startswith("hinf-rl ")
    listed = command("list")
    assert all(name in listed for name in ("cartpole", "aliengo", "bcoder-dsl", "prdp-ring"))

    begin_and_stop()
    assert 0 < len(logged()) < ITERATIONS
    command(*TRAIN)
    assert logged() == list(range(1, ITERATIONS + 1))

    command("evaluate", "run", "--quick")
    for name in ("report.md", "results.json", "survival.png"):
        assert (folder / "run" / "report" / name).stat().st_size > 500, name

    command("export", "run", "--format", "onnx")
    command("export", "run", "--format", "numpy")
    check_that_the_files_agree(folder / "run" / "export")
    walk_elsewhere()
    # The robot's model is made by the package, and its physics are MuJoCo's own.
    python(
        "from hinf_rl.commands.doctor import describe_physics as physics;"
        "said = physics(num_envs=8, num_steps=5); print(said); assert 'aliengo' in said"
    )


def check_that_it_is_installed() -> None:
    """The package is that of this environment, whole, and typed."""
    import hinf_rl

    home = Path(hinf_rl.__file__).resolve().parent
    assert home.is_relative_to(Path(sys.prefix).resolve()), f"{home} is not installed"
    assert (home / "py.typed").exists()


def begin_and_stop() -> None:
    """Training that is told to end as soon as it has learned anything."""
    process = subprocess.Popen([HINF_RL, *TRAIN], stderr=subprocess.PIPE, text=True, env=ENV)
    while process.poll() is None and not logged():
        time.sleep(0.01)
    process.terminate()
    _, said = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM, f"{process.returncode}:\n{said[-3000:]}"


def logged() -> list[int]:
    """The iterations in the log of the run; a last line may be half written."""
    log = Path("run/metrics.jsonl")
    lines = log.read_text().split("\n")[:-1] if log.exists() else []
    return [json.loads(line)["iteration"] for line in lines]


def check_that_the_files_agree(folder: Path) -> None:
    """ONNX Runtime and NumPy, on observations that neither has seen."""
    import numpy as np
    import onnxruntime

    spec = importlib.util.spec_from_file_location("policy", folder / "policy.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    policy = module.Policy()
    session = onnxruntime.InferenceSession(folder / "policy.onnx")
    (entry,) = session.get_inputs()
    for seed in range(3):
        seen = np.random.default_rng(seed).normal(size=(1, 5)).astype(np.float32)
        actions = policy.step(observation=seen)
        (found,) = session.run(["action"], {entry.name: seen})
        np.testing.assert_allclose(found, actions, atol=1e-5)


def walk_elsewhere() -> None:
    """A robot's policy leaves training, and does in plain MuJoCo what it did there: falls."""
    train = ("train", "aliengo", "--algorithm", "nominal", "--output", "robot")
    command(*train, "--steps", "256", "--set", *SMALL)
    command("export", "robot", "--format", "onnx")
    said = command("verify", "robot/export/policy.onnx", "--run", "robot", "--episodes", "4")
    assert said.splitlines()[-1] == "agree", said


def command(*words: str) -> str:
    """Runs `hinf-rl WORDS`; returns what it printed."""
    return run(HINF_RL, *words)


def python(text: str) -> str:
    return run(sys.executable, "-I", "-c", text)


def run(*words: str) -> str:
    start_s = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, env=ENV)
    name = " ".join([Path(words[0]).name, *words[1:3]])
    assert done.returncode == 0, f"{name} ended with {done.returncode}:\n{done.stderr[-3000:]}"
    print(f"{time.perf_counter() - start_s:5.1f} s  {name[:70]}", flush=True)
    return done.stdout


if __name__ == "__main__":
    main()
