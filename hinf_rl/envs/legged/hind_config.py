"""Settings of the hind-leg task.

The published hind-leg experiment gives no settings. Heights, orientation and the penalties on the
front legs follow the public Footstand task of another quadruped; commands, the split into task
and auxiliary reward and the rule of falling are ours.
"""

import dataclasses
import math
from typing import Literal

from hinf_rl.envs.legged.config import RandomisationConfig, VelocityConfig
from hinf_rl.envs.legged.mjcf import Collisions
from hinf_rl.envs.legged.robots import get_robot
from hinf_rl.envs.physics.settings import MjxSettings
from hinf_rl.errors import UserError

STARTS = ("upright", "four_legs")
"""How an episode may begin."""

# Front legs folded before the chest, hind legs bent below the hips: both robots reach it.
_UPRIGHT_POSE = (0.0, 0.8, -1.6) * 2 + (0.0, 2.1, -1.3) * 2

# Narrower than on four legs: the feet bear on a line, so that a centimetre of the centre of mass or
# a degree of the gyroscope is what the balance is about.
_UPRIGHT_RANDOMISATION = RandomisationConfig(
    payload_kg=(-0.25, 0.5),
    com_offset_m=0.01,
    friction=(0.5, 1.25),
    initial_joint_factor=(0.95, 1.05),
    initial_velocity=0.1,
    noise_angular_velocity=0.1,
    noise_gravity=0.02,
    noise_joint_velocity=0.5,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HindRewardConfig:
    """Scales of the reward terms; a step's reward is the control period times their sum.

    The two tracking terms are the task reward, on which the H-infinity cost is measured; they
    count as far as the robot is upright. All others are auxiliary.
    """

    tracking_linear: float = 1.0
    tracking_yaw: float = 0.5
    tracking_width: float = 0.25  # (m/s)^2 and (rad/s)^2
    alive: float = 0.5
    upright: float = 1.0
    height: float = 0.5
    height_width_m: float = 0.1
    front_contact: float = -0.1
    front_pose: float = -0.1
    joint_limits: float = -0.5
    soft_limit: float = 0.95  # share of a joint's range beyond which `joint_limits` counts
    vertical_velocity: float = -0.5
    lean_rate: float = -0.05
    joint_acceleration: float = -2.5e-7
    joint_power: float = -2e-5
    action_rate: float = -0.01
    smoothness: float = -0.005

    def __post_init__(self) -> None:
        for name in ("tracking_linear", "tracking_yaw"):
            if getattr(self, name) < 0:
                raise UserError(f"reward.{name} must be >= 0, got {getattr(self, name)}")
        if self.task_max <= 0:
            raise UserError(
                "reward.tracking_linear + tracking_yaw must be positive: without a task reward "
                f"there is no cost, got {self.task_max}"
            )
        for name in ("tracking_width", "height_width_m"):
            if getattr(self, name) <= 0:
                raise UserError(f"reward.{name} must be positive, got {getattr(self, name)}")
        if not 0.0 < self.soft_limit <= 1.0:
            raise UserError(f"reward.soft_limit must lie in (0, 1], got {self.soft_limit}")

    @property
    def task_max(self) -> float:
        """Largest task reward per second."""
        return self.tracking_linear + self.tracking_yaw


@dataclasses.dataclass(frozen=True, kw_only=True)
class HindLegsConfig:
    """A quadruped that follows velocity commands on its hind legs while its trunk is pushed.

    Attributes:
      robot: name of the robot.
      randomise: draw parameters per episode and add observation noise; False is the nominal
        system, started at the stance itself.
      start: "upright" on the hind legs, or "four_legs", from where the robot has to rise.
      stand_up_s: time to rise from four legs; only after it do front feet on the ground or a
        leaning trunk end the episode.
      max_lean_rad: largest angle between the trunk and its stance.
      pose: joint angles of the stance, which zero action asks for; left and right alike.
      action_scale: joint target offset per unit of action (rad); None takes the robot's.
      physics_dt_s, substeps: physics step and steps per control step.
      history: number of observations that the policy sees, newest first.
      episode_length_s: time limit.
      max_forward_m_s, max_lateral_m_s, max_yaw_rad_s: command ranges, symmetric.
      command_interval_s: a new command is drawn this often.
      command_deadband_m_s: planar commands below this speed become zero.
      push_limit_n: bound on the disturbance force. Half of what the same robot gets on four
        legs: on two it has no static margin, and must step at once.
      stiffness, damping: PD gains; None takes the robot's.
      collisions: "feet" (and trunk) or "full".
      physics: "native" (MuJoCo on the CPU's threads) or "mjx" (MuJoCo in JAX, on any device).
      num_threads: threads of native physics, 0 for all cores.
      mjx: how MJX simulates; native physics takes none of it.
      reward, randomisation: see there.
    """

    robot: str = "a1"
    randomise: bool = True
    start: Literal["upright", "four_legs"] = "upright"
    stand_up_s: float = 2.0
    max_lean_rad: float = 0.7
    pose: tuple[float, ...] = _UPRIGHT_POSE
    action_scale: float | None = None
    physics_dt_s: float = 0.005
    substeps: int = 4
    history: int = 1
    episode_length_s: float = 10.0
    max_forward_m_s: float = 0.5
    max_lateral_m_s: float = 0.2
    max_yaw_rad_s: float = 0.5
    command_interval_s: float = 5.0
    command_deadband_m_s: float = 0.1
    push_limit_n: float = 25.0
    stiffness: float | None = None
    damping: float | None = None
    collisions: Collisions = "feet"
    physics: str = "native"
    num_threads: int = 0
    mjx: MjxSettings = dataclasses.field(default_factory=MjxSettings)
    reward: HindRewardConfig = HindRewardConfig()
    randomisation: RandomisationConfig = _UPRIGHT_RANDOMISATION

    def __post_init__(self) -> None:
        _ = self.common  # which refuses what the velocity task refuses
        if self.start not in STARTS:
            raise UserError(f"start must be {STARTS[0]!r} or {STARTS[1]!r}, got {self.start!r}")
        if not 0.0 < self.stand_up_s < self.episode_length_s:
            raise UserError(
                f"stand_up_s must lie in (0, episode_length_s = {self.episode_length_s}), got "
                f"{self.stand_up_s}"
            )
        if not 0.0 < self.max_lean_rad <= math.pi / 2:
            raise UserError(f"max_lean_rad must lie in (0, pi/2], got {self.max_lean_rad}")
        if self.action_scale is not None and not self.action_scale > 0:
            raise UserError(f"action_scale must be positive or none, got {self.action_scale}")
        self._check_pose()

    def _check_pose(self) -> None:
        ranges = get_robot(self.robot).joint_range * 4
        if len(self.pose) != len(ranges):
            raise UserError(f"pose needs {len(ranges)} angles, got {len(self.pose)}")
        for index, (angle, (low, high)) in enumerate(zip(self.pose, ranges, strict=True)):
            if not low <= angle <= high:
                raise UserError(
                    f"pose[{index}] = {angle} rad lies outside the joint's range [{low}, {high}]"
                )
        for left, right in ((0, 3), (6, 9)):
            image = (-self.pose[right], *self.pose[right + 1 : right + 3])
            if self.pose[left : left + 3] != image:
                raise UserError(
                    f"pose must be its own mirror image, got {self.pose[left : left + 3]} on the "
                    f"left and {self.pose[right : right + 3]} on the right; hips differ in sign"
                )

    @property
    def common(self) -> VelocityConfig:
        """What this task shares with the velocity task, as settings of that."""
        names = {field.name for field in dataclasses.fields(VelocityConfig)} - {"reward"}
        own = [field.name for field in dataclasses.fields(self) if field.name in names]
        return VelocityConfig(heading_command=False, **{name: getattr(self, name) for name in own})

    @property
    def dt_s(self) -> float:
        """Control period in s."""
        return self.physics_dt_s * self.substeps

    @property
    def grace_s(self) -> float:
        """Time from the start in which the robot need not stand on two legs."""
        return self.stand_up_s if self.start == "four_legs" else 0.0


__all__ = ["STARTS", "HindLegsConfig", "HindRewardConfig"]
