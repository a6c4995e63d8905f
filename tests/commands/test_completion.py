"""The completion script, asked by a shell of its own."""

import shutil
import subprocess

import pytest

from hinf_rl import cli
from hinf_rl.commands.completion import completion_script

_KINDS = {name: kind for name, (kind, _) in cli._COMMANDS.items()}


def _script(shell):
    return completion_script(
        shell, _KINDS, tasks=["cartpole", "pendulum"], algorithms=["hinf", "nominal"]
    )


def _complete(folder, *words):
    """What bash offers for the last word."""
    (folder / "script").write_text(_script("bash"))
    line = " ".join(f"'{word}'" for word in words)
    ask = (
        f"source ./script; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; "
        '_hinf_rl; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", ask], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["hinf-rl", "co"], ["compare", "completion"]),
        (["hinf-rl", "train", "cart"], ["cartpole"]),
        (["hinf-rl", "train", "cartpole", "--algorithm", ""], ["hinf", "nominal"]),
        (["hinf-rl", "train", "cartpole", "--se"], ["--seeds", "--seed", "--set", "--seed-order"]),
        (["hinf-rl", "export", "run", "--format", "n"], ["numpy"]),
        (["hinf-rl", "verify", "file", "--r"], ["--run"]),
        (["hinf-rl", "completion", "z"], ["zsh"]),
        (["hinf-rl", "compare", "a-r"], ["a-run"]),
        (["hinf-rl", "evaluate", "x", "--baseline", "a"], ["a-run"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_bash_completes(tmp_path, words, offered):
    (tmp_path / "a-run").mkdir()
    assert _complete(tmp_path, *words) == offered


def test_zsh_loads_the_translation_first():
    script = _script("zsh")
    assert script.index("bashcompinit") < script.index("_hinf_rl()")
    if shutil.which("zsh"):
        subprocess.run(["zsh", "-n"], input=script, text=True, check=True)
