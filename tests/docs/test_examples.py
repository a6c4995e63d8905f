"""The examples of the documentation run, and its commands are commands."""

import importlib.util
import re
import shlex
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl import cli
from hinf_rl.commands.train import parse_assignments
from hinf_rl.tasks import configure

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
_BLOCK = re.compile(
    r"^(?:<!-- needs: (?P<needs>[\w.]+) -->\n)?```(?P<language>\w+)\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


def _blocks(path, language):
    text = path.read_text(encoding="utf-8")
    return [match for match in _BLOCK.finditer(text) if match["language"] == language]


def _is_installed(module):
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if _blocks(page, "python")],
    ids=lambda page: str(page.relative_to(ROOT / "docs")),
)
def test_python_blocks_run_in_their_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT))
    prepare = _PREPARED.get(str(page.relative_to(ROOT / "docs")), dict)
    namespace = {"__name__": "example", **prepare()}
    for block in _blocks(page, "python"):
        if block["needs"] and not _is_installed(block["needs"]):
            continue
        # Line numbers of failures are those of the page.
        lines = page.read_text(encoding="utf-8")[: block.start("code")].count("\n")
        code = compile("\n" * lines + block["code"], str(page), "exec")
        exec(code, namespace)


class _Steps:
    """True for a few steps."""

    def __init__(self, count):
        self.left = count

    def __bool__(self):
        self.left -= 1
        return self.left >= 0


def _a_robot_with_a_policy():
    """What the example of an ONNX file takes for granted: the file, sensors and motors."""
    from hinf_rl.agents.hinf import make
    from hinf_rl.export.layout import layout_of
    from hinf_rl.export.onnx_file import build_onnx
    from hinf_rl.export.weights import weights_of
    from hinf_rl.tasks import configure, get_task

    run = configure("a1", "nominal", {"agent.num_envs": 2})
    env = get_task("a1").make_env(run.env)
    algorithm = make(run.agent, env)
    shapes = jax.eval_shape(algorithm.init, jax.random.key(0))._replace(key=None, env=None)
    carry = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), shapes)
    layout = layout_of(env)
    model = build_onnx(weights_of(algorithm.policy(carry)), layout, {"task": "a1"})
    Path("policy.onnx").write_bytes(model.SerializeToString())
    sizes = {part.name: part.size for part in layout.inputs if part.name != "previous_action"}
    sent = []
    return {
        "walking": _Steps(3),
        "measured": lambda: {name: np.zeros((1, n), np.float32) for name, n in sizes.items()},
        "send": sent.append,
        "sent": sent,
    }


_PREPARED = {"deployment.md": _a_robot_with_a_policy}


def _commands():
    for page in [ROOT / "README.md", *PAGES]:
        for block in _blocks(page, "sh"):
            for line in block["code"].replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                starts = [i for i, word in enumerate(words) if word in ("&&", ";")]
                for start, end in zip([-1, *starts], [*starts, len(words)], strict=True):
                    part = words[start + 1 : end]
                    if part[:1] == ["hinf-rl"]:
                        yield pytest.param(part[1:], id=f"{page.name}: {shlex.join(part[1:])}")


@pytest.mark.parametrize("words", list(_commands()))
def test_commands_parse(words):
    command = cli._parse(words)
    assert command.run  # parsed into what would be run


def test_there_are_commands_and_examples():
    assert len(list(_commands())) > 20
    assert sum(len(_blocks(page, "python")) for page in PAGES) > 8


@pytest.mark.parametrize("words", list(_commands()))
def test_commands_name_real_tasks_and_settings(words):
    command = cli._parse(words)
    if not isinstance(command, cli.Train | cli.Sweep) or ":" in command.task:
        return
    values = parse_assignments(command.set)
    if isinstance(command, cli.Sweep):  # one value of each list
        values = {key: text.partition(",")[0] for key, text in values.items()}
    assert configure(command.task, command.algorithm, values).task == command.task
