"""The ground as the velocity task asks about it: flat, or a world of terrain tiles.

Everything is a function of positions alone, so that all physics agree and a reset needs no
simulation.
"""

# MuJoCo's compiled module carries no types.
# pyright: reportAttributeAccessIssue=false

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hinf_rl.envs.legged import kinematics, randomisation
from hinf_rl.envs.legged.config import VelocityConfig
from hinf_rl.envs.legged.curriculum import (
    Visit,
    advance_visit,
    begin_visit,
    first_tile,
    next_level,
)
from hinf_rl.envs.legged.heights import HeightField
from hinf_rl.envs.legged.robots import QuadrupedSpec
from hinf_rl.envs.legged.state import QuadrupedState
from hinf_rl.envs.legged.terrain import (
    build_terrain,
    grip_at,
    height_at,
    surface_at,
    tile_centre,
    wrap_shift,
)
from hinf_rl.envs.physics.api import PhysicsState
from hinf_rl.types import Array


def _grid(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[len(x) * len(y), 2] points, y running fastest."""
    return np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.float32)


SCAN_SHAPE = (17, 11)
SCAN = _grid(np.linspace(-0.8, 0.8, SCAN_SHAPE[0]), np.linspace(-0.5, 0.5, SCAN_SHAPE[1]))
"""[187, 2] points (m, heading frame) whose heights the critic sees."""
UNDER_TRUNK = _grid(np.linspace(-0.15, 0.15, 7), np.linspace(-0.2, 0.2, 9))
"""[63, 2] points (m, heading frame) whose mean height is the ground under the trunk."""
_SCAN_SCALE, _SCAN_OFFSET_M = 5.0, 0.5
# Points along the edges of the trunk's box, much closer than stairs are wide.
_TRUNK_POINTS = np.array(
    [[x, y, z] for x in np.linspace(-1, 1, 9) for y in (-1, 1) for z in (-1, 1)], np.float32
)


class FlatGround:
    """Level ground at height 0 without an end."""

    height_field: HeightField | None = None
    height_grid = (0, 0)
    """Lines ahead, and points from right to left on each, whose heights the critic sees."""

    def __init__(self, robot: QuadrupedSpec) -> None:
        self._robot = robot

    @property
    def num_heights(self) -> int:
        """How many heights the critic sees."""
        return self.height_grid[0] * self.height_grid[1]

    def write(self, model: Any) -> None:
        """Puts the heights into a compiled model."""

    def begin(self, key: Array, qpos: Array, final: Any) -> tuple[Array, Visit | None]:
        """Places a robot that stands at the origin, [19], where its episode begins.

        Args:
          key: consumed.
          qpos: [19] positions with the soles just above height 0.
          final: the last `State` of the episode before, None for an environment's first.
        """
        del key, final
        return qpos, None

    def foothold(self, qpos: Array, parameters: Array) -> Array:
        """The physics parameters with the friction that the feet find where they are."""
        del qpos
        return parameters

    def follow(
        self, before: QuadrupedState, simulation: PhysicsState, dt_s: float
    ) -> tuple[PhysicsState, Visit | None]:
        """The simulation after a step of `dt_s` and the way so far."""
        del dt_s
        return simulation, before.visit

    def trunk_height(self, qpos: Array) -> Array:
        """[] height in m of the trunk over the ground under it."""
        return qpos[2]

    def trunk_gap(self, qpos: Array) -> Array:
        """[] distance in m between the trunk's box and the ground."""
        return kinematics.trunk_clearance(self._robot, qpos[2], qpos[3:7])

    def foot_gap(self, qpos: Array, feet: Array) -> Array:
        """[4] distance in m between the soles and the ground.

        Args:
          qpos: [19].
          feet: [4, 3] centres of the feet in the trunk frame (m).
        """
        return qpos[2] + kinematics.rotate(qpos[3:7], feet)[:, 2] - self._robot.foot_radius

    def scan(self, qpos: Array, key: Array) -> list[Array]:
        """What the critic sees of the ground: one vector [num_heights], or nothing."""
        del qpos, key
        return []

    def metrics(self, visit: Visit | None) -> dict[str, Array]:
        """Named [] scalars of the way so far."""
        del visit
        return {}


class TerrainGround(FlatGround):
    """A world of terrain tiles; each episode begins on one of them.

    Args:
      config: settings of the task.
      robot: the robot.
    """

    height_grid = SCAN_SHAPE

    def __init__(self, config: VelocityConfig, robot: QuadrupedSpec) -> None:
        super().__init__(robot)
        self._config = config
        self.terrain, self._field = build_terrain(config.terrain)
        self.height_field = self._field
        self._trunk_points = (
            _TRUNK_POINTS * np.float32(0.5) * np.asarray(robot.trunk_box, np.float32)
        )

    def write(self, model: Any) -> None:
        """Puts the elevation into a compiled model."""
        model.hfield_data[:] = self._field.elevation.reshape(-1)

    def begin(self, key: Array, qpos: Array, final: Any) -> tuple[Array, Visit]:
        """Places the robot near the middle of its tile; see `FlatGround.begin`."""
        settings = self._config.terrain
        key_tile, key_place = jax.random.split(key)
        if final is None:
            level, column = first_tile(key_tile, settings)
        else:
            visit = _visit(final.physics)
            level = next_level(key_tile, visit, self._asked_m(final), settings)
            column = visit.column
        start = tile_centre(self.terrain, level, column)
        if self._config.randomise:
            spread = settings.start_spread_m
            start += jax.random.uniform(key_place, (2,), minval=-spread, maxval=spread)
        qpos = qpos.at[:2].set(start)
        feet, _ = kinematics.leg_kinematics(self._robot, qpos[7:])
        feet = qpos[None, :3] + kinematics.rotate(qpos[3:7], feet)
        # As high above the highest ground under a foot as it was above height 0.
        lift = jnp.max(height_at(self.terrain, feet[:, 0], feet[:, 1]))
        return qpos.at[2].add(lift), begin_visit(level, column, start)

    def _asked_m(self, final: Any) -> Array:
        """Distance that the episode asked for; a fall is measured by all of its time."""
        physics: QuadrupedState = final.physics
        left_s = jnp.maximum(self._config.episode_length_s - physics.time_s, 0.0)
        more = jnp.linalg.norm(physics.command[:2]) * left_s
        return _visit(physics).asked_m + jnp.where(final.terminated, more, 0.0)

    def foothold(self, qpos: Array, parameters: Array) -> Array:
        """Takes friction from the feet that stand on slippery patches."""
        if self.terrain.grip is None:
            return parameters
        feet, _ = kinematics.leg_kinematics(self._robot, qpos[7:])
        feet = qpos[None, :3] + kinematics.rotate(qpos[3:7], feet)
        grip = grip_at(self.terrain, feet[:, 0], feet[:, 1])
        return parameters.at[randomisation.FRICTION].multiply(grip)

    def follow(
        self, before: QuadrupedState, simulation: PhysicsState, dt_s: float
    ) -> tuple[PhysicsState, Visit]:
        """Brings a robot that left the world back in on the other side, and notes its way."""
        shift = wrap_shift(self.terrain, simulation.qpos[:2])
        position = simulation.qpos[:2] + shift
        visit = _visit(before)
        visit = visit._replace(start_m=visit.start_m + shift)
        asked_m = dt_s * jnp.linalg.norm(before.command[:2])
        simulation = simulation._replace(qpos=simulation.qpos.at[:2].set(position))
        return simulation, advance_visit(visit, position, asked_m)

    def trunk_height(self, qpos: Array) -> Array:
        """[] height in m of the trunk over the mean of the ground under it."""
        return qpos[2] - jnp.mean(self._heights(qpos, UNDER_TRUNK))

    def trunk_gap(self, qpos: Array) -> Array:
        """[] least height in m of points along the trunk's box over the ground below them."""
        points = qpos[None, :3] + kinematics.rotate(qpos[3:7], jnp.asarray(self._trunk_points))
        return jnp.min(points[:, 2] - height_at(self.terrain, points[:, 0], points[:, 1]))

    def foot_gap(self, qpos: Array, feet: Array) -> Array:
        """[4] distance in m between the soles and the plane of the ground below each."""
        feet = qpos[None, :3] + kinematics.rotate(qpos[3:7], feet)
        surface = surface_at(self.terrain, feet[:, 0], feet[:, 1])
        # Measured along the normal of the plane under the foot, which a sphere touches there.
        steepness = jnp.sqrt(1.0 + surface.slope_x**2 + surface.slope_y**2)
        return (feet[:, 2] - surface.height) / steepness - self._robot.foot_radius

    def scan(self, qpos: Array, key: Array) -> list[Array]:
        """The heights at `SCAN` under the trunk, clipped and scaled as tabled, with noise."""
        depths = qpos[2] - _SCAN_OFFSET_M - self._heights(qpos, SCAN)
        heights = _SCAN_SCALE * jnp.clip(depths, -1.0, 1.0)
        if self._config.randomise:
            noise = _SCAN_SCALE * self._config.terrain.noise_height_m
            heights += noise * jax.random.uniform(key, heights.shape, minval=-1.0, maxval=1.0)
        return [heights]

    def metrics(self, visit: Visit | None) -> dict[str, Array]:
        """The level of the episode, and how far it got."""
        assert visit is not None
        level = visit.level.astype(jnp.float32)
        return {"terrain_level": level, "furthest_m": visit.furthest_m}

    def _heights(self, qpos: Array, points: np.ndarray) -> Array:
        """[N] heights of the ground at [N, 2] points of the heading frame around the trunk."""
        yaw = kinematics.yaw_angle(qpos[3:7])
        cos, sin = jnp.cos(yaw), jnp.sin(yaw)
        x, y = points[:, 0], points[:, 1]
        return height_at(self.terrain, qpos[0] + cos * x - sin * y, qpos[1] + sin * x + cos * y)


def _visit(physics: QuadrupedState) -> Visit:
    assert physics.visit is not None
    return physics.visit


def make_ground(config: VelocityConfig, robot: QuadrupedSpec) -> FlatGround:
    """The ground that the settings ask for."""
    return FlatGround(robot) if config.terrain.kind == "flat" else TerrainGround(config, robot)


__all__ = ["SCAN", "UNDER_TRUNK", "FlatGround", "TerrainGround", "make_ground"]
