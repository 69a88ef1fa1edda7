"""Gaussian noise that depends on nothing but a seed, the update and the variable."""

from typing import Any

import keras
from keras import ops


def standard_normal(shape: Any, dtype: str, seed: int, t: Any, index: int) -> Any:
    """Draws from N(0, 1), the same ones whenever (seed, t, index) are the same.

    Keras' own random functions keep their place in a variable, which a file forgets; these
    keep none, so a training goes on with the noise that it would have had.

    Args:
        shape: Shape of the draws.
        dtype: Their dtype.
        seed: Integer in [0, 2³¹).
        t: Number of the update, a scalar.
        index: Number of the variable.

    Returns:
        Tensor.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        keys = tf.stack([tf.constant(seed + (index << 32), tf.int64), tf.cast(t, tf.int64)])
        return tf.random.stateless_normal(shape, keys, dtype=dtype)
    if backend == "jax":
        import jax

        key = jax.random.fold_in(jax.random.key(seed), index)
        return jax.random.normal(jax.random.fold_in(key, t.astype("int32")), shape, dtype)
    return _by_torch(tuple(shape), dtype, seed, int(t), index)


def _by_torch(shape: tuple[int, ...], dtype: str, seed: int, t: int, index: int) -> Any:
    import numpy as np
    import torch

    (mixed,) = np.random.SeedSequence([seed, t, index]).generate_state(1, "uint64")
    device = ops.zeros(()).device
    generator = torch.Generator(device).manual_seed(int(mixed >> np.uint64(1)))
    draws = torch.randn(shape, generator=generator, device=device, dtype=torch.float64)
    return ops.cast(draws, dtype)
