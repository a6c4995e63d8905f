"""The diffusion tasks by name: settings survive a file, algorithms differ as told, reports."""

import dataclasses

import jax
import pytest

from hinf_rl import config as configs
from hinf_rl.agents.prdp import FinetuneConfig
from hinf_rl.diffusion_tasks import ALGORITHMS, apply_algorithm
from hinf_rl.errors import UserError
from hinf_rl.evaluation import diffusion_pictures
from hinf_rl.evaluation.finetuning import evaluate_finetuning
from hinf_rl.tasks import get_task
from hinf_rl.training import loop
from hinf_rl.training.run_directory import RunDirectory

TINY = {
    "prdp-ring": {"env.hidden": "16, 16"},
    "prdp-reach": {"env.hidden": "16, 16"},
    "prdp-images": {"env.hidden": "16, 16", "env.schedule.steps": "4"},
}


@pytest.mark.parametrize("name", TINY)
def test_settings_survive_a_file(name):
    task = get_task(name)
    for config in (task.env_config, task.agent_config):
        text = configs.dumps_toml(config)
        assert configs.from_dict(type(config), configs.loads_toml(text)) == config


def test_algorithms_are_settings_of_one_loop():
    config = FinetuneConfig()
    made = {name: apply_algorithm(config, name) for name in ALGORITHMS}
    assert made["prdp"] == config
    assert len({dataclasses.astuple(one) for one in made.values()}) == len(ALGORITHMS)
    assert made["ddpo_group_kl"].kl_penalty == config.beta
    assert all(one.batch_size == config.batch_size for one in made.values())
    with pytest.raises(UserError, match="did you mean 'ddpo'"):
        apply_algorithm(config, "ddp")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["prdp-ring", *(pytest.param(name, marks=pytest.mark.long) for name in sorted(TINY)[:2])],
)
def test_a_run_is_measured_and_drawn(name, tmp_path):
    task = get_task(name)

    @dataclasses.dataclass(frozen=True)
    class Both:
        env: type(task.env_config)
        agent: FinetuneConfig

    both = configs.with_overrides(
        Both(task.env_config, task.agent_config),
        TINY[name]
        | {
            "env.pretrain.steps": "20",
            "env.pretrain.batch": "32",
            "agent.num_contexts": "4",
            "agent.num_epochs": "1",
        },
    )
    algorithm = task.workload.make_algorithm(task, both.env, both.agent)
    run = RunDirectory(tmp_path, {"task": name})
    result = loop.train(algorithm, run, iterations=2, keys=jax.random.split(jax.random.key(0), 2))
    told = []
    results = evaluate_finetuning(
        tmp_path, both.agent, task.make_env(both.env), result.carry,
        draw=getattr(diffusion_pictures, f"draw_{name.removeprefix('prdp-')}"),
        num_samples=32, tell=told.append,
    )  # fmt: skip
    assert results["num_seeds"] == 2
    assert abs(results["reference"]["kl"][0]) < 1e-4
    text = (run.report / "report.md").read_text()
    assert "| reward |" in text and "samples.png" in text and "curves.png" in text
    assert (run.report / "samples.png").stat().st_size > 2000
    assert told
