"""Every format computes what a float64 reference computes, whatever the kind of policy."""

import dataclasses
import itertools
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest

from hinf_rl.agents.hinf.config import PlayerConfig
from hinf_rl.agents.hinf.players import GaussianPolicy, Player
from hinf_rl.errors import UserError
from hinf_rl.export.files import SUFFIXES, load_runner
from hinf_rl.export.jax_file import jax_bytes, load_policy, read_metadata
from hinf_rl.export.layout import PREVIOUS_ACTION, Layout, Part
from hinf_rl.export.metadata import FORMAT, VERSION, check_metadata
from hinf_rl.export.numpy_file import load_numpy, numpy_source
from hinf_rl.export.onnx_file import OnnxPolicy, build_onnx
from hinf_rl.export.recording import Recording, act, deviation
from hinf_rl.export.weights import weights_of
from hinf_rl.ops.normalize import NormalizerState, normalizer_init

ACTIVATIONS = {
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "relu": lambda x: np.maximum(x, 0),
    "swish": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
}


@dataclasses.dataclass(frozen=True)
class Sample:
    """One kind of policy: history, network, head, normaliser, joints or none."""

    hidden: tuple[int, ...] = (8, 6)
    activation: str = "elu"
    distribution: str = "normal"
    history: int = 1
    is_normalised: bool = True
    is_robot: bool = True

    @property
    def layout(self) -> Layout:
        def part(name, size, scale, offset):
            return Part(
                name=name, unit="rad", frame="", meaning=name, scale=scale, offset=(offset,) * size
            )

        speed, angle = part("speed", 2, (2.0, 0.5), 0.0), part("angle", 3, (1.0,) * 3, 0.3)
        last = part(PREVIOUS_ACTION, 3, (1.0,) * 3, 0.0)
        return Layout(
            parts=(speed, angle, last) if self.is_robot else (speed, angle),
            history=self.history,
            observation_limit=2.5 if self.is_robot else None,
            action_size=3,
            action_limit=1.5 if self.is_robot else None,
            target=((0.1, -0.2, 0.3), (0.5, 0.25, 0.5)) if self.is_robot else None,
        )

    @property
    def policy(self) -> GaussianPolicy:
        rng = np.random.default_rng(1)
        size = self.history * self.layout.size
        sizes = (size, *self.hidden, 3)

        def draw(*shape):
            return jnp.asarray(rng.normal(size=shape), jnp.float32)

        layers = {
            f"Dense_{i}": {"kernel": draw(a, b), "bias": draw(b)}
            for i, (a, b) in enumerate(itertools.pairwise(sizes))
        }
        if not self.hidden:
            layers = {"gain": {"kernel": draw(size, 3)}}
        moments = NormalizerState(jnp.float32(50.0), draw(size), 50.0 * draw(size) ** 2)
        config = PlayerConfig(
            hidden=self.hidden, activation=self.activation, distribution=self.distribution
        )
        return GaussianPolicy(
            params={"mean": {"params": layers}, "log_std": jnp.zeros(3, jnp.float32)},
            normalizer=moments if self.is_normalised else None,
            bound=None,
            player=Player(config, input_size=size, size=3),
            observation_key="policy",
        )

    def metadata(self, **changes) -> dict:
        layout = self.layout
        return {
            "format": FORMAT,
            "format_version": VERSION,
            "task": "sample",
            "algorithm": "none",
            "seed_index": 0,
            "iterations": 1,
            "control_dt_s": 0.02,
            "episode_length": 10,
            "environment": {},
            "observation": layout.to_json(),
            "action_size": 3,
            "action_limit": layout.action_limit,
            "network": weights_of(self.policy).network_json(),
            "actor": {
                "hidden": list(self.hidden),
                "activation": self.activation,
                "distribution": self.distribution,
            },
            "joint_names": ["a", "b", "c"],
            "checked": None,
            "survival": None,
            **changes,
        }

    def recording(self, steps=6, count=4) -> Recording:
        """Random inputs, and what the policy makes of them by the reference."""
        rng = np.random.default_rng(2)
        inputs = {
            "speed": rng.normal(size=(steps, count, 2)).astype(np.float32),
            "angle": rng.normal(size=(steps, count, 3)).astype(np.float32),
        }
        seen, action = None, np.zeros((count, 3))
        observations, actions, outputs = [], [], []
        for t in range(steps):
            newest = np.concatenate(
                [inputs["speed"][t] * [2.0, 0.5], inputs["angle"][t] - 0.3], axis=1
            )
            if self.is_robot:
                newest = np.clip(np.concatenate([newest, action], axis=1), -2.5, 2.5)
            older = [newest] * (self.history - 1) if t == 0 else [seen[:, : -newest.shape[1]]]
            seen = np.concatenate([newest, *older], axis=1)
            action = self._forward(seen)
            output = action
            if self.is_robot:
                action = np.clip(action, -1.5, 1.5)
                output = [0.1, -0.2, 0.3] + action * [0.5, 0.25, 0.5]
            observations.append(seen)
            actions.append(action)
            outputs.append(output)
        stacked = (np.float32(np.stack(found)) for found in (observations, actions, outputs))
        return Recording(
            inputs, *stacked, pushes=np.zeros((steps, count, 0), np.float32), start=None
        )

    def _forward(self, x):
        policy = self.policy
        if self.is_normalised:
            state = policy.normalizer
            std = np.sqrt(np.maximum(np.float64(state.m2) / 50.0, 1e-4))
            x = np.clip((x - np.float64(state.mean)) / std, -10.0, 10.0)
        layers = policy.params["mean"]["params"]
        if not self.hidden:
            return x @ np.float64(layers["gain"]["kernel"])
        for i in range(len(layers)):
            layer = layers[f"Dense_{i}"]
            x = x @ np.float64(layer["kernel"]) + np.float64(layer["bias"])
            if i < len(layers) - 1:
                x = ACTIVATIONS[self.activation](x)
        return np.tanh(x) if self.distribution == "tanh_normal" else x


SAMPLES = (
    Sample(),
    Sample(activation="relu", history=3),
    Sample(activation="swish", is_normalised=False, history=2, is_robot=False),
    Sample(activation="tanh", distribution="tanh_normal", hidden=(5,)),
    Sample(hidden=(), is_normalised=False, is_robot=False),
    Sample(hidden=(), history=2),
)


def runner_of(kind, sample, recording, tmp_path):
    weights = weights_of(sample.policy)
    if kind == "onnx":
        model = build_onnx(weights, sample.layout, sample.metadata())
        return OnnxPolicy(model.SerializeToString())
    path = tmp_path / "policy.py"
    path.write_text(numpy_source(weights, sample.layout, sample.metadata(), recording))
    return load_numpy(path)


@pytest.mark.parametrize("sample", SAMPLES, ids=repr)
@pytest.mark.parametrize("kind", ["onnx", "numpy"])
@pytest.mark.smoke
def test_an_exported_policy_computes_the_reference(kind, sample, tmp_path):
    recording = sample.recording()
    runner = runner_of(kind, sample, recording, tmp_path)
    assert max(deviation(runner, recording)) < 2e-5
    check_metadata(runner.metadata, kind)
    assert runner.metadata == sample.metadata()


@pytest.mark.parametrize("sample", SAMPLES, ids=repr)
def test_jax_computes_the_reference_and_loads_bit_for_bit(sample, tmp_path):
    recording, policy = sample.recording(), sample.policy
    path = tmp_path / "policy.npz"
    path.write_bytes(jax_bytes(policy, sample.metadata()))
    loaded = load_policy(path)
    seen = {"policy": jnp.asarray(recording.observations)}
    action, output = act(loaded, sample.layout, seen)
    np.testing.assert_allclose(action, recording.actions, atol=2e-5)
    np.testing.assert_allclose(output, recording.outputs, atol=2e-5)
    np.testing.assert_array_equal(loaded(seen), policy(seen))
    key = jax.random.key(3)
    np.testing.assert_array_equal(loaded(seen, key), policy(seen, key))
    assert read_metadata(path) == sample.metadata()


def test_a_loaded_policy_is_a_pytree(tmp_path):
    sample = Sample()
    path = tmp_path / "policy.npz"
    path.write_bytes(jax_bytes(sample.policy, sample.metadata()))
    doubled = jax.tree.map(lambda leaf: 2.0 * leaf, load_policy(path))
    np.testing.assert_allclose(doubled.normalizer.count, 100.0)
    seen = {"policy": jnp.zeros((2, sample.layout.size), jnp.float32)}
    assert jax.jit(lambda policy, x: policy(x))(load_policy(path), seen).shape == (2, 3)


@pytest.mark.parametrize("kind", ["onnx", "numpy"])
def test_a_comparison_notices_a_wrong_number(kind, tmp_path):
    sample = Sample(history=2)
    recording = sample.recording()
    runner = runner_of(kind, sample, recording, tmp_path)
    later = recording.inputs["angle"].copy()
    later[-1, 0, 0] += 0.01
    wrong = recording._replace(inputs={**recording.inputs, "angle": later})
    assert max(deviation(runner, wrong)) > 1e-3
    outputs = np.full_like(recording.outputs, np.nan)
    assert deviation(runner, recording._replace(outputs=outputs)).output == np.inf


def test_a_file_runs_where_there_is_numpy_alone(tmp_path):
    sample = Sample(history=3)
    recording = sample.recording()
    runner_of("numpy", sample, recording, tmp_path)
    # A folder with NumPy and nothing beside it: no site-packages, no JAX within reach.
    alone = tmp_path / "alone"
    alone.mkdir()
    site = Path(np.__file__).parent.parent
    for name in ("numpy", "numpy.libs"):
        if (site / name).exists():
            (alone / name).symlink_to(site / name)
    speed, angle = (recording.inputs[name][0, 0].tolist() for name in ("speed", "angle"))
    program = f"""
import sys
sys.path.insert(0, {str(alone)!r})
sys.path.insert(0, {str(tmp_path)!r})
from policy import Policy
policy = Policy()
print(list(map(float, policy.step(speed={speed}, angle={angle}))))
print(policy.self_check())
loaded = {{name.partition(".")[0] for name in sys.modules}}
print(sorted(loaded & {{"jax", "jaxlib", "hinf_rl", "flax", "onnx", "scipy", "mujoco"}}))
try:
    import jax
except ImportError:
    print("no jax")
"""
    done = subprocess.run(
        [sys.executable, "-S", "-I", "-c", program], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    output, check, loaded, jax_line = done.stdout.splitlines()
    np.testing.assert_allclose(json.loads(output), recording.outputs[0, 0], atol=2e-5)
    assert float(check) < 2e-5
    assert (loaded, jax_line) == ("[]", "no jax")


def test_a_file_describes_itself(tmp_path):
    sample = Sample()
    runner_of("numpy", sample, sample.recording(), tmp_path)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "policy.py")], capture_output=True, text=True, check=True
    )
    assert '"task": "sample"' in done.stdout
    assert "largest difference to the recorded outputs" in done.stdout


def test_a_start_of_an_episode_reads_no_memory():
    sample = Sample(history=3)
    recording = sample.recording()
    model = build_onnx(weights_of(sample.policy), sample.layout, sample.metadata())
    session = onnxruntime.InferenceSession(model.SerializeToString())
    feed = {name: value[0] for name, value in recording.inputs.items()}
    rubbish = {
        "is_first": np.ones((4, 1), bool),
        PREVIOUS_ACTION: np.full((4, 3), np.nan, np.float32),
        "history": np.full((4, 16), np.nan, np.float32),
    }
    (action,) = session.run(["action"], {**feed, **rubbish})
    np.testing.assert_allclose(action, recording.actions[0], atol=2e-5)


def test_metadata_are_texts_of_the_model():
    sample = Sample()
    model = build_onnx(weights_of(sample.policy), sample.layout, sample.metadata())
    props = {entry.key: entry.value for entry in model.metadata_props}
    assert props["task"] == "sample"
    assert json.loads(props["joint_names"]) == ["a", "b", "c"]
    parts = json.loads(props["observation"])["parts"]
    assert [part["slice"] for part in parts] == [[0, 2], [2, 5], [5, 8]]
    operators = {node.op_type for node in model.graph.node}
    plain = {"Add", "Clip", "Concat", "Div", "Elu", "Identity", "MatMul", "Mul", "Sub", "Where"}
    assert operators <= plain


def test_inputs_that_are_wrong_change_no_memory(tmp_path):
    sample = Sample(history=2)
    recording = sample.recording()
    policy = runner_of("numpy", sample, recording, tmp_path)
    first, second = ({name: value[t] for name, value in recording.inputs.items()} for t in (0, 1))
    policy.step(**first)
    for wrong, said in (
        ({"speed": second["speed"]}, "inputs must be"),
        ({**second, "wind": 1.0}, "inputs must be"),
        ({**second, "angle": second["angle"][:, :2]}, "angle must end in 3 numbers"),
        ({**second, "angle": np.nan * second["angle"]}, "angle is not finite"),
    ):
        with pytest.raises(ValueError, match=said):
            policy.step(**wrong)
    np.testing.assert_allclose(policy.step(**second), recording.outputs[1], atol=2e-5)
    policy.reset()
    np.testing.assert_allclose(policy.step(**first), recording.outputs[0], atol=2e-5)


def test_only_actors_with_finite_numbers_are_exported():
    policy = Sample().policy
    with pytest.raises(UserError, match="cannot be exported"):
        weights_of(lambda observation: observation)
    with pytest.raises(UserError, match="cannot be exported"):
        weights_of(policy.replace(observation_key="privileged"))
    broken = jax.tree.map(lambda leaf: leaf * jnp.nan, policy.params)
    with pytest.raises(UserError, match="kernel_0 of the policy is not finite"):
        weights_of(policy.replace(params=broken))


def test_a_normaliser_that_saw_nothing_is_left_out():
    policy = Sample().policy
    weights = weights_of(policy.replace(normalizer=normalizer_init(8)))
    assert weights.mean is None
    assert weights.network_json()["normalizer_clip"] is None


@pytest.mark.parametrize("kind", ["onnx", "numpy", "jax"])
def test_damaged_and_foreign_files_are_refused(kind, tmp_path):
    sample = Sample()
    weights, recording = weights_of(sample.policy), sample.recording()
    content = {
        "onnx": build_onnx(weights, sample.layout, sample.metadata()).SerializeToString(),
        "numpy": numpy_source(weights, sample.layout, sample.metadata(), recording).encode(),
        "jax": jax_bytes(sample.policy, sample.metadata()),
    }[kind]
    path = tmp_path / f"policy{SUFFIXES[kind]}"
    load = load_policy if kind == "jax" else load_runner
    with pytest.raises(UserError, match="does not exist"):
        load(path)
    for part in (content[:-100], content[: len(content) // 2], content[:30], b"", b"thesis"):
        path.write_bytes(part)
        with pytest.raises(UserError, match=r"damaged|not a policy|not one that"):
            load(path)
    path.write_bytes(content)
    load(path)


def test_a_newer_or_incomplete_format_is_named():
    metadata = Sample().metadata()
    check_metadata(metadata, "policy")
    with pytest.raises(UserError, match="format version 2, this version reads 1"):
        check_metadata({**metadata, "format_version": 2}, "policy")
    with pytest.raises(UserError, match="network missing"):
        check_metadata({k: v for k, v in metadata.items() if k != "network"}, "policy")


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_extra_is_named(package, monkeypatch, tmp_path):
    sample = Sample()
    model = build_onnx(weights_of(sample.policy), sample.layout, sample.metadata())
    path = tmp_path / "policy.onnx"
    path.write_bytes(model.SerializeToString())
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"package {package}: pip install 'hinf-rl\[export\]'"):
        if package == "onnx":
            build_onnx(weights_of(sample.policy), sample.layout, sample.metadata())
        else:
            load_runner(path)
