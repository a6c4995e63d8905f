"""Importing the package is light and changes nothing."""

import subprocess
import sys
import textwrap

import pytest

# Only the command line is allowed its own parser; nothing may touch devices or the display.
HEAVY = {"mujoco", "matplotlib", "brax", "scipy", "OpenGL", "tensorboardX", "orbax"}
# Prints a line of loaded packages after each module: what a later one loads is not yet in it.
CHECK = textwrap.dedent("""
    import importlib, os, sys
    before = dict(os.environ)
    for module in sys.argv[1:]:
        importlib.import_module(module)
        assert dict(os.environ) == before, (module, set(os.environ.items()) ^ set(before.items()))
        print(*sorted({name.partition(".")[0] for name in sys.modules}))
        if "jax" in sys.modules:
            import jax
            from jax._src import xla_bridge
            assert not xla_bridge.backends_are_initialized(), module
            assert not jax.config.jax_enable_x64, module
""")


def loaded_after(modules, tmp_path):
    """Module to the packages that are loaded after it and those before it in the list."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHECK, *modules],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    return dict(zip(modules, map(set, map(str.split, lines)), strict=True))


@pytest.mark.smoke
def test_import_is_light(tmp_path):
    modules = [
        "hinf_rl",
        "hinf_rl.agents.api",
        "hinf_rl.config",
        "hinf_rl.diffusion",
        "hinf_rl.envs",
        "hinf_rl.evaluation",
        "hinf_rl.export",
        "hinf_rl.language",
        "hinf_rl.ops",
        "hinf_rl.training.loop",
        "hinf_rl.training.run_directory",
    ]
    heavy = {name: found & HEAVY for name, found in loaded_after(modules, tmp_path).items()}
    assert not any(heavy.values()), heavy


def test_help_needs_no_jax(tmp_path):
    found = loaded_after(["hinf_rl", "hinf_rl.cli", "hinf_rl.config"], tmp_path)
    heavy = {name: loaded & (HEAVY | {"jax", "numpy"}) for name, loaded in found.items()}
    assert not any(heavy.values()), heavy
