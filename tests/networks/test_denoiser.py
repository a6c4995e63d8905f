"""Parts of the denoisers against flax's own."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from hinf_rl.networks.denoiser import Conv3x3


def test_the_convolution_and_its_gradients_are_flaxs_own(key):
    x = jax.random.normal(key, (3, 6, 4, 5), jnp.float32)
    ours, theirs = Conv3x3(7), nn.Conv(7, (3, 3))
    params = ours.init(jax.random.key(1), x)
    shapes = jax.eval_shape(theirs.init, key, x)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)
    params["params"]["bias"] = jnp.arange(7, dtype=jnp.float32)

    def loss(network, params, x):
        return jnp.sum(jnp.sin(network.apply(params, x)))

    np.testing.assert_allclose(ours.apply(params, x), theirs.apply(params, x), atol=1e-5)
    found, wanted = (
        jax.grad(lambda p, x, n=n: loss(n, p, x), (0, 1))(params, x) for n in (ours, theirs)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), found, wanted)
