"""Einsums of any letters, such as attention over several axes has: they come to an end."""

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from keras import layers, ops
from operations import check, in_onnx

from kerasdl import export
from kerasdl.export.converting.handlers import einsum

pytestmark = pytest.mark.tensorflow

EXTENTS = dict(zip("abcdefgh", (2, 3, 1, 2, 4, 2, 3, 2), strict=True))
EQUATIONS = [
    "abefcd,abghcd->abefghcd",
    "abcdef,abghef->abefcdgh",
    "abc,abd->abcd",
    "abc,bc->ab",
    "abc,abc->a",
    "abc,abc->",
    "abcd,acef->bdaef",
    "abcd,efac->befd",
    "ab,a->ab",
    "ab,c->cab",
    "abe,bcg->ac",
    "abf,bh->ah",
    "abcd->db",
    "abc->ba",
    "abc->bca",
    "abb->ab",
    "aab,bc->ac",
    "...ab,...bc->...ac",
    "...ab,cb->...ac",
]


def operands(rng, equation, dtype="float32"):
    shapes = [
        [EXTENTS[letter] for letter in part.replace("...", "gh")]
        for part in equation.partition("->")[0].split(",")
    ]
    return [rng.integers(-5, 6, shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("equation", EQUATIONS)
def test_any_letters(equation, rng):
    arrays = operands(rng, equation)
    for free in (False, True):
        (found,) = in_onnx(lambda *x: tf.einsum(equation, *x), *arrays, free=free)
        wanted = np.einsum(equation, *arrays)
        check(found, wanted, 1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32", "int64"])
def test_types(dtype, rng):
    for equation in (EQUATIONS[1], EQUATIONS[4], "ab,a->ab"):
        arrays = operands(rng, equation, dtype)
        (found,) = in_onnx(lambda *x, e=equation: tf.einsum(e, *x), *arrays, free=False)
        check(found, np.einsum(equation, *arrays), 1e-3 if dtype == "float16" else 0)


def test_no_rows(rng):
    for equation in ("abcd,acef->bdaef", "abc,abd->abcd", "abc,abc->a"):
        arrays = [array[:0] for array in operands(rng, equation)]
        (found,) = in_onnx(lambda *x, e=equation: tf.einsum(e, *x), *arrays, free=False)
        check(found, np.einsum(equation, *arrays), 0)


def test_an_ellipsis_broadcasts(rng):
    x, y = rng.normal(size=(2, 1, 3, 4)), rng.normal(size=(1, 5, 4, 2))
    for one, other in ((x, y), (x, y[0]), (x[0], y), (x[0, 0], y)):
        (found,) = in_onnx(lambda x, y: tf.einsum("...ab,...bc->...ac", x, y), one, other)
        check(found, one @ other, 1e-12)
    assert einsum.spelled("...x,...xy->...y", (3, 3)) == ("YZx", "Zxy", "YZy")
    assert einsum.spelled("...x,xy->...y", (3,)) is None


def attention(shape, axes, **options):
    x, y = keras.Input(shape), keras.Input(shape)
    return keras.Model(
        [x, y], layers.MultiHeadAttention(2, 3, attention_axes=axes, **options)(x, y)
    )


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((2, 3, 5), (1, 2)),
        ((2, 3, 2, 5), (2, 3)),
        ((2, 3, 2, 5), (1, 3)),
        ((2, 3, 2, 5), (1, 2, 3)),
        ((None, 3, 5), (1, 2)),
        ((None, None, 2, 5), (2, 3)),
    ],
)
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_attention_over_several_axes(shape, axes, precision, tmp_path):
    path = tmp_path / "model.onnx"
    assert export.to_onnx(attention(shape, axes), path, precision=precision).passed
    assert "Einsum" not in {node.op_type for node in onnx.load(path).graph.node}


def test_attention_over_one_axis_is_as_short_as_before(tmp_path):
    for shape in ((6, 8), (None, 8), (4, 6, 8)):
        model = attention(shape, (len(shape) - 1,))
        report = export.to_onnx(model, tmp_path / "model.onnx")
        assert sum(dict(report.nodes).values()) == 16


def test_einsums_through_keras(tmp_path):
    x, y = keras.Input((2, 3, 2, 2, 5)), keras.Input((2, 3, 2, 2, 5))
    for equation in ("abefcd,abghcd->abefghcd", "abcdef,abghef->abefcdgh"):
        model = keras.Model([x, y], ops.einsum(equation, x, y))
        assert export.to_onnx(model, tmp_path / "model.onnx").passed
