"""Settings of the quadruped velocity task.

Defaults follow the public legged-robot task tables (rewards, commands, randomisation) except
where the field says otherwise.
"""

import dataclasses
from typing import Any

from hinf_rl.envs.legged.heights import PATCH_M, PLATFORM_M, STEP_WIDTH_M, TILE_KINDS
from hinf_rl.envs.legged.mjcf import Collisions
from hinf_rl.envs.legged.robots import get_robot
from hinf_rl.envs.physics.make import PHYSICS
from hinf_rl.envs.physics.settings import MjxSettings
from hinf_rl.errors import UserError, unknown_name


@dataclasses.dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """Scales of the reward terms; a step's reward is the control period times their sum.

    The two tracking terms are the task reward, on which the H-infinity cost is measured; all
    others are auxiliary.
    """

    tracking_linear: float = 1.0
    tracking_yaw: float = 0.5
    tracking_width: float = 0.25  # (m/s)^2 and (rad/s)^2
    # Ours: without a bonus for staying up, falling ends the auxiliary penalties and pays.
    alive: float = 0.45
    vertical_velocity: float = -2.0
    roll_pitch_rate: float = -0.05
    orientation: float = -0.2
    joint_acceleration: float = -2.5e-7
    joint_power: float = -2e-5
    base_height: float = -1.0
    base_height_target_m: float = 0.3
    foot_clearance: float = -0.01
    foot_clearance_target_m: float = -0.2  # foot height in the trunk frame
    action_rate: float = -0.01
    smoothness: float = -0.01
    torque: float = 0.0
    feet_air_time: float = 0.0
    air_time_target_s: float = 0.5
    pose: float = 0.0  # squared distance from the default pose

    @property
    def task_max(self) -> float:
        """Largest task reward per second."""
        return self.tracking_linear + self.tracking_yaw


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomisationConfig:
    """Ranges drawn anew for each episode, and the noise of each observation."""

    payload_kg: tuple[float, float] = (-1.0, 2.0)
    com_offset_m: float = 0.05
    friction: tuple[float, float] = (0.2, 1.25)
    stiffness_factor: tuple[float, float] = (0.9, 1.1)
    damping_factor: tuple[float, float] = (0.9, 1.1)
    initial_joint_factor: tuple[float, float] = (0.5, 1.5)
    initial_velocity: float = 0.5  # m/s and rad/s
    action_delay: bool = False  # a uniformly drawn part of each step repeats the last action
    push_interval_s: float = 16.0
    push_speed_m_s: float = 0.0  # horizontal velocity kick, added to the current velocity
    noise_angular_velocity: float = 0.2
    noise_gravity: float = 0.05
    noise_joint_angle: float = 0.01
    noise_joint_velocity: float = 1.5

    def __post_init__(self) -> None:
        for name in (
            "payload_kg",
            "friction",
            "stiffness_factor",
            "damping_factor",
            "initial_joint_factor",
        ):
            low, high = getattr(self, name)
            if not low <= high:
                raise UserError(f"randomisation.{name} must be (low, high), got ({low}, {high})")
        if self.friction[0] < 0:
            raise UserError(f"randomisation.friction must be >= 0, got {self.friction}")
        if min(self.stiffness_factor[0], self.damping_factor[0]) <= 0:
            raise UserError(
                "randomisation.stiffness_factor and damping_factor must be positive, got "
                f"{self.stiffness_factor} and {self.damping_factor}"
            )
        if self.push_interval_s <= 0:
            raise UserError(
                f"randomisation.push_interval_s must be positive, got {self.push_interval_s}"
            )


# Heights of one world; more would not fit beside the rest of a training.
_MAX_VERTICES = 2e7


@dataclasses.dataclass(frozen=True, kw_only=True)
class TerrainConfig:
    """The ground that robots walk on.

    Attributes:
      kind: "flat", one kind of tile (see `hinf_rl.envs.legged.heights`), or "mixed".
      level: how hard every tile is, without curriculum; None has all levels, and moves each
        environment up and down by how far it gets.
      num_levels: levels; difficulty is level / num_levels.
      num_columns: columns of tiles, each of one kind.
      shares: of the columns of a mixed world, in the order of `TILE_KINDS`.
      tile_m: side of a tile.
      cell_m: side of a cell of the height field.
      first_level_max: highest level of an environment's first episode.
      start_spread_m: episodes begin this far from the tile's middle, along x and y.
      noise_height_m: uniform noise on the heights that the critic sees.
      seed: of roughness, blocks and patches.
    """

    kind: str = "flat"
    level: int | None = None
    num_levels: int = 10
    num_columns: int = 20
    shares: tuple[float, ...] = (0.1, 0.2, 0.3, 0.3, 0.1, 0.0)
    tile_m: float = 8.0
    cell_m: float = 0.05
    first_level_max: int = 5
    start_spread_m: float = 1.0
    noise_height_m: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        kinds = ("flat", "mixed", *TILE_KINDS)
        if self.kind not in kinds:
            raise unknown_name("terrain", self.kind, kinds)
        for name in ("num_levels", "num_columns"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("first_level_max", "noise_height_m", "seed"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.level is not None and self.kind == "flat":
            raise UserError(f"flat ground has no level {self.level}; set kind to another terrain")
        if self.level is not None and not 0 <= self.level < self.num_levels:
            raise UserError(f"level must lie in [0, {self.num_levels}), got {self.level}")
        self._check_shares()
        self._check_sizes()

    def _check_shares(self) -> None:
        wrong = len(self.shares) != len(TILE_KINDS) or min(self.shares, default=0) < 0
        if wrong or not sum(self.shares) > 0:
            raise UserError(
                f"shares must be {len(TILE_KINDS)} numbers >= 0, not all 0, for "
                f"{', '.join(TILE_KINDS)}, got {self.shares}"
            )

    def _check_sizes(self) -> None:
        if self.cell_m <= 0:
            raise UserError(f"cell_m must be positive, got {self.cell_m}")
        # A step up and one down on either side of the platform.
        smallest = PLATFORM_M + 4 * STEP_WIDTH_M
        if self.tile_m < smallest or not _divides(PATCH_M, self.tile_m):
            raise UserError(
                f"tile_m must be a multiple of {PATCH_M} m of at least {smallest} m, got "
                f"{self.tile_m}"
            )
        for name, size in (("the step width", STEP_WIDTH_M), ("tile_m", self.tile_m)):
            if not _divides(self.cell_m, size):
                raise UserError(
                    f"cell_m must divide {name} of {size} m, got {self.cell_m}; take 0.05 or 0.1"
                )
        reach = self.tile_m / 2
        if not 0 <= self.start_spread_m < reach:
            raise UserError(
                f"start_spread_m must lie in [0, {reach}), half a tile, got {self.start_spread_m}"
            )
        rows = self.num_levels if self.level is None else 1
        vertices = rows * self.num_columns * (self.tile_m / self.cell_m) ** 2
        if vertices > _MAX_VERTICES:
            raise UserError(
                f"{rows} x {self.num_columns} tiles with cells of {self.cell_m} m have "
                f"{vertices:.3g} heights, more than {_MAX_VERTICES:.3g}; take fewer tiles or "
                "larger cells"
            )


def _divides(part: float, whole: float) -> bool:
    count = whole / part
    return abs(count - round(count)) < 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class VelocityConfig:
    """A quadruped that follows a velocity command while its trunk is pushed.

    Attributes:
      robot: name of the robot.
      randomise: draw parameters per episode and add observation noise; False is the nominal
        system, started near the default pose.
      physics_dt_s, substeps: physics step and steps per control step.
      history: number of observations that the policy sees, newest first.
      episode_length_s: time limit.
      max_forward_m_s, max_lateral_m_s, max_yaw_rad_s: command ranges, symmetric.
      heading_command: command a heading; the yaw rate then is 0.5 times the heading error,
        clipped to 2 rad/s.
      command_interval_s: a new command is drawn this often.
      command_deadband_m_s: planar commands below this speed become zero.
      push_limit_n: bound on the disturbance force; None takes the robot's.
      stiffness, damping: PD gains; None takes the robot's.
      collisions: "feet" (and trunk) or "full".
      physics: "native" (MuJoCo on the CPU's threads) or "mjx" (MuJoCo in JAX, on any device).
      num_threads: threads of native physics, 0 for all cores.
      mjx: how MJX simulates; native physics takes none of it.
      reward, randomisation, terrain: see there.
    """

    robot: str = "aliengo"
    randomise: bool = True
    physics_dt_s: float = 0.005
    substeps: int = 4
    history: int = 6
    episode_length_s: float = 20.0
    max_forward_m_s: float = 1.0
    max_lateral_m_s: float = 1.0
    max_yaw_rad_s: float = 1.0
    heading_command: bool = True
    command_interval_s: float = 10.0
    command_deadband_m_s: float = 0.2
    push_limit_n: float | None = None
    stiffness: float | None = None
    damping: float | None = None
    collisions: Collisions = "feet"
    physics: str = "native"
    num_threads: int = 0
    mjx: MjxSettings = dataclasses.field(default_factory=MjxSettings)
    reward: RewardConfig = RewardConfig()
    randomisation: RandomisationConfig = RandomisationConfig()
    terrain: TerrainConfig = TerrainConfig()

    def __post_init__(self) -> None:
        get_robot(self.robot)
        if self.physics not in PHYSICS:
            raise unknown_name("physics", self.physics, PHYSICS)
        if self.substeps < 1:
            raise UserError(f"substeps must be at least 1, got {self.substeps}")
        if not 0.0 < self.physics_dt_s <= 0.02:
            raise UserError(
                f"physics_dt_s must lie in (0, 0.02] s for a stable simulation, got "
                f"{self.physics_dt_s}"
            )
        if self.history < 1:
            raise UserError(f"history must be at least 1, got {self.history}")
        if self.episode_length_s < self.dt_s:
            raise UserError(
                f"episode_length_s must be at least one control step ({self.dt_s} s), got "
                f"{self.episode_length_s}"
            )
        for name in ("push_limit_n", "stiffness", "damping", "command_interval_s"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UserError(f"{name} must be positive, got {value}")
        if self.collisions not in ("feet", "full"):
            raise UserError(f"collisions must be 'feet' or 'full', got {self.collisions!r}")

    @property
    def dt_s(self) -> float:
        """Control period in s."""
        return self.physics_dt_s * self.substeps

    @property
    def solver(self) -> dict[str, Any]:
        """What the model's text says of the solver, as arguments of `build_mjcf`.

        Nothing for native physics, which stops by itself long before the default limits.
        """
        return self.mjx.solver if self.physics == "mjx" else {}


__all__ = ["RandomisationConfig", "RewardConfig", "TerrainConfig", "VelocityConfig"]
