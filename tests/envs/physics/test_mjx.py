import copy
import importlib.util
import subprocess
import sys

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from hinf_rl.envs.legged.mjcf import build_mjcf
from hinf_rl.envs.legged.randomisation import model_fields
from hinf_rl.envs.legged.robots import A1
from hinf_rl.envs.physics.api import ModelField, PhysicsState
from hinf_rl.envs.physics.constants import derived_constants
from hinf_rl.envs.physics.mjx import MjxPhysics, import_mjx
from hinf_rl.envs.physics.native import NativePhysics
from hinf_rl.envs.physics.settings import MjxSettings
from hinf_rl.errors import UserError

if importlib.util.find_spec("mujoco.mjx") is None:
    pytest.skip("needs mujoco-mjx", allow_module_level=True)

ROWS, SUBSTEPS, DT_S = 8, 2, 0.01
# A turned box of 2 kg in the air whose centre of mass lies off the body's origin.
FREE = """
<mujoco><option timestep="0.004" integrator="implicitfast" gravity="0 0 -9.81"/><worldbody>
  <body name="box" pos="0 0 5" quat="0.8 0.6 0 0"><freejoint/>
    <inertial pos="0.1 -0.05 0.2" mass="2" diaginertia="0.5 0.5 0.5"/>
    <geom type="box" size="0.1 0.1 0.1" contype="0" conaffinity="0"/></body>
</worldbody></mujoco>
"""
SLIDE = """
<mujoco><option timestep="0.01" gravity="0 0 0"/><worldbody>
  <body><joint name="x" type="slide" axis="1 0 0"/><geom type="sphere" size="0.1" mass="4"/></body>
</worldbody><actuator><motor joint="x"/></actuator></mujoco>
"""
BALL = """
<mujoco><option timestep="0.005"/><worldbody><geom type="plane" size="0 0 1"/>
  <body name="ball" pos="0 0 0.15"><freejoint/><geom type="sphere" size="0.1" mass="2"/></body>
</worldbody></mujoco>
"""
# Every kind of joint, a branch, and a body that is fixed to the world.
TREE = """
<mujoco><compiler autolimits="true"/><worldbody>
  <body><geom type="box" size="0.1 0.1 0.1" pos="3 0 0"/></body>
  <body name="root" pos="0 0 1" quat="0.9 0.1 -0.3 0.2"><freejoint/>
    <inertial pos="0.1 0 0.02" mass="3" fullinertia="0.3 0.5 0.6 0.02 0.01 -0.03"/>
    <body pos="0.3 0 0"><joint type="hinge" axis="0 1 0.2" armature="0.02"/>
      <geom type="capsule" size="0.05 0.2" pos="0 0 -0.2"/>
      <body name="tip" pos="0 0.1 -0.4"><joint type="ball" armature="0.01"/>
        <geom type="box" size="0.05 0.1 0.15" pos="0.02 0 -0.1"/></body></body>
    <body pos="-0.3 0 0"><joint type="slide" axis="0 0 1"/><geom size="0.08"/></body>
  </body></worldbody></mujoco>
"""
TREE_FIELDS = (
    ModelField("body_mass", (2, 4)),
    ModelField("body_ipos", (6, 7, 13)),
    ModelField("body_inertia", (12, 13, 14)),
    ModelField("dof_armature", (6, 7)),
)


def with_parameters(model, fields, parameters) -> mujoco.MjModel:
    """A model of its own with one row's parameters, and what MuJoCo derives from them."""
    changed = copy.copy(model)
    values = iter(np.asarray(parameters, np.float64))
    for name, indices in fields:
        for index in indices:
            getattr(changed, name).reshape(-1)[index] = next(values)
    mujoco.mj_setConst(changed, mujoco.MjData(changed))
    return changed


def stepper(physics, num_substeps=SUBSTEPS):
    return jax.jit(jax.vmap(lambda *arguments: physics.step(*arguments, num_substeps)))


@pytest.fixture(scope="module")
def walkers():
    """A1 on both physics with the fields of the velocity task, and their compiled steps."""
    model = mujoco.MjModel.from_xml_string(build_mjcf(A1, timestep=DT_S))
    fields = model_fields(model)
    native, mjx = (
        kind(model, fields=fields, force_body="trunk") for kind in (NativePhysics, MjxPhysics)
    )
    return native, stepper(native), stepper(mjx)


def inputs(model, nominal, *, height=0.28, torque=0.3, seed=0):
    """Robots in motion, each with its own parameters; at 0.28 m their feet reach the ground."""
    random = np.random.default_rng(seed)
    qpos = np.tile(model.qpos0, (ROWS, 1))
    qpos[:, 2] = height
    qpos[:, 7:] = A1.default_pose + 0.2 * random.normal(size=(ROWS, 12))
    qvel = 0.5 * random.normal(size=(ROWS, model.nv))
    ctrl = A1.default_pose + torque * random.normal(size=(ROWS, model.nu))
    force = random.normal(size=(ROWS, 6)) * [20.0, 20.0, 20.0, 1.0, 1.0, 1.0]
    parameters = nominal * random.uniform(0.8, 1.3, size=(ROWS, nominal.size))
    arrays = (qpos, qvel, np.zeros_like(qvel), np.zeros(ROWS), ctrl, force, parameters)
    qpos, qvel, warmstart, nonfinite, *rest = (jnp.asarray(x, jnp.float32) for x in arrays)
    return PhysicsState(qpos, qvel, warmstart, nonfinite), *rest


def landed(walkers, steps=8):
    """Inputs of robots that native physics has let fall on their feet."""
    native, step, _ = walkers
    state, *rest = inputs(native.model, native.nominal_parameters())
    for _ in range(steps):
        state = step(state, *rest)
    data = mujoco.MjData(native.model)
    touching = 0
    for qpos in np.asarray(state.qpos):
        data.qpos = qpos
        mujoco.mj_forward(native.model, data)
        touching += data.ncon
    assert touching > ROWS, "without contacts the comparison would prove little"
    return state, *rest


def assert_close(found, expected, *, qpos, qvel):
    np.testing.assert_allclose(found.qpos, expected.qpos, rtol=0, atol=qpos)
    np.testing.assert_allclose(found.qvel, expected.qvel, rtol=0, atol=qvel)
    np.testing.assert_array_equal(found.nonfinite, expected.nonfinite)


@pytest.mark.parametrize("torque", [0.3, 2.0], ids=["within limits", "at their limits"])
def test_a_flight_step_is_that_of_the_native_engine(walkers, torque):
    # float32 holds 20 rad/s to 2e-6, and a step adds accelerations of 3000 rad/s^2 to 2e-4.
    native, step, mjx_step = walkers
    arguments = inputs(native.model, native.nominal_parameters(), height=5.0, torque=torque)
    assert_close(mjx_step(*arguments), step(*arguments), qpos=3e-6, qvel=3e-4)


def test_a_step_on_the_ground_is_that_of_the_native_engine(walkers):
    arguments = landed(walkers)
    _, step, mjx_step = walkers
    assert_close(mjx_step(*arguments), step(*arguments), qpos=1e-5, qvel=2e-3)


def test_on_the_ground_small_differences_grow_slowly(walkers):
    state, *rest = landed(walkers)
    _, step, mjx_step = walkers
    other = state
    for index in range(5):
        state, other = step(state, *rest), mjx_step(other, *rest)
        growth = 3.0**index
        assert_close(other, state, qpos=1e-5 * growth, qvel=2e-3 * growth)


FIELDS = {"mass": 0, "centre": 1, "friction": 2, "stiffness": (3, 4), "damping": 5}


@pytest.mark.parametrize("name", FIELDS)
def test_a_parameter_has_the_effect_that_it_has_natively(walkers, name):
    native, step, mjx_step = walkers
    state, ctrl, force, parameters = landed(walkers)
    bounds = np.cumsum([0, *(len(field.indices) for field in native.fields)])
    changed = parameters
    for field in np.atleast_1d(FIELDS[name]):
        span = slice(bounds[field], bounds[field + 1])
        changed = changed.at[:, span].set(0.7 * changed[:, span] + (name == "centre") * 0.03)
    effects = [
        np.asarray(run(state, ctrl, force, changed).qvel - run(state, ctrl, force, parameters).qvel)
        for run in (step, mjx_step)
    ]
    assert np.abs(effects[0]).max() > 0.02
    np.testing.assert_allclose(effects[1], effects[0], rtol=0, atol=4e-3)


def test_a_held_force_gives_the_whole_robot_its_momentum(walkers):
    # The velocity of the centre of mass gains F t / m over that of the same flight without F,
    # whatever the joints do.
    native, _, mjx_step = walkers
    state, ctrl, _, parameters = inputs(native.model, native.nominal_parameters(), height=5.0)
    wrench = jnp.tile(jnp.array([[300.0, -200.0, 100.0, 0, 0, 0]], jnp.float32), (ROWS, 1))
    pushed, left = (mjx_step(state, ctrl, force, parameters) for force in (wrench, 0.0 * wrench))
    for row in range(ROWS):
        model = with_parameters(native.model, native.fields, parameters[row])
        gained = centre_velocity(model, pushed, row) - centre_velocity(model, left, row)
        expected = np.array([300.0, -200.0, 100.0]) * SUBSTEPS * DT_S / model.body_mass.sum()
        np.testing.assert_allclose(gained, expected, atol=4e-3)


def centre_velocity(model, state, row):
    """MuJoCo's own velocity of a row's centre of mass (m/s)."""
    data = mujoco.MjData(model)
    data.qpos, data.qvel = state.qpos[row], state.qvel[row]
    mujoco.mj_forward(model, data)
    mujoco.mj_subtreeVel(model, data)
    return data.subtree_linvel[1].copy()


def test_force_acts_in_the_world_frame_at_the_centre_of_mass():
    # 5 substeps of 4 ms: dv = (F / m + g) t = ((6, -4, 2) / 2 + (0, 0, -9.81)) 0.02, whatever the
    # attitude. The torque about world z turns it by T t / I = 3 x 0.02 / 0.5 = 0.12 rad/s, in
    # the body frame along (0, 2 w x, w^2 - x^2) = (0, 0.96, 0.28).
    physics = MjxPhysics(mujoco.MjModel.from_xml_string(FREE), force_body="box")
    empty, rest = jnp.zeros(0, jnp.float32), jnp.zeros(6, jnp.float32)
    start = physics.initial_state(jnp.asarray(physics.model.qpos0, jnp.float32), rest)
    run = jax.jit(lambda force: physics.step(start, empty, force, empty, 5))
    state = run(jnp.array([6.0, -4.0, 2.0, 0.0, 0.0, 0.0], jnp.float32))
    np.testing.assert_allclose(state.qvel[:3], [0.06, -0.04, -0.1762], atol=1e-6)
    np.testing.assert_allclose(state.qvel[3:], 0.0, atol=1e-6)
    state = run(jnp.array([0.0, 0.0, 0.0, 0.0, 0.0, 3.0], jnp.float32))
    np.testing.assert_allclose(state.qvel[3:], [0.0, 0.12 * 0.96, 0.12 * 0.28], atol=1e-4)


def test_each_substep_gets_its_own_control():
    # v = sum(force) dt / m = (1 + 2 + 6) 0.01 / 4; x = sum over substeps of v after each.
    physics = MjxPhysics(mujoco.MjModel.from_xml_string(SLIDE))
    zero, none = jnp.zeros(1, jnp.float32), jnp.zeros(0, jnp.float32)
    force, controls = jnp.zeros(6, jnp.float32), jnp.array([[1.0], [2.0], [6.0]], jnp.float32)
    step = jax.jit(lambda state, ctrl: physics.step(state, ctrl, force, none, 3))
    state = step(physics.initial_state(zero, zero), controls)
    np.testing.assert_allclose(state.qvel, [0.0225], rtol=1e-6)
    np.testing.assert_allclose(state.qpos, [(1 + 3 + 9) * 0.01**2 / 4], rtol=1e-6)
    held = step(physics.initial_state(zero, zero), controls[1])
    np.testing.assert_allclose(held.qvel, [3 * 2 * 0.01 / 4], rtol=1e-6)


def test_nested_batches_inside_a_scan_equal_single_steps_and_compile_once():
    physics = MjxPhysics(
        mujoco.MjModel.from_xml_string(BALL),
        fields=[ModelField("geom_friction", (3,))],
        force_body="ball",
    )
    traces = []

    def step(state, force, parameters):
        traces.append(None)
        return physics.step(state, jnp.zeros(0, jnp.float32), force, parameters, 2)

    @jax.jit
    def roll(state, force, parameters):
        body = jax.vmap(jax.vmap(step))
        return jax.lax.scan(lambda s, _: (body(s, force, parameters), None), state, length=20)[0]

    qpos = jnp.tile(jnp.asarray(physics.model.qpos0, jnp.float32), (2, 3, 1))
    state = jax.vmap(jax.vmap(physics.initial_state))(qpos, jnp.zeros((2, 3, 6), jnp.float32))
    force = jnp.zeros((2, 3, 6), jnp.float32).at[..., 0].set(jnp.arange(6.0).reshape(2, 3))
    parameters = jnp.linspace(0.1, 1.0, 6, dtype=jnp.float32).reshape(2, 3, 1)
    rolled = roll(state, force, parameters)
    again = roll(rolled, force, parameters)
    assert len(traces) <= 2 and roll._cache_size() == 1
    assert {leaf.dtype for leaf in jax.tree.leaves(again)} == {jnp.dtype(jnp.float32)}
    assert rolled.qpos.shape == (2, 3, 7) and (rolled.qpos[..., 2] < 0.101).all()

    flat = jax.tree.map(lambda x: x.reshape(6, *x.shape[2:]), (state, force, parameters))
    native = NativePhysics(physics.model, fields=physics.fields, force_body="ball")
    empty = jnp.zeros((6, 0), jnp.float32)
    expected, step_native = flat[0], stepper(native)
    for _ in range(20):
        expected = step_native(expected, empty, *flat[1:])
    np.testing.assert_allclose(rolled.qpos.reshape(6, 7), expected.qpos, atol=1e-4)
    np.testing.assert_allclose(rolled.qvel.reshape(6, 6), expected.qvel, atol=1e-3)


@pytest.mark.parametrize("xml, fields", [(TREE, TREE_FIELDS), ("a1", None)], ids=["tree", "a1"])
def test_derived_constants_are_those_of_mujoco(xml, fields):
    model = mujoco.MjModel.from_xml_string(build_mjcf(A1) if xml == "a1" else xml)
    fields = fields or model_fields(model)
    mjx = import_mjx()
    nominal = NativePhysics(model, fields=fields).nominal_parameters()
    changed = with_parameters(model, fields, nominal * np.linspace(0.7, 1.4, nominal.size))
    # MJX's model gets the changed entries, but the old constants.
    stale = copy.copy(changed)
    for name in ("body_invweight0", "body_subtreemass", "dof_invweight0"):
        getattr(stale, name)[:] = getattr(model, name)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        found = jax.jit(lambda m, d: derived_constants(mjx, m, d))(
            mjx.put_model(stale, impl="jax"), mjx.make_data(stale, impl="jax")
        )
    for name, value in found.items():
        expected = getattr(changed, name)
        np.testing.assert_allclose(value, expected, rtol=3e-5, atol=1e-7, err_msg=name)
        assert np.abs(expected - getattr(model, name)).max() > 1e-3, name


def test_only_a_broken_row_is_flagged_and_comes_back_at_rest(walkers):
    native, _, mjx_step = walkers
    state, ctrl, force, parameters = landed(walkers)
    clean = mjx_step(state, ctrl, force, parameters)
    np.testing.assert_array_equal(clean.nonfinite, np.zeros(ROWS))
    broken = mjx_step(
        state._replace(
            qpos=state.qpos.at[1, 2].set(jnp.inf), qvel=state.qvel.at[2, 0].set(jnp.nan)
        ),
        ctrl.at[3, 5].set(jnp.nan),
        force.at[4, 0].set(jnp.nan),
        parameters.at[5, 0].set(jnp.nan).at[6, 0].set(-1e9),
    )
    np.testing.assert_array_equal(broken.nonfinite[:6], [0, 1, 1, 1, 1, 1])
    for leaf, kept in zip(broken, clean, strict=True):
        assert np.isfinite(leaf).all()
        np.testing.assert_array_equal(leaf[jnp.array([0, 7])], kept[jnp.array([0, 7])])
    np.testing.assert_array_equal(broken.qpos[1:6], np.float32(np.tile(native.model.qpos0, (5, 1))))
    np.testing.assert_array_equal(broken.qvel[1:6], np.zeros((5, native.model.nv)))


def test_all_the_steps_of_the_robots_came_from_one_compilation(walkers):
    native, _, mjx_step = walkers
    mjx_step(*inputs(native.model, native.nominal_parameters()))
    assert mjx_step._cache_size() == 1


def test_nominal_parameters_are_those_of_native_physics(walkers):
    native, *_ = walkers
    mjx = MjxPhysics(native.model, fields=native.fields)
    np.testing.assert_array_equal(mjx.nominal_parameters(), native.nominal_parameters())


def test_full_collisions_are_known_to_mjx():
    model = mujoco.MjModel.from_xml_string(build_mjcf(A1, collisions="full"))
    MjxPhysics(model, fields=model_fields(model), force_body="trunk")


def test_what_does_not_exist_or_cannot_vary_is_named():
    model = mujoco.MjModel.from_xml_string(BALL)
    with pytest.raises(UserError, match="no body named 'torso'"):
        MjxPhysics(model, force_body="torso")
    with pytest.raises(UserError, match=r"'body_mas'.*did you mean 'body_mass'"):
        MjxPhysics(model, fields=[ModelField("body_mas", (1,))])
    with pytest.raises(UserError, match="no field 'geom_type'"):
        MjxPhysics(model, fields=[ModelField("geom_type", (0,))])
    with pytest.raises(UserError, match=r"body_mass.* must lie in"):
        MjxPhysics(model, fields=[ModelField("body_mass", (2,))])
    with pytest.raises(UserError, match="'geom_size' cannot vary by environment on MJX"):
        MjxPhysics(model, fields=[ModelField("geom_size", (0,))])


def test_models_that_mjx_cannot_simulate_are_refused():
    hidden = SLIDE.replace("<motor joint", '<general dyntype="integrator" joint')
    with pytest.raises(UserError, match="state beyond positions"):
        MjxPhysics(mujoco.MjModel.from_xml_string(hidden))
    fluid = SLIDE.replace("timestep", 'density="1.2" integrator="implicitfast" timestep')
    with pytest.raises(UserError, match="MJX cannot simulate this model: implicitfast"):
        MjxPhysics(mujoco.MjModel.from_xml_string(fluid))


def test_wrong_shapes_are_refused():
    physics = MjxPhysics(mujoco.MjModel.from_xml_string(SLIDE))
    zero, force = jnp.zeros(1, jnp.float32), jnp.zeros(6, jnp.float32)
    state = physics.initial_state(zero, zero)
    with pytest.raises(UserError, match="num_substeps must be at least 1, got 0"):
        physics.step(state, zero, force, zero[:0], 0)
    for wrong in ((zero[:0], force, zero[:0]), (zero, zero, zero[:0]), (zero, force, zero)):
        with pytest.raises(AssertionError):
            physics.step(state, *wrong, 1)


def test_a_missing_package_is_named(monkeypatch):
    model = mujoco.MjModel.from_xml_string(SLIDE)
    monkeypatch.setattr("mujoco.mjx.warp.WARP_INSTALLED", False)
    with pytest.raises(UserError, match=r"'warp' needs .* pip install 'hinf-rl\[warp\]'"):
        MjxPhysics(model, settings=MjxSettings(impl="warp"))
    monkeypatch.setitem(sys.modules, "mujoco.mjx", None)
    monkeypatch.delattr(mujoco, "mjx")
    with pytest.raises(UserError, match=r"'mjx' needs .* pip install 'hinf-rl\[mjx\]'"):
        MjxPhysics(model)


@pytest.mark.skipif(importlib.util.find_spec("warp") is None, reason="needs warp-lang")
@pytest.mark.slow
def test_warp_takes_the_same_step(walkers):
    native, step, _ = walkers
    settings = MjxSettings(impl="warp", warp_contacts=16 * ROWS)
    warp = MjxPhysics(native.model, fields=native.fields, force_body="trunk", settings=settings)
    arguments = landed(walkers)
    assert_close(stepper(warp)(*arguments), step(*arguments), qpos=1e-5, qvel=2e-3)


@pytest.mark.parametrize("name, other", [("mjx", "mujoco.batch"), ("native", "mujoco.mjx")])
def test_each_physics_loads_silently_and_without_the_other(name, other):
    code = (
        "import sys\n"
        "from hinf_rl.envs.legged.config import VelocityConfig\n"
        "from hinf_rl.envs.legged.velocity import VelocityEnv\n"
        f"VelocityEnv(VelocityConfig(physics={name!r}))\n"
        f"assert {other!r} not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"impl": "cuda"}, "impl must be 'jax' or 'warp', got 'cuda'"),
        ({"integrator": "RK4"}, "integrator must be 'Euler' or 'implicitfast', got 'RK4'"),
        ({"iterations": 0}, "iterations must be at least 1, got 0"),
        ({"max_contact_points": 0}, "max_contact_points must be at least 1"),
        ({"impl": "warp", "max_geom_pairs": 4}, "max_geom_pairs is a setting of impl 'jax'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        MjxSettings(**settings)
