"""A trained policy in one file that needs NumPy and nothing else. Made by hinf-rl.

    from policy import Policy

    policy = Policy()
    policy.reset()                      # at the start of every episode
    output = policy.step(**inputs)      # once per control step, see Policy.inputs

`python policy.py` describes the policy and checks it on this machine. What the inputs mean
(units, frames, order of joints), gains, rates and limits are in `Policy.metadata`.
"""

import base64
import io
import json

import numpy as np

_METADATA = "{}"
_ARRAYS = ""


class Policy:
    """The policy with its memory: last action and, where it has one, observation history.

    Arrays may have leading axes, one row for each of several robots that step together.

    Attributes:
      metadata: everything that is known about the policy.
      action: [..., A] what the network last asked for, clipped; None before the first step.
      observation: [..., O] what it last saw, scaled, history included; None before.
    """

    def __init__(self) -> None:
        self.metadata = json.loads(_METADATA)
        data = io.BytesIO(base64.b64decode(_ARRAYS))
        with np.load(data, allow_pickle=False) as arrays:
            self._arrays = {name: arrays[name] for name in arrays.files}
        self._layout = self.metadata["observation"]
        self._parts = [
            (
                part["name"],
                part["is_input"],
                np.array(part["scale"], np.float32),
                np.array(part["offset"], np.float32),
            )
            for part in self._layout["parts"]
        ]
        self.reset()

    @property
    def inputs(self) -> dict:
        """Name to description of what `step` takes."""
        return {part["name"]: part for part in self._layout["parts"] if part["is_input"]}

    def reset(self) -> None:
        """Forgets the last action and the history."""
        self.action = None
        self.observation = None

    def step(self, **inputs: object) -> np.ndarray:
        """One control step.

        Args:
          **inputs: the parts of an observation in their units, [..., size] each.

        Returns:
          [..., A] joint targets in rad; for tasks without joints the action.

        Raises:
          ValueError: an input is missing, unknown, of another size or not finite; the memory is
            as it was.
        """
        newest = self._observe(inputs)
        if self.observation is None:
            seen = np.concatenate([newest] * self._layout["history"], axis=-1)
        else:
            seen = np.concatenate([newest, self.observation[..., : -newest.shape[-1]]], axis=-1)
        action = self._network(seen)
        limit = self.metadata["action_limit"]
        if limit is not None:
            action = np.clip(action, -limit, limit)
        self.action, self.observation = action, seen
        if "target_offset" not in self._arrays:
            return action.copy()
        return self._arrays["target_offset"] + self._arrays["target_scale"] * action

    def self_check(self) -> float:
        """Returns the largest difference to the outputs recorded when the policy was made."""
        kept = self.action, self.observation
        self.reset()
        worst = 0.0
        for t in range(len(self._arrays["example_output"])):
            inputs = {name: self._arrays[f"example_{name}"][t] for name in self.inputs}
            error = np.abs(self.step(**inputs) - self._arrays["example_output"][t])
            worst = max(worst, float(error.max()))
        self.action, self.observation = kept
        return worst

    def _observe(self, inputs: dict) -> np.ndarray:
        names = set(self.inputs)
        if set(inputs) != names:
            raise ValueError(f"inputs must be {sorted(names)}, got {sorted(inputs)}")
        values = []
        for name, is_input, scale, offset in self._parts:
            value = np.asarray(inputs[name], np.float32) if is_input else self._last(values, scale)
            if value.shape[-1:] != scale.shape:
                raise ValueError(f"{name} must end in {len(scale)} numbers, got {value.shape}")
            if not np.isfinite(value).all():
                raise ValueError(f"{name} is not finite: {value}")
            values.append(scale * (value - offset))
        observation = np.concatenate(values, axis=-1)
        limit = self._layout["limit"]
        return observation if limit is None else np.clip(observation, -limit, limit)

    def _last(self, values: list, scale: np.ndarray) -> np.ndarray:
        if self.action is not None:
            return self.action
        return np.zeros((*values[0].shape[:-1], len(scale)), np.float32)

    def _network(self, x: np.ndarray) -> np.ndarray:
        arrays, network = self._arrays, self.metadata["network"]
        if "mean" in arrays:
            clip = network["normalizer_clip"]
            x = np.clip((x - arrays["mean"]) / arrays["std"], -clip, clip)
        last = len(network["sizes"]) - 2
        for i in range(last + 1):
            x = x @ arrays[f"kernel_{i}"]
            if f"bias_{i}" in arrays:
                x = x + arrays[f"bias_{i}"]
            if i < last:
                x = _ACTIVATIONS[network["activation"]](x)
        return np.tanh(x) if network["output"] == "tanh" else x


def _elu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.exp(np.minimum(x, np.float32(0.0))) - np.float32(1.0))


def _relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, np.float32(0.0))


def _swish(x: np.ndarray) -> np.ndarray:
    # sigmoid(x) = (1 + tanh(x / 2)) / 2 overflows nowhere.
    half = np.float32(0.5)
    return x * (half + half * np.tanh(half * x))


_ACTIVATIONS = {"elu": _elu, "relu": _relu, "swish": _swish, "tanh": np.tanh}


def _main() -> None:
    policy = Policy()
    print(json.dumps(policy.metadata, indent=2))
    print(f"largest difference to the recorded outputs: {policy.self_check():.2g}")
