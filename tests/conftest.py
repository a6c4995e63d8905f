"""Settings that every test runs under: CPU, two fake devices, no silent promotion."""

import os

# The backend reads these once, when JAX is first imported.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
_DEVICE_FLAG = "--xla_force_host_platform_device_count"
if _DEVICE_FLAG not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_DEVICE_FLAG}=2".strip()

import hypothesis  # noqa: E402  (the environment comes first)
import jax  # noqa: E402
import pytest  # noqa: E402

# The first example of a property compiles, which no deadline would survive.
hypothesis.settings.register_profile("hinf_rl", deadline=None, max_examples=25)
hypothesis.settings.load_profile("hinf_rl")

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def key() -> jax.Array:
    """A fixed PRNG key."""
    return jax.random.key(0)
