"""Writes a quadruped specification as MJCF: primitives only, no meshes, no files."""

import itertools
from collections.abc import Mapping
from typing import Literal
from xml.etree import ElementTree

from hinf_rl.envs.legged.heights import HeightField
from hinf_rl.envs.legged.robots import JOINTS, LEG_SIGNS, LEGS, Inertial, QuadrupedSpec
from hinf_rl.errors import UserError

Collisions = Literal["feet", "full"]
"""What touches the ground: feet and trunk, or every link."""

# Contact bit: the floor meets the robot, robot parts never meet each other.
_ROBOT_BIT = 2
_LIMB_COLOUR = "0.75 0.77 0.8 1"
_CORNER_RADIUS_M = 0.02


def _numbers(*values: float) -> str:
    return " ".join(f"{value:.10g}" for value in values)


def _add_inertial(body: ElementTree.Element, inertial: Inertial) -> None:
    ElementTree.SubElement(
        body,
        "inertial",
        pos=_numbers(*inertial.com),
        mass=_numbers(inertial.mass),
        fullinertia=_numbers(*inertial.inertia),
    )


def _add_geom(body: ElementTree.Element, name: str, *, collides: bool, **attributes: str) -> None:
    bits = str(_ROBOT_BIT if collides else 0)
    ElementTree.SubElement(
        body, "geom", {"name": name, "contype": "0", "conaffinity": bits, **attributes}
    )


def _add_leg(
    trunk: ElementTree.Element, spec: QuadrupedSpec, index: int, collisions: Collisions
) -> None:
    leg, (sx, sy) = LEGS[index], LEG_SIGNS[index]
    offsets = (
        (sx * spec.hip_xy[0], sy * spec.hip_xy[1], 0.0),
        (0.0, sy * spec.abduction_offset, 0.0),
        (0.0, 0.0, -spec.thigh_length),
    )
    inertials = (spec.hip.mirrored(sx=sx, sy=sy), spec.thigh.mirrored(sy=sy), spec.calf)
    body = trunk
    for joint, (part, offset, inertial) in enumerate(zip(JOINTS, offsets, inertials, strict=True)):
        body = ElementTree.SubElement(body, "body", name=f"{leg}_{part}", pos=_numbers(*offset))
        _add_inertial(body, inertial)
        ElementTree.SubElement(
            body,
            "joint",
            name=f"{leg}_{part}",
            axis="1 0 0" if part == "hip" else "0 1 0",
            range=_numbers(*spec.joint_range[joint]),
        )
        shape = _limb_shape(spec, part, sy)
        _add_geom(body, f"{leg}_{part}", collides=collisions == "full", **shape)
    # The foot alone sets the friction of a contact (priority), so that one number randomises it.
    _add_geom(
        body,
        f"{leg}_foot",
        collides=True,
        type="sphere",
        size=_numbers(spec.foot_radius),
        pos=_numbers(0, 0, -spec.calf_length),
        priority="1",
        rgba="0.15 0.15 0.15 1",
    )


def _limb_shape(spec: QuadrupedSpec, part: str, sy: int) -> dict[str, str]:
    """Geom attributes of a hip cylinder, or of a thigh or calf box along its link."""
    if part == "hip":
        return {
            "type": "cylinder",
            "size": "0.046 0.0209",
            "pos": _numbers(0, sy * (spec.abduction_offset - 0.0038), 0),
            "euler": "1.5707963268 0 0",
        }
    length = spec.thigh_length if part == "thigh" else spec.calf_length
    half_x, half_y = (0.02, 0.017) if part == "thigh" else (0.01, 0.008)
    return {
        "type": "box",
        "size": _numbers(half_x, half_y, length / 2),
        "pos": _numbers(0, 0, -length / 2),
    }


def _add_actuators(root: ElementTree.Element, spec: QuadrupedSpec) -> None:
    """PD control as an affine actuator: torque = clip(kp (target - q) - kd qdot)."""
    actuators = ElementTree.SubElement(root, "actuator")
    for leg in LEGS:
        for joint, part in enumerate(JOINTS):
            limit = spec.torque_limit[joint]
            ElementTree.SubElement(
                actuators,
                "general",
                name=f"{leg}_{part}",
                joint=f"{leg}_{part}",
                gainprm=_numbers(spec.stiffness),
                biastype="affine",
                biasprm=_numbers(0, -spec.stiffness, -spec.damping),
                forcerange=_numbers(-limit, limit),
                ctrllimited="false",
            )


def build_mjcf(
    spec: QuadrupedSpec,
    *,
    timestep: float = 0.005,
    integrator: Literal["Euler", "implicitfast"] = "implicitfast",
    collisions: Collisions = "feet",
    height_field: HeightField | None = None,
    friction: float = 1.0,
    armature: float = 0.01,
    joint_damping: float = 0.0,
    frictionloss: float = 0.0,
    iterations: int = 100,
    ls_iterations: int = 50,
    numerics: Mapping[str, int] | None = None,
) -> str:
    """Returns the MJCF text of a quadruped on a flat floor or a height field.

    Args:
      spec: the robot.
      timestep: physics step in s.
      integrator: MuJoCo integrator; `implicitfast` keeps PD damping stable at larger steps.
      collisions: "feet" lets feet and trunk touch the floor, "full" hips, thighs and calves too.
      height_field: the ground instead of a flat floor; its elevation is not in the text, and goes
        into the compiled model's `hfield_data`. With "feet", spheres in the trunk's corners touch
        it in place of the box, which MJX would test against every cell below it. Contacts have
        the least time constant that the timestep allows: what hits at v sinks in by about v times
        a third of it, and a sphere whose centre is below the surface is held fast there.
      friction: sliding friction of the feet.
      armature: rotor inertia added to each joint (kg m^2).
      joint_damping: passive joint damping (Nm s/rad).
      frictionloss: dry joint friction (Nm).
      iterations: limit of the contact solver's iterations.
      ls_iterations: limit of its line search.
      numerics: custom numbers, which MJX takes limits from; None writes none.

    Returns:
      The MJCF text: compiles as it stands, names no file.

    Raises:
      UserError: a number out of range or an unknown collision mode.
    """
    _check(timestep, friction, armature, collisions)
    root = ElementTree.Element("mujoco", model=spec.name)
    ElementTree.SubElement(root, "compiler", angle="radian", autolimits="true")
    ElementTree.SubElement(
        root,
        "option",
        timestep=_numbers(timestep),
        integrator=integrator,
        iterations=str(iterations),
        ls_iterations=str(ls_iterations),
    )
    joint = {
        "armature": _numbers(armature),
        "damping": _numbers(joint_damping),
        "frictionloss": _numbers(frictionloss),
    }
    geom = {"friction": _numbers(friction, 0.02, 0.001), "condim": "3", "rgba": _LIMB_COLOUR}
    if height_field is not None:
        geom["solref"] = _numbers(2.0 * timestep, 1.0)
    default = ElementTree.SubElement(root, "default")
    ElementTree.SubElement(default, "joint", joint)
    ElementTree.SubElement(default, "geom", geom)
    asset = _add_scene(root)
    world = ElementTree.SubElement(root, "worldbody")
    _add_floor(world, asset, height_field)
    _add_trunk(world, spec, collisions, has_corners=height_field is not None)
    _add_actuators(root, spec)
    for name, value in (numerics or {}).items():
        custom = ElementTree.SubElement(root, "custom")
        ElementTree.SubElement(custom, "numeric", name=name, data=str(value))
    return ElementTree.tostring(root, encoding="unicode")


def _check(timestep: float, friction: float, armature: float, collisions: str) -> None:
    if timestep <= 0 or friction < 0 or armature < 0:
        raise UserError(
            f"timestep must be > 0, friction and armature >= 0, got {timestep}, {friction}, "
            f"{armature}"
        )
    if collisions not in ("feet", "full"):
        raise UserError(f"collisions must be 'feet' or 'full', got {collisions!r}")


def _add_scene(root: ElementTree.Element) -> ElementTree.Element:
    """Adds how the world looks; returns the element for further assets."""
    asset = ElementTree.SubElement(root, "asset")
    ElementTree.SubElement(
        asset,
        "texture",
        name="floor",
        type="2d",
        builtin="checker",
        rgb1="0.93 0.94 0.95",
        rgb2="0.83 0.85 0.87",
        width="256",
        height="256",
    )
    ElementTree.SubElement(
        asset, "material", name="floor", texture="floor", texrepeat="2 2", texuniform="true"
    )
    visual = ElementTree.SubElement(root, "visual")
    ElementTree.SubElement(visual, "global", offwidth="1280", offheight="720")
    ElementTree.SubElement(visual, "headlight", ambient="0.4 0.4 0.4", diffuse="0.4 0.4 0.4")
    return asset


def _add_floor(
    world: ElementTree.Element, asset: ElementTree.Element, field: HeightField | None
) -> None:
    ElementTree.SubElement(
        world, "light", pos="0 -1 4", dir="0 0.25 -1", directional="true", diffuse="0.8 0.8 0.8"
    )
    floor = {"name": "floor", "material": "floor", "contype": str(_ROBOT_BIT), "conaffinity": "0"}
    if field is None:
        ElementTree.SubElement(world, "geom", floor, type="plane", size="0 0 0.05")
        return
    rows, columns = field.elevation.shape
    ElementTree.SubElement(
        asset,
        "hfield",
        name="floor",
        nrow=str(rows),
        ncol=str(columns),
        size=_numbers(*field.half_size_m, field.range_m, field.base_m),
    )
    place = _numbers(0, 0, field.lowest_m)
    ElementTree.SubElement(world, "geom", floor, type="hfield", hfield="floor", pos=place)


def _add_trunk(
    world: ElementTree.Element, spec: QuadrupedSpec, collisions: Collisions, *, has_corners: bool
) -> None:
    trunk = ElementTree.SubElement(
        world, "body", name="trunk", pos=_numbers(0, 0, spec.spawn_height)
    )
    ElementTree.SubElement(trunk, "freejoint", name="root")
    _add_inertial(trunk, spec.trunk)
    _add_geom(
        trunk,
        "trunk",
        collides=collisions == "full" or not has_corners,
        type="box",
        size=_numbers(*(side / 2 for side in spec.trunk_box)),
        rgba="0.25 0.45 0.7 1",
    )
    if has_corners and collisions == "feet":
        _add_corners(trunk, spec)
    for index in range(4):
        _add_leg(trunk, spec, index, collisions)


def _add_corners(trunk: ElementTree.Element, spec: QuadrupedSpec) -> None:
    """Spheres that fill the corners of the trunk's box; nobody sees them."""
    corner = [side / 2 - _CORNER_RADIUS_M for side in spec.trunk_box]
    for index, signs in enumerate(itertools.product((1, -1), repeat=3)):
        _add_geom(
            trunk,
            f"trunk_corner_{index}",
            collides=True,
            type="sphere",
            size=_numbers(_CORNER_RADIUS_M),
            pos=_numbers(*(sign * side for sign, side in zip(signs, corner, strict=True))),
            group="3",
        )


__all__ = ["Collisions", "build_mjcf"]
