"""How fast native MuJoCo and MJX simulate stairs as a height field and as boxes.

python -m experiments.terrain.representation [--num-envs N] [--physics native mjx] [--only PART ...]

The same robots stand on the same stairs in every variant, which takes turns with robots on a plane.
Each variant of each physics is written as soon as it is measured; those that the file already holds
are left.
"""

import argparse
import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import mujoco

from experiments.benchmarks.mjx import SCHEDULER_OFF
from experiments.benchmarks.timing import alternate, ratio, speed
from hinf_rl.envs.legged.config import TerrainConfig, VelocityConfig
from hinf_rl.envs.legged.heights import PLATFORM_M, STEP_WIDTH_M, step_height_m
from hinf_rl.envs.legged.mjcf import build_mjcf
from hinf_rl.envs.legged.velocity import VelocityEnv
from hinf_rl.envs.physics.make import make_physics
from hinf_rl.envs.physics.settings import MjxSettings
from hinf_rl.tasks import get_task
from hinf_rl.training.files import read_json, write_json
from hinf_rl.training.provenance import provenance

RESULTS = Path(__file__).parent / "results" / "representation.json"
LEVEL = 5
ROUNDS = 7
SUBSTEPS = 2
SETTLE_CALLS = 5
CELLS_M = (0.1, 0.05)
TRUNKS = ("none", "corners", "box")
BOX_TILES = (1, 4, 16)


def task_config(cell_m: float | None, tiles: int = 4) -> VelocityConfig:
    """Robots on stairs of one level, or on the flat where there is no cell."""
    config = dataclasses.replace(get_task("aliengo").env_config, randomise=False)
    if cell_m is None:
        return config
    terrain = TerrainConfig(kind="stairs_down", level=LEVEL, num_columns=tiles, cell_m=cell_m)
    return dataclasses.replace(config, terrain=terrain)


def with_trunk(model: mujoco.MjModel, trunk: str) -> mujoco.MjModel:
    """The model with none, the corners or the box of its trunk touching the ground."""
    for index in range(model.ngeom):
        name = model.geom(index).name
        if name.startswith("trunk"):
            part = "corners" if "corner" in name else "box"
            model.geom_conaffinity[index] = 2 if part == trunk else 0
    return model


def height_field_model(cell_m: float, trunk: str, solver: dict[str, Any]) -> mujoco.MjModel:
    """Stairs as a height field."""
    env = VelocityEnv(task_config(cell_m))
    text = build_mjcf(env.robot, timestep=0.01, height_field=env.ground.height_field, **solver)
    model = mujoco.MjModel.from_xml_string(text)
    env.ground.write(model)
    return with_trunk(model, trunk)


def box_model(tiles: int, trunk: str, solver: dict[str, Any]) -> mujoco.MjModel:
    """The same stairs as boxes, one inside the other, on a plane; 0 tiles are the plane alone."""
    env = VelocityEnv(task_config(None))
    root = ElementTree.fromstring(build_mjcf(env.robot, timestep=0.01, **solver))
    world = root.find("worldbody")
    assert world is not None
    steps = round((8.0 - PLATFORM_M) / 2 / STEP_WIDTH_M - 0.4)
    for tile in range(tiles):
        for step in range(1, steps + 1):
            half, top = 4.0 - STEP_WIDTH_M * step, step * step_height_m(LEVEL / 10)
            attributes = {"contype": "2", "conaffinity": "0", "type": "box"}
            attributes["size"] = f"{half} {half} {top / 2}"
            attributes["pos"] = f"0 {(tile - tiles / 2 + 0.5) * 8.0} {top / 2}"
            ElementTree.SubElement(world, "geom", attributes)
    model = mujoco.MjModel.from_xml_string(ElementTree.tostring(root, encoding="unicode"))
    return with_trunk(model, trunk)


def variants(solver: dict[str, Any]) -> Iterator[tuple[str, mujoco.MjModel, float | None, int]]:
    """Name, model, the cell of the world that robots are placed in, and its tiles."""
    yield "plane, trunk box", box_model(0, "box", solver), None, 0
    yield "plane, trunk none", box_model(0, "none", solver), None, 0
    for cell_m in CELLS_M:
        for trunk in TRUNKS:
            name = f"height field of {cell_m} m, trunk {trunk}"
            yield name, height_field_model(cell_m, trunk, solver), cell_m, 4
    for tiles in BOX_TILES:
        yield f"boxes of {tiles} tiles, trunk none", box_model(tiles, "none", solver), 0.05, tiles


class Standing:
    """Robots that hold their pose; calling it advances them once.

    Attributes:
      first_call_s: time of the first call, which compiles.
    """

    def __init__(
        self, physics_name: str, model: mujoco.MjModel, qpos: jax.Array, settings: MjxSettings
    ) -> None:
        physics = make_physics(physics_name, model, force_body="trunk", mjx=settings)
        count = len(qpos)
        push, none = jnp.zeros((count, 6), jnp.float32), jnp.zeros((count, 0), jnp.float32)
        step = jax.jit(jax.vmap(lambda s, c, f, p: physics.step(s, c, f, p, SUBSTEPS)))
        self._step: Callable[[Any], Any] = lambda state: step(state, qpos[:, 7:], push, none)
        self._state = jax.vmap(physics.initial_state)(
            qpos, jnp.zeros((count, model.nv), jnp.float32)
        )
        start_s = time.perf_counter()
        self()
        self.first_call_s = time.perf_counter() - start_s
        for _ in range(SETTLE_CALLS):
            self()

    def __call__(self) -> None:
        self._state = jax.block_until_ready(self._step(self._state))

    @property
    def nonfinite(self) -> float:
        """How many robots have met a number that is not finite."""
        return float(self._state.nonfinite.sum())


def measure(plane: Standing, variant: Standing, count: int) -> dict[str, Any]:
    """Physics steps per second, and how many the variant does for one of the plane's."""
    seconds = alternate({"plane": plane, "variant": variant}, ROUNDS)
    return {
        "steps_per_s": speed(seconds["variant"], SUBSTEPS * count),
        "over_plane": ratio(seconds["plane"], seconds["variant"]),
        "first_call_s": variant.first_call_s,
        "nonfinite": variant.nonfinite,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-envs", type=int, default=256)
    parser.add_argument("--physics", nargs="+", default=["native", "mjx"])
    parser.add_argument("--only", nargs="*", help="variants, by a part of their name")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    # MJX's loops wait for each other for ever under it; read when the first program is compiled.
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {SCHEDULER_OFF}".strip()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    data = read_json(options.output) if options.output.exists() else {}
    settings = MjxSettings()
    keys = jax.random.split(jax.random.key(0), options.num_envs)
    for name in options.physics:
        rows = data.setdefault(name, {"rows": {}})["rows"]
        solver = settings.solver if name == "mjx" else {}
        plane: Standing | None = None
        for variant, model, cell_m, tiles in variants(solver):
            is_wanted = not options.only or any(part in variant for part in options.only)
            if variant in rows or not is_wanted:
                continue
            if plane is None:
                model_plane = box_model(0, "none", solver)
                plane = Standing(name, model_plane, _starts(keys, None, 0), settings)
            standing = Standing(name, model, _starts(keys, cell_m, tiles), settings)
            rows[variant] = measure(plane, standing, options.num_envs)
            data[name] |= {"provenance": provenance(), "num_envs": options.num_envs}
            write_json(options.output, data)
            print(f"{name}, {variant}: {rows[variant]}", flush=True)


def _starts(keys: jax.Array, cell_m: float | None, tiles: int) -> jax.Array:
    env = VelocityEnv(task_config(cell_m, tiles))
    return jax.jit(jax.vmap(env.reset))(keys).physics.qpos


if __name__ == "__main__":
    main()
