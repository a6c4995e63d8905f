"""The device that computes, and the precision that it computes with."""

from hinf_rl.errors import UserError


def select_device(name: str | None) -> None:
    """Makes JAX compute on `name`; matrix products keep full float32 precision.

    Args:
      name: "cpu", "gpu", "tpu", or None for the best that JAX finds.

    Raises:
      UserError: there is no such device.
    """
    import jax

    if name == "cpu":
        jax.config.update("jax_platforms", "cpu")
    elif name is not None:
        try:
            device = jax.devices(name)[0]
        except RuntimeError:
            found = ", ".join(sorted({device.platform for device in jax.devices()}))
            raise UserError(
                f"--device {name}: JAX finds no {name} (found: {found}); install JAX for it or "
                "leave --device out"
            ) from None
        jax.config.update("jax_default_device", device)
    # The default on recent GPUs is TF32, whose ten-bit mantissa harms learning silently.
    if getattr(jax.config, "jax_default_matmul_precision", None) is None:
        jax.config.update("jax_default_matmul_precision", "highest")


__all__ = ["select_device"]
