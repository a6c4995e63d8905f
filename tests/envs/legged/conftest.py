import mujoco
import numpy as np
import pytest

from hinf_rl.envs.legged.mjcf import build_mjcf
from hinf_rl.envs.legged.robots import ROBOTS


@pytest.fixture(params=sorted(ROBOTS))
def robot(request):
    return ROBOTS[request.param]


@pytest.fixture
def posed(robot):
    """The robot's model and its data in the default pose, trunk level at the world's origin."""
    model = mujoco.MjModel.from_xml_string(build_mjcf(robot))
    data = mujoco.MjData(model)
    data.qpos[:7] = 0, 0, 0, 1, 0, 0, 0
    data.qpos[7:] = robot.default_pose
    mujoco.mj_forward(model, data)
    return model, data


@pytest.fixture
def random():
    return np.random.default_rng(0)
