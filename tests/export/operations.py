"""What a file computes of one operation, and the numbers that operations are tried on."""

import numpy as np
import onnx_ir as ir
import tensorflow as tf

from kerasdl.export.converting.convert import convert
from kerasdl.export.converting.weights import Weights
from kerasdl.export.files.runtime import open_session
from kerasdl.export.ports import Port

TINY = float(np.finfo(np.float32).smallest_subnormal)
NORMAL = float(np.finfo(np.float32).tiny)
HUGE = float(np.finfo(np.float32).max)
EDGES = [0.0, -0.0, TINY, -TINY, NORMAL, -NORMAL, 1e-20, -1e-20, 1e-7, -1e-7, 1e-4, -1e-4]
EDGES += [0.5, -0.5, 1.0, -1.0, 3.0, -3.0, 88.0, -88.0, 89.0, 110.0, -110.0, 1e10, -1e10]
EDGES += [HUGE, -HUGE, np.inf, -np.inf, np.nan]


def in_onnx(call, *arrays, opset=18, free=True):
    """What the file computes; with `free`, no extent is known to it but those of constants."""
    ports = [
        Port(f"x{i}", (None,) * x.ndim if free else (None, *x.shape[1:]), x.dtype.name)
        for i, x in enumerate(arrays)
    ]
    # Weights make it fast, even none.
    model = convert(
        lambda *tensors: tf.nest.flatten(call(*tensors)), ports, opset, weights=Weights([])
    )
    content = ir.to_proto(model).SerializeToString()
    results = []
    for optimized in (False, True):
        session = open_session(content, optimized)
        feeds = {f"input_{i}": x for i, x in enumerate(arrays)}
        results.append(
            session.run([f"output_{i}" for i in range(len(session.get_outputs()))], feeds)
        )
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6 * scale(other))
    return results[0]


def scale(array):
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    return float(np.max(np.abs(finite), initial=0))


def numbers(rng, dtype="float32"):
    with np.errstate(over="ignore"):
        spread = rng.normal(size=500) * 10.0 ** rng.uniform(-30, 3, 500)
    return np.concatenate([EDGES, rng.normal(size=500), 10 * rng.normal(size=500), spread]).astype(
        dtype
    )


def check(result, wanted, rtol, atol=0.0):
    wanted = np.asarray(wanted)
    assert result.dtype == wanted.dtype
    assert result.shape == wanted.shape
    np.testing.assert_allclose(result, wanted, rtol=rtol, atol=atol)


def spread(kernel, steps):
    """A kernel with zeros between its weights, which are so many steps apart then."""
    extents = [(k - 1) * step + 1 for k, step in zip(kernel.shape, steps, strict=False)]
    wide = np.zeros((*extents, *kernel.shape[len(steps) :]), kernel.dtype)
    wide[tuple(slice(None, None, step) for step in steps)] = kernel
    return wide
