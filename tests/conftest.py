"""Settings that every test runs under: CPU, two fake devices, no silent promotion."""

import os
from importlib.metadata import version

# The backend reads these once, when JAX is first imported.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile thousands of programs that run for milliseconds: optimising them costs more.
_FLAGS = {
    "--xla_force_host_platform_device_count": "2",
    "--xla_backend_optimization_level": "0",
}
if version("jaxlib").startswith("0.10."):
    # The older emitters compile in a third of the time. Later versions have one kind only, and end
    # the process over a flag that they do not know.
    _FLAGS["--xla_cpu_use_fusion_emitters"] = "false"
_given = os.environ.get("XLA_FLAGS", "")
os.environ["XLA_FLAGS"] = " ".join(
    [_given, *(f"{flag}={value}" for flag, value in _FLAGS.items() if flag not in _given)]
).strip()

import hypothesis  # noqa: E402  (the environment comes first)
import jax  # noqa: E402
import pytest  # noqa: E402

# The first example of a property compiles, which no deadline would survive.
hypothesis.settings.register_profile("hinf_rl", deadline=None, max_examples=25)
hypothesis.settings.load_profile("hinf_rl")

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_collection_modifyitems(items):
    """Files with slow tests come first, so that no worker ends alone with one of them."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def key() -> jax.Array:
    """A fixed PRNG key."""
    return jax.random.key(0)
