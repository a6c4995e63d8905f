"""`hinf-rl doctor`: what this machine can do, in a few lines."""

import os
import shutil
import subprocess
import sys
import time

from hinf_rl.training import devices
from hinf_rl.training.provenance import provenance

_NUM_ENVS = 1024
_NUM_STEPS = 50
_GL_PROBE = "import mujoco; mujoco.GLContext(64, 64).make_current(); print('works')"


def doctor(*, device: str | None) -> int:
    """Prints versions, devices, graphics, disk and physics speed; returns the exit code."""
    devices.select_device(device)
    found = provenance()
    print("versions   " + ", ".join(f"{name} {text}" for name, text in found["versions"].items()))
    hardware = found["device"]
    print(
        f"device     {hardware['count']} x {hardware['kind']} ({hardware['platform']}), "
        f"{hardware['cpu_count']} CPU cores, matrix products in {found['matmul_precision']}"
    )
    print(f"graphics   {describe_graphics()}")
    print(f"disk       {shutil.disk_usage('.').free / 1e9:.1f} GB free here")
    print(f"physics    {describe_physics()}")
    return 0


def describe_graphics() -> str:
    """Says with which library MuJoCo can draw here, or what to install."""
    for backend in ("egl", "osmesa"):
        # In a process of its own: MuJoCo chooses the library once, when it is imported.
        try:
            probe = subprocess.run(
                [sys.executable, "-c", _GL_PROBE],
                capture_output=True,
                text=True,
                timeout=60,
                env={**os.environ, "MUJOCO_GL": backend},
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if probe.returncode == 0 and "works" in probe.stdout:
            return f"MUJOCO_GL={backend} works"
    return "no GL library, pictures are plain drawings; on Debian install libegl1 or libosmesa6"


def describe_physics(*, num_envs: int = _NUM_ENVS, num_steps: int = _NUM_STEPS) -> str:
    """Measures the control steps per second of the quadruped with random actions."""
    import jax

    from hinf_rl.envs.batch import BatchEnv
    from hinf_rl.tasks import get_task

    task = get_task("aliengo")
    batch = BatchEnv(task.make_env(task.env_config), num_envs)
    size = batch.spec.action_size

    @jax.jit
    def roll(state, keys):  # noqa: ANN001, ANN202 local
        def step(state, key):  # noqa: ANN001, ANN202 local
            state, _ = batch.step(state, jax.random.normal(key, (num_envs, size)), None)
            return state, None

        return jax.lax.scan(step, state, keys)[0]

    state = jax.jit(batch.reset)(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), num_steps)
    state = jax.block_until_ready(roll(state, keys))
    start_s = time.perf_counter()
    jax.block_until_ready(roll(state, keys))
    speed = num_envs * num_steps / (time.perf_counter() - start_s)
    return f"{speed:,.0f} control steps/s ({task.name}, {num_envs} environments)"


__all__ = ["describe_graphics", "describe_physics", "doctor"]
