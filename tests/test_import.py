"""Importing the package is light and changes nothing."""

import subprocess
import sys
import textwrap

import pytest

# Only the command line is allowed its own parser; nothing may touch devices or the display.
HEAVY = {"mujoco", "matplotlib", "brax", "scipy", "OpenGL", "tensorboardX", "orbax"}
CHECK = textwrap.dedent("""
    import os, sys
    before = dict(os.environ)
    import {module}
    assert dict(os.environ) == before, set(os.environ.items()) ^ set(before.items())
    print(*sorted({{name.partition(".")[0] for name in sys.modules}}))
    if "jax" in sys.modules:
        import jax
        from jax._src import xla_bridge
        assert not xla_bridge.backends_are_initialized()
        assert not jax.config.jax_enable_x64
""")


def modules_after(module, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHECK.format(module=module)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module",
    [
        "hinf_rl",
        "hinf_rl.agents.api",
        "hinf_rl.config",
        "hinf_rl.envs",
        "hinf_rl.evaluation",
        "hinf_rl.ops",
        "hinf_rl.training.loop",
        "hinf_rl.training.run_directory",
    ],
)
@pytest.mark.smoke
def test_import_is_light(module, tmp_path):
    assert not modules_after(module, tmp_path) & HEAVY


@pytest.mark.parametrize("module", ["hinf_rl", "hinf_rl.cli", "hinf_rl.config"])
def test_help_needs_no_jax(module, tmp_path):
    assert not modules_after(module, tmp_path) & (HEAVY | {"jax", "numpy"})
