import copy
import hashlib
import os
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from hinf_rl.envs.legged.mjcf import build_mjcf
from hinf_rl.envs.legged.robots import A1, LEGS
from hinf_rl.envs.physics.api import ModelField, PhysicsState
from hinf_rl.envs.physics.native import NativePhysics
from hinf_rl.errors import UserError
from hinf_rl.partition import ENVS, SEEDS, by_rows

SUBSTEPS = 3
# A turned box of 2 kg in the air whose centre of mass lies off the body's origin.
FREE = """
<mujoco><option timestep="0.004" integrator="implicitfast" gravity="0 0 -9.81"/><worldbody>
  <body name="box" pos="0 0 5" quat="0.8 0.6 0 0"><freejoint/>
    <inertial pos="0.1 -0.05 0.2" mass="2" diaginertia="0.5 0.5 0.5"/>
    <geom type="box" size="0.1 0.1 0.1"/></body>
</worldbody></mujoco>
"""
SLIDE = """
<mujoco><option timestep="0.01" gravity="0 0 0"/><worldbody>
  <body><joint name="x" type="slide" axis="1 0 0"/><geom type="sphere" size="0.1" mass="4"/></body>
</worldbody><actuator><motor joint="x"/></actuator></mujoco>
"""


def walker() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(build_mjcf(A1, timestep=0.01))


def walker_fields(model) -> tuple[ModelField, ...]:
    trunk = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, "trunk")
    feet = [mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_GEOM, f"{leg}_foot") for leg in LEGS]
    gains = model.actuator_gainprm.shape[1]
    biases = model.actuator_biasprm.shape[1]
    return (
        ModelField("body_mass", (trunk,)),
        ModelField("body_ipos", (3 * trunk + 1,)),
        ModelField("geom_friction", tuple(3 * foot for foot in feet)),
        ModelField("actuator_gainprm", tuple(gains * i for i in range(12))),
        ModelField("actuator_biasprm", tuple(biases * i + 1 for i in range(12))),
    )


def walker_inputs(physics: NativePhysics, count: int, seed: int = 0):
    """Crouching robots that fall on their feet and stumble, so that contacts are in play."""
    random = np.random.default_rng(seed)
    model = physics.model
    qpos = np.tile(model.qpos0, (count, 1))
    qpos[:, 2] = 0.3
    qpos[:, 7:] = A1.default_pose + 0.2 * random.normal(size=(count, 12))
    qvel = 0.5 * random.normal(size=(count, model.nv))
    ctrl = A1.default_pose + 0.3 * random.normal(size=(count, SUBSTEPS, model.nu))
    force = random.normal(size=(count, 6)) * [20.0, 20.0, 20.0, 1.0, 1.0, 1.0]
    nominal = physics.nominal_parameters()
    parameters = nominal * random.uniform(0.8, 1.3, size=(count, nominal.size))
    arrays = (qpos, qvel, np.zeros_like(qvel), np.zeros(count), ctrl, force, parameters)
    qpos, qvel, warmstart, nonfinite, *rest = (jnp.asarray(x, jnp.float32) for x in arrays)
    return PhysicsState(qpos, qvel, warmstart, nonfinite), *rest


def stepper(physics: NativePhysics):
    return jax.jit(jax.vmap(lambda *arguments: physics.step(*arguments, SUBSTEPS)))


def with_parameters(physics: NativePhysics, parameters) -> mujoco.MjModel:
    """A model of its own with one row's parameters, and what MuJoCo derives from them."""
    model = copy.copy(physics.model)
    values = iter(np.asarray(parameters, np.float64))
    for name, indices in physics.fields:
        for index in indices:
            getattr(model, name).reshape(-1)[index] = next(values)
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


def plain_step(model, state, ctrl, force, body):
    """The same step by MuJoCo's own loop: float64 inside, float32 at the borders."""
    data = mujoco.MjData(model)
    data.qpos, data.qvel, data.qacc_warmstart = state[:3]
    data.xfrc_applied[body] = force
    for substep in range(SUBSTEPS):
        data.ctrl = ctrl if ctrl.ndim == 1 else ctrl[substep]
        mujoco.mj_step(model, data)
    return [np.float32(x) for x in (data.qpos, data.qvel, data.qacc_warmstart)]


def assert_same_bits(first, second):
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


@pytest.fixture(scope="module")
def physics():
    model = walker()
    return NativePhysics(model, fields=walker_fields(model), force_body="trunk", num_threads=2)


@pytest.mark.parametrize("held", [True, False], ids=["held control", "control per substep"])
@pytest.mark.smoke
def test_equals_a_loop_of_mj_step_bit_for_bit(physics, held):
    state, ctrl, force, parameters = walker_inputs(physics, 3)
    ctrl = ctrl[:, 0] if held else ctrl
    step, touched = stepper(physics), 0
    for _ in range(12):
        stepped = step(state, ctrl, force, parameters)
        for row in range(3):
            model = with_parameters(physics, parameters[row])
            rows = [np.asarray(leaf[row]) for leaf in state]
            expected = plain_step(model, rows, np.asarray(ctrl[row]), np.asarray(force[row]), 1)
            for leaf, value in zip(stepped[:3], expected, strict=True):
                np.testing.assert_array_equal(leaf[row], value)
            data = mujoco.MjData(model)
            data.qpos = rows[0]
            mujoco.mj_forward(model, data)
            touched += data.ncon
        state = stepped
    assert touched > 10, "without contacts the comparison would prove little"


def test_scan_equals_a_python_loop(physics):
    state, ctrl, force, parameters = walker_inputs(physics, 2)
    step = stepper(physics)
    scanned, _ = jax.jit(
        lambda s: jax.lax.scan(lambda s, _: (step(s, ctrl, force, parameters), None), s, length=5)
    )(state)
    for _ in range(5):
        state = step(state, ctrl, force, parameters)
    assert_same_bits(scanned, state)


@pytest.mark.parametrize("field", range(5), ids=["mass", "centre", "friction", "gain", "bias"])
def test_a_row_obeys_its_own_parameters_and_no_other_row_notices(physics, field):
    state, ctrl, force, parameters = walker_inputs(physics, 4)
    step = stepper(physics)
    for _ in range(6):  # onto the ground, where friction acts
        state = step(state, ctrl, force, parameters)
    start = sum(len(f.indices) for f in physics.fields[:field])
    stop = start + len(physics.fields[field].indices)
    changed = parameters.at[2, start:stop].multiply(0.3)
    base, other = step(state, ctrl, force, parameters), step(state, ctrl, force, changed)
    for row in (0, 1, 3):
        assert_same_bits(*(jax.tree.map(lambda x, row=row: x[row], s) for s in (base, other)))
    assert not np.array_equal(base.qvel[2], other.qvel[2])


def test_results_do_not_depend_on_what_rows_held_before():
    def fresh():
        model = walker()
        return NativePhysics(model, fields=walker_fields(model), force_body="trunk")

    used, unused = fresh(), fresh()
    state, ctrl, force, parameters = walker_inputs(used, 4)
    step = stepper(used)
    nominal = jnp.tile(jnp.asarray(used.nominal_parameters())[None], (4, 1))
    step(state, ctrl, force, parameters)
    step(state, ctrl, force, parameters[::-1])
    step(state, ctrl, force, parameters.at[1].set(jnp.nan))
    for wanted in (nominal, parameters):
        assert_same_bits(
            step(state, ctrl, force, wanted), stepper(unused)(state, ctrl, force, wanted)
        )


def test_nominal_parameters_are_those_of_the_model(physics):
    # Rounded to float32: the one that `parameters` can hold.
    state, ctrl, force, _ = walker_inputs(physics, 1)
    nominal = physics.nominal_parameters()
    assert nominal[0] == np.float32(A1.trunk.mass) and nominal[2] == 1.0
    assert nominal[6] == A1.stiffness and nominal[-1] == -A1.stiffness
    stepped = stepper(physics)(state, ctrl, force, jnp.asarray(nominal)[None])
    data = [np.asarray(leaf[0]) for leaf in state]
    expected = plain_step(physics.model, data, np.asarray(ctrl[0]), np.asarray(force[0]), 1)
    for leaf, value in zip(stepped[:3], expected, strict=True):
        np.testing.assert_allclose(leaf[0], value, rtol=1e-3, atol=1e-4)


@pytest.mark.smoke
def test_nested_vmap_equals_one_flat_batch(physics):
    flat = walker_inputs(physics, 6)
    nested = jax.tree.map(lambda x: x.reshape(2, 3, *x.shape[1:]), flat)
    step = jax.vmap(jax.vmap(lambda *arguments: physics.step(*arguments, SUBSTEPS)))
    together = jax.jit(step)(*nested)
    assert together.qpos.shape == (2, 3, 19)
    assert_same_bits(
        jax.tree.map(lambda x: x.reshape(6, *x.shape[2:]), together), stepper(physics)(*flat)
    )


def test_what_is_shared_between_rows_need_not_be_batched(physics):
    state, ctrl, force, parameters = walker_inputs(physics, 3)
    same = jax.tree.map(lambda x: jnp.tile(x[:1], (3,) + (1,) * (x.ndim - 1)), (force, parameters))
    shared = jax.jit(jax.vmap(lambda s, c: physics.step(s, c, force[0], parameters[0], SUBSTEPS)))(
        state, ctrl
    )
    assert_same_bits(shared, stepper(physics)(state, ctrl, *same))


def test_the_way_of_accelerators_gives_the_same_bits(physics, monkeypatch):
    """Where arrays live on a device they are copied to the host; on a CPU they are shared."""
    nested = jax.tree.map(lambda x: x.reshape(2, 3, *x.shape[1:]), walker_inputs(physics, 6))
    step = jax.vmap(jax.vmap(lambda *arguments: physics.step(*arguments, SUBSTEPS)))
    shared = jax.jit(step)(*nested)

    def copies(*arguments, cpu, default):
        del cpu
        return default(*arguments)

    monkeypatch.setattr(jax.lax, "platform_dependent", copies)
    copied = jax.jit(lambda *arguments: step(*arguments))
    assert "pure_callback" in str(jax.make_jaxpr(copied)(*nested))
    assert_same_bits(copied(*nested), shared)


def test_one_instance_needs_no_vmap(physics):
    state, ctrl, force, parameters = jax.tree.map(lambda x: x[0], walker_inputs(physics, 1))
    alone = jax.jit(lambda *a: physics.step(*a, SUBSTEPS))(state, ctrl, force, parameters)
    batch = stepper(physics)(*walker_inputs(physics, 1))
    assert_same_bits(alone, jax.tree.map(lambda x: x[0], batch))


def test_number_of_threads_changes_nothing(physics):
    model = walker()
    single = NativePhysics(model, fields=walker_fields(model), force_body="trunk", num_threads=1)
    arguments = walker_inputs(physics, 17)
    assert_same_bits(stepper(single)(*arguments), stepper(physics)(*arguments))


def run_free(force, num_substeps=5):
    physics = NativePhysics(mujoco.MjModel.from_xml_string(FREE), force_body="box")
    state = physics.initial_state(
        jnp.asarray(physics.model.qpos0, jnp.float32), jnp.zeros(6, jnp.float32)
    )
    empty = jnp.zeros(0, jnp.float32)
    return physics.step(state, empty, jnp.asarray(force, jnp.float32), empty, num_substeps)


@pytest.mark.smoke
def test_force_is_held_over_all_substeps_in_the_world_frame_at_the_centre_of_mass():
    # 5 substeps of 4 ms: dv = (F / m + g) t = ((6, -4, 2) / 2 + (0, 0, -9.81)) 0.02, whatever the
    # attitude; the centre of mass moves straight, so the body does not turn.
    state = run_free([6.0, -4.0, 2.0, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(state.qvel[:3], [0.06, -0.04, -0.1762], atol=1e-6)
    np.testing.assert_allclose(state.qvel[3:], 0.0, atol=1e-6)


def test_torque_turns_about_the_world_axis():
    # A ball's inertia 0.5: d omega = torque t / I = (0, 0, 3) 0.02 / 0.5 = 0.12 about world z;
    # MuJoCo gives it in the body frame: z of the world is (0, 2 w x, w^2 - x^2) = (0, 0.96, 0.28).
    state = run_free([0.0, 0.0, 0.0, 0.0, 0.0, 3.0])
    np.testing.assert_allclose(state.qvel[3:], [0.0, 0.12 * 0.96, 0.12 * 0.28], atol=1e-4)


def test_each_substep_gets_its_own_control():
    # v = sum(force) dt / m = (1 + 2 + 6) 0.01 / 4; x = sum over substeps of v after each.
    physics = NativePhysics(mujoco.MjModel.from_xml_string(SLIDE))
    zero, none = jnp.zeros(1, jnp.float32), jnp.zeros(0, jnp.float32)
    state = physics.step(
        physics.initial_state(zero, zero),
        jnp.array([[1.0], [2.0], [6.0]], jnp.float32),
        jnp.zeros(6, jnp.float32),
        none,
        3,
    )
    np.testing.assert_allclose(state.qvel, [0.0225], atol=1e-7)
    np.testing.assert_allclose(state.qpos, [(1 + 3 + 9) * 0.01**2 / 4], atol=1e-8)


def test_only_a_diverging_row_is_flagged_and_each_time_anew(physics):
    state, ctrl, force, parameters = walker_inputs(physics, 4)
    step = stepper(physics)
    clean = step(state, ctrl, force, parameters)
    np.testing.assert_array_equal(clean.nonfinite, [0, 0, 0, 0])
    broken = state._replace(qvel=state.qvel.at[1, 0].set(jnp.nan))
    for bad in (broken, broken, state._replace(qpos=state.qpos.at[1, 2].set(jnp.inf))):
        stepped = step(bad, ctrl, force, parameters)
        np.testing.assert_array_equal(stepped.nonfinite, [0, 1, 0, 0])
        for leaf in jax.tree.leaves(stepped):
            assert np.isfinite(leaf).all()
        for row in (0, 2, 3):
            assert_same_bits(
                *(jax.tree.map(lambda x, row=row: x[row], s) for s in (stepped, clean))
            )
    assert_same_bits(step(state, ctrl, force, parameters), clean)


@pytest.mark.parametrize("what", ["control", "force", "parameters"])
def test_inputs_that_are_not_finite_are_flagged(physics, what):
    state, ctrl, force, parameters = walker_inputs(physics, 2)
    if what == "control":
        ctrl = ctrl.at[0, 1, 3].set(jnp.nan)
    elif what == "force":
        force = force.at[0, 0].set(jnp.nan)
    else:
        parameters = parameters.at[0, 0].set(jnp.nan)
    np.testing.assert_array_equal(
        stepper(physics)(state, ctrl, force, parameters).nonfinite, [1, 0]
    )


def test_divergence_prints_nothing_and_leaves_no_file(physics, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    before = mujoco.MjLogConfig.get()
    state, *rest = walker_inputs(physics, 2)
    stepped = stepper(physics)(state._replace(qvel=state.qvel * jnp.inf), *rest)
    np.testing.assert_array_equal(stepped.nonfinite, [1, 1])
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    after = mujoco.MjLogConfig.get()
    assert (after.logto_console, after.logto_file) == (before.logto_console, before.logto_file)


def digest(physics) -> str:
    state, *rest = walker_inputs(physics, 5)
    step = stepper(physics)
    for _ in range(6):
        state = step(state, *rest)
    return hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in state)).hexdigest()


def test_another_process_gives_the_same_bits(physics):
    code = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('native_tests', {__file__!r})\n"
        "tests = importlib.util.module_from_spec(spec)\n"
        "sys.modules['native_tests'] = tests\n"
        "spec.loader.exec_module(tests)\n"
        "model = tests.walker()\n"
        "fields = tests.walker_fields(model)\n"
        "physics = tests.NativePhysics(model, fields=fields, force_body='trunk')\n"
        "print(tests.digest(physics))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert result.stdout.split()[-1] == digest(physics)


def test_calls_from_two_threads_do_not_mix(physics):
    arguments = [walker_inputs(physics, 3, seed) for seed in range(2)]
    step = stepper(physics)
    expected = [step(*a) for a in arguments]
    failures = []

    def work(index):
        try:
            for _ in range(40):
                assert_same_bits(step(*arguments[index]), expected[index])
        except AssertionError as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_batches_of_many_sizes_do_not_pile_up():
    physics = NativePhysics(mujoco.MjModel.from_xml_string(SLIDE))
    none, force = jnp.zeros(0, jnp.float32), jnp.zeros(6, jnp.float32)

    def speed(count):
        zero = jnp.zeros((count, 1), jnp.float32)
        state = jax.vmap(physics.initial_state)(zero, zero)
        ctrl = jnp.arange(count, dtype=jnp.float32)[:, None]
        return jax.vmap(lambda s, c: physics.step(s, c, force, none, 1))(state, ctrl).qvel[:, 0]

    first = speed(1)
    for count in range(2, 14):
        # v = F dt / m = k 0.01 / 4.
        np.testing.assert_allclose(speed(count), np.arange(count) * 0.0025, rtol=1e-6)
    assert len(physics._batches) <= 8
    assert_same_bits(speed(1), first)


def test_what_does_not_exist_is_named():
    model = walker()
    with pytest.raises(UserError, match="no body named 'torso'"):
        NativePhysics(model, force_body="torso")
    with pytest.raises(UserError, match=r"'body_mas'.*did you mean 'body_mass'"):
        NativePhysics(model, fields=[ModelField("body_mas", (1,))])
    with pytest.raises(UserError, match="'nq'"):
        NativePhysics(model, fields=[ModelField("nq", (0,))])
    for indices in ((model.nbody,), (-1,), ()):
        with pytest.raises(UserError, match=r"body_mass.* must lie in"):
            NativePhysics(model, fields=[ModelField("body_mass", indices)])


def test_a_model_with_hidden_state_is_refused():
    xml = SLIDE.replace("<motor joint", '<general dyntype="integrator" joint')
    with pytest.raises(UserError, match="state beyond positions"):
        NativePhysics(mujoco.MjModel.from_xml_string(xml))


def test_wrong_shapes_are_refused(physics):
    state, ctrl, force, parameters = jax.tree.map(lambda x: x[0], walker_inputs(physics, 1))
    with pytest.raises(UserError, match="num_substeps must be at least 1, got 0"):
        physics.step(state, ctrl, force, parameters, 0)
    for wrong in (
        (ctrl[:2], force, parameters),
        (ctrl, force[:3], parameters),
        (ctrl, force, ctrl),
    ):
        with pytest.raises(AssertionError):
            physics.step(state, *wrong, SUBSTEPS)


def test_each_device_steps_its_own_rows(physics, monkeypatch):
    """Left to the partitioner, every device gathers all rows and steps them."""
    seen = []
    host_step = NativePhysics._host_step

    def spy(self, num_substeps, *arguments):
        seen.append(arguments[0].shape[:-1])
        return host_step(self, num_substeps, *arguments)

    monkeypatch.setattr(NativePhysics, "_host_step", spy)
    state, ctrl, force, parameters = walker_inputs(physics, 6)
    step = jax.vmap(lambda *arguments: physics.step(*arguments, SUBSTEPS))
    mesh = jax.sharding.Mesh(
        np.array(jax.devices()[:2]).reshape(1, 2),
        (SEEDS, ENVS),
        axis_types=(jax.sharding.AxisType.Auto,) * 2,
    )
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(ENVS))
    arguments = jax.device_put((state, ctrl, force, parameters), rows)
    with jax.set_mesh(mesh):
        left = jax.block_until_ready(jax.jit(lambda *a: step(*a))(*arguments))
        assert seen == [(6,), (6,)]
        seen.clear()
        split = jax.block_until_ready(jax.jit(lambda *a: by_rows(step)(*a))(*arguments))
        assert seen == [(3,), (3,)]
    assert split.qpos.sharding.is_equivalent_to(rows, 2)
    alone = stepper(physics)(state, ctrl, force, parameters)
    assert_same_bits(alone, jax.device_get(split))
    assert_same_bits(alone, jax.device_get(left))
