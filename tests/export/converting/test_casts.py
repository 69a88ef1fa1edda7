"""Two casts in a row: the first one goes from the file only where it keeps every number."""

import keras
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from keras import ops

from kerasdl import export

NUMBERS = {
    "float32": [0.0, 0.5, -0.5, 1 / 3, 3.7, -100.25, 2049.0, 1e-7],
    "int32": [0, 1, -1, 256, 2049, 2**24 + 1, 2**31 - 1],
    "int64": [0, 1, -1, 256, 2**24 + 1, 2**53 + 1, -(2**62) - 1],
    "uint8": [0, 1, 2, 127, 128, 255],
    "bool": [False, True],
}
ROUNDING = {
    "float32": ["float16", "int32", "int64", "bool"],
    "int32": ["float32", "float16", "int8", "uint8", "bool"],
    "int64": ["float32", "float64", "float16", "int32", "bool"],
    "uint8": ["int8", "bool"],
    "bool": [],
}
KEEPING = {
    "float32": ["float64"],
    "int32": ["int64", "float64"],
    "int64": [],
    "uint8": ["int32", "float16", "float32"],
    "bool": ["int8", "int32", "float32"],
}
LAST = ["float32", "int32", "int64", "bool"]


def chains(start, middles):
    """The casts from `start` to each of these and on to each of LAST."""
    x = keras.Input((1,), dtype=start)
    middles = {kind: ops.cast(x, kind) for kind in middles}
    pairs = [(kind, last) for kind in middles for last in LAST if kind != last]
    return pairs, keras.Model(x, [ops.cast(middles[kind], last) for kind, last in pairs])


def casts_in(path):
    return sum(node.op_type == "Cast" for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("start", [start for start, middles in ROUNDING.items() if middles])
def test_casts_that_round_stay(start, tmp_path):
    pairs, model = chains(start, ROUNDING[start])
    path = tmp_path / "model.onnx"
    export.to_onnx(model, path)
    x = np.array(NUMBERS[start], start).reshape(-1, 1)
    found = ort.InferenceSession(path).run(None, {model.inputs[0].name: x})
    for pair, a, b in zip(pairs, model(x), found, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=str(pair))


@pytest.mark.parametrize("start", [start for start, middles in KEEPING.items() if middles])
def test_casts_that_keep_every_number_go(start, tmp_path):
    x = np.array(NUMBERS[start], start).reshape(-1, 1)
    for middle in KEEPING[start]:
        for last in set(LAST) - {middle}:
            inputs = keras.Input((1,), dtype=start)
            model = keras.Model(inputs, ops.cast(ops.cast(inputs, middle), last))
            path = tmp_path / "model.onnx"
            export.to_onnx(model, path)
            assert casts_in(path) == (start != last), (middle, last)
            (found,) = ort.InferenceSession(path).run(None, {inputs.name: x})
            np.testing.assert_array_equal(model(x), found, err_msg=f"{middle}, {last}")
