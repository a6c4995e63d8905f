"""Physical models of the quadrupeds as data: one frozen specification per robot.

Sources: the lengths, masses and limits are those of Unitree's published URDF of each robot,
with links that are fixed to a moving body merged into it by the parallel-axis theorem. SI
units, x forward, y left, z up. Joint order everywhere: FL, FR, RL, RR, each hip, thigh, calf.
"""

import dataclasses

from hinf_rl.errors import UserError, unknown_name

LEGS = ("FL", "FR", "RL", "RR")
"""Front left, front right, rear left, rear right."""
JOINTS = ("hip", "thigh", "calf")
"""Joints of a leg, from the trunk outwards."""
# Signs of the hip position: sx is +1 in front, sy is +1 on the left.
LEG_SIGNS = ((1, 1), (1, -1), (-1, 1), (-1, -1))
"""(sx, sy) of each leg's hip."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inertial:
    """Mass (kg), centre of mass (m) and inertia about it (kg m^2: xx yy zz xy xz yz)."""

    mass: float
    com: tuple[float, float, float]
    inertia: tuple[float, float, float, float, float, float]

    def mirrored(self, *, sx: int = 1, sy: int = 1) -> "Inertial":
        """Returns the inertial reflected to another leg; products of inertia change sign."""
        x, y, z = self.com
        xx, yy, zz, xy, xz, yz = self.inertia
        return Inertial(
            mass=self.mass,
            com=(sx * x, sy * y, z),
            inertia=(xx, yy, zz, sx * sy * xy, sx * xz, sy * yz),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuadrupedSpec:
    """A twelve-joint quadruped.

    Attributes:
      name: robot name.
      hip_xy: hip joint position in the trunk (m), front left.
      abduction_offset: lateral distance from hip to thigh joint (m).
      thigh_length, calf_length: (m).
      foot_radius: foot sphere radius (m).
      trunk_box: full trunk size (m).
      trunk, hip, thigh, calf: inertials of the front-left leg's moving bodies.
      joint_range: (low, high) in rad for hip, thigh, calf.
      torque_limit: (Nm) for hip, thigh, calf.
      velocity_limit: (rad/s) for hip, thigh, calf.
      default_pose: [12] joint angles that zero action asks for (rad).
      spawn_height: trunk height at reset (m).
      stiffness, damping: PD gains (Nm/rad, Nm s/rad).
      action_scale: joint target offset per unit of action (rad).
      push_limit: default bound on the trunk force (N).
      standing_height: trunk height with the soles on the ground in the default pose (m).
    """

    name: str
    hip_xy: tuple[float, float]
    abduction_offset: float
    thigh_length: float
    calf_length: float
    foot_radius: float
    trunk_box: tuple[float, float, float]
    trunk: Inertial
    hip: Inertial
    thigh: Inertial
    calf: Inertial
    joint_range: tuple[tuple[float, float], ...]
    torque_limit: tuple[float, float, float]
    velocity_limit: tuple[float, float, float]
    default_pose: tuple[float, ...]
    spawn_height: float
    stiffness: float
    damping: float
    action_scale: float
    push_limit: float
    standing_height: float

    def __post_init__(self) -> None:
        if len(self.default_pose) != 12:
            raise UserError(f"default_pose needs 12 angles, got {len(self.default_pose)}")
        for index, angle in enumerate(self.default_pose):
            low, high = self.joint_range[index % 3]
            if not low <= angle <= high:
                joint = f"{LEGS[index // 3]}_{JOINTS[index % 3]}"
                raise UserError(
                    f"default_pose of {self.name}: {joint} = {angle} rad lies outside its range "
                    f"[{low}, {high}]"
                )

    @property
    def total_mass(self) -> float:
        """Mass of the whole robot in kg."""
        return self.trunk.mass + 4 * (self.hip.mass + self.thigh.mass + self.calf.mass)


def _pose(hips: tuple[float, ...], thighs: tuple[float, ...], calf: float) -> tuple[float, ...]:
    return tuple(
        angle for hip, thigh in zip(hips, thighs, strict=True) for angle in (hip, thigh, calf)
    )


ALIENGO = QuadrupedSpec(
    name="aliengo",
    hip_xy=(0.2407, 0.051),
    abduction_offset=0.0868,
    thigh_length=0.25,
    calf_length=0.25,
    foot_radius=0.0265,
    trunk_box=(0.647, 0.15, 0.112),
    trunk=Inertial(
        mass=12.229,
        com=(0.0083895, 0.0036554, 0.0002599),
        inertia=(
            0.0541269348,
            0.25876088,
            0.284396099,
            0.00168477572,
            0.000234601154,
            0.000119199222,
        ),
    ),
    hip=Inertial(
        mass=2.139,
        com=(-0.0206763, 0.0161444, -1.4e-5),
        inertia=(
            0.00255930704,
            0.00413156697,
            0.00432770595,
            -0.000642292708,
            1.89971884e-6,
            1.25409415e-6,
        ),
    ),
    thigh=Inertial(
        mass=0.771,
        com=(-0.004647, -0.0202825, -0.039947),
        inertia=(
            0.00557799484,
            0.00473442611,
            0.00149356151,
            6.90628021e-5,
            -0.000348439756,
            0.000614508456,
        ),
    ),
    calf=Inertial(
        mass=0.267,
        com=(0.0021561, 4.88e-5, -0.1666713),
        inertia=(
            0.00268351357,
            0.00269605715,
            5.47969442e-5,
            3.08501076e-8,
            -8.14723382e-6,
            -8.30982643e-7,
        ),
    ),
    joint_range=((-0.873, 1.047), (-0.524, 3.927), (-2.775, -0.611)),
    torque_limit=(44.0, 44.0, 55.0),
    velocity_limit=(20.0, 20.0, 15.89),
    default_pose=_pose((0.0, 0.0, 0.0, 0.0), (0.8, 0.8, 0.8, 0.8), -1.5),
    spawn_height=0.55,
    stiffness=40.0,
    damping=2.0,
    action_scale=0.5,
    push_limit=100.0,
    standing_height=0.392,
)
"""Unitree Aliengo."""

A1 = QuadrupedSpec(
    name="a1",
    hip_xy=(0.183, 0.047),
    abduction_offset=0.08505,
    thigh_length=0.2,
    calf_length=0.2,
    foot_radius=0.02,
    trunk_box=(0.267, 0.194, 0.114),
    trunk=Inertial(
        mass=4.714,
        com=(0.0127283, 0.0021855, 0.0005149),
        inertia=(
            0.016939935,
            0.0566791903,
            0.0648137678,
            8.38741759e-5,
            0.000597672445,
            2.51328744e-5,
        ),
    ),
    hip=Inertial(
        mass=0.696,
        com=(-0.003311, 0.000635, 3.1e-5),
        inertia=(4.69246e-4, 8.0749e-4, 5.52929e-4, -9.409e-6, -3.42e-7, -4.66e-7),
    ),
    thigh=Inertial(
        mass=1.013,
        com=(-0.003237, -0.022327, -0.027326),
        inertia=(0.005529065, 0.005139339, 0.001367788, 4.825e-6, 3.43869e-4, 2.2448e-5),
    ),
    calf=Inertial(
        mass=0.226,
        com=(0.0047266, 0.0, -0.1319753),
        inertia=(0.00338556645, 0.00340344139, 4.38509375e-5, 0.0, -1.67427353e-4, 0.0),
    ),
    joint_range=((-0.802851, 0.802851), (-1.0472, 4.18879), (-2.69653, -0.916298)),
    # The real robot's torque limits; a widely copied URDF carries larger ones.
    torque_limit=(33.5, 33.5, 33.5),
    velocity_limit=(21.0, 21.0, 21.0),
    default_pose=_pose((0.1, -0.1, 0.1, -0.1), (0.8, 0.8, 1.0, 1.0), -1.5),
    spawn_height=0.42,
    stiffness=40.0,
    damping=1.0,
    action_scale=0.25,
    push_limit=50.0,
    standing_height=0.302,
)
"""Unitree A1."""

ROBOTS = {"a1": A1, "aliengo": ALIENGO}
"""The robots by name."""


def get_robot(name: str) -> QuadrupedSpec:
    """Returns the specification named `name`.

    Raises:
      UserError: there is no such robot; the nearest name is suggested.
    """
    if name not in ROBOTS:
        raise unknown_name("robot", name, ROBOTS)
    return ROBOTS[name]


__all__ = [
    "A1",
    "ALIENGO",
    "JOINTS",
    "LEGS",
    "LEG_SIGNS",
    "ROBOTS",
    "Inertial",
    "QuadrupedSpec",
    "get_robot",
]
