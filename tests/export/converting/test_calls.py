"""Layers in their shorter forms: as few nodes as ONNX needs, and the same numbers."""

import doctest
import itertools

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers, ops

from kerasdl import export
from kerasdl.export.converting.handlers import einsum
from random_networks import randomize

pytestmark = pytest.mark.tensorflow


def nodes(model, path, **options):
    """Operators of the verified file."""
    randomize(model, 2)
    return dict(export.to_onnx(model, path, **options).nodes)


def stack(*parts, shape, dtype="float32"):
    return keras.Sequential([keras.Input(shape, dtype=dtype, name="x"), *parts])


CASES = {
    "Dense on sequences": (lambda: stack(layers.Dense(4), shape=(5, 3)), {"MatMul": 1, "Add": 1}),
    "Dense on images": (
        lambda: stack(layers.Dense(4, activation="relu"), shape=(4, 5, 3)),
        {"MatMul": 1, "Add": 1, "Relu": 1},
    ),
    "Dense on free axes": (
        lambda: stack(layers.Dense(4, use_bias=False), shape=(None, None, 3)),
        {"MatMul": 1},
    ),
    "Dense in float16": (
        lambda: stack(layers.Dense(4, dtype="float16"), layers.Identity(), shape=(5, 3)),
        {"Cast": 2, "MatMul": 1, "Add": 1},
    ),
    "EinsumDense": (
        lambda: stack(layers.EinsumDense("abc,cd->abd", (5, 4), bias_axes="d"), shape=(5, 3)),
        {"MatMul": 1, "Add": 1},
    ),
    "EinsumDense to two axes": (
        lambda: stack(layers.EinsumDense("abc,cde->abde", (None, 4, 2)), shape=(5, 3)),
        {"MatMul": 1, "Reshape": 1},
    ),
    "EinsumDense of two axes": (
        lambda: stack(layers.EinsumDense("abcd,cde->abe", (None, 2)), shape=(5, 3, 4)),
        {"Reshape": 1, "MatMul": 1},
    ),
    "EinsumDense with an ellipsis": (
        lambda: stack(layers.EinsumDense("...x,xy->...y", 4), shape=(None, 5, 3)),
        {"MatMul": 1},
    ),
    "EinsumDense that turns axes": (
        lambda: stack(layers.EinsumDense("abc,cd->adb", (4, 5)), shape=(5, 3)),
        {"MatMul": 1, "Transpose": 1},
    ),
    "MultiHeadAttention": (
        lambda: attention(),
        {"MatMul": 6, "Add": 4, "Reshape": 4, "Transpose": 4, "Mul": 1, "Softmax": 1},
    ),
    "Flatten": (lambda: stack(layers.Flatten(), shape=(4, 3, 2)), {"Flatten": 1}),
    "Flatten of free axes": (lambda: stack(layers.Flatten(), shape=(None, 2)), {"Flatten": 1}),
    "Flatten of nothing": (lambda: stack(layers.Flatten(), shape=()), {"Flatten": 1}),
    "Flatten with channels first": (
        lambda: stack(layers.Flatten(data_format="channels_first"), shape=(4, 3, 2)),
        {"Transpose": 1, "Flatten": 1},
    ),
    "Embedding": (
        lambda: stack(layers.Embedding(9, 4), shape=(5,), dtype="int32"),
        {"Gather": 1},
    ),
    "Embedding of 64 bits": (
        lambda: stack(layers.Embedding(9, 4), shape=(), dtype="int64"),
        {"Gather": 1},
    ),
    "GlobalAveragePooling2D": (
        lambda: stack(
            layers.Conv2D(2, 2), layers.GlobalAveragePooling2D(), layers.Dense(2), shape=(5, 4, 3)
        ),
        {"Transpose": 1, "Conv": 1, "GlobalAveragePool": 1, "Squeeze": 1, "MatMul": 1, "Add": 1},
    ),
    "GlobalAveragePooling3D": (
        lambda: stack(layers.GlobalAveragePooling3D(), shape=(3, None, 5, 2)),
        {"Transpose": 1, "GlobalAveragePool": 1, "Squeeze": 1},
    ),
    "GlobalAveragePooling2D with channels first": (
        lambda: stack(layers.GlobalAveragePooling2D("channels_first"), shape=(3, 4, 5)),
        {"GlobalAveragePool": 1, "Squeeze": 1},
    ),
    "LayerNormalization": (
        lambda: stack(layers.LayerNormalization(epsilon=0.01), shape=(5, 4)),
        {"LayerNormalization": 1},
    ),
    "LayerNormalization without weights": (
        lambda: stack(layers.LayerNormalization(center=False, scale=False), shape=(4,)),
        {"LayerNormalization": 1},
    ),
    "LayerNormalization of two axes": (
        lambda: stack(layers.LayerNormalization(axis=(2, 1)), shape=(5, 4)),
        {"LayerNormalization": 1},
    ),
    "UpSampling2D": (
        lambda: stack(
            layers.Conv2D(2, 1), layers.UpSampling2D((3, 2)), layers.Conv2D(2, 1), shape=(5, 4, 3)
        ),
        {"Transpose": 2, "Conv": 2, "Resize": 1},
    ),
    "UpSampling2D between the pixels of free axes": (
        lambda: stack(layers.UpSampling2D((4, 2), interpolation="bilinear"), shape=(None, None, 2)),
        {"Transpose": 2, "Resize": 1},
    ),
}


def attention():
    x = keras.Input((5, 6), name="x")
    return keras.Model(x, layers.MultiHeadAttention(2, 3)(x, x))


@pytest.mark.parametrize("name", CASES)
def test_as_few_nodes_as_can_be(name, tmp_path):
    build, expected = CASES[name]
    assert nodes(build(), tmp_path / "model.onnx") == expected


KEPT = {
    "LayerNormalization of a first axis": lambda: stack(
        layers.LayerNormalization(axis=1), shape=(5, 4)
    ),
    "RMS": lambda: stack(layers.RMSNormalization(), shape=(5, 4)),
    "by thirds": lambda: stack(layers.UpSampling2D(3, interpolation="bilinear"), shape=(4, 4, 2)),
    "by fours": lambda: stack(layers.UpSampling2D(4, interpolation="bilinear"), shape=(1, 5, 2)),
    "UpSampling2D of free axes": lambda: stack(layers.UpSampling2D(), shape=(None, None, 2)),
    "GlobalAveragePooling2D that keeps its axes": lambda: stack(
        layers.GlobalAveragePooling2D(keepdims=True), layers.Conv2D(2, 1), shape=(None, None, 2)
    ),
    "GlobalAveragePooling2D in float64": lambda: stack(
        layers.GlobalAveragePooling2D(dtype="float64"), shape=(4, 5, 2)
    ),
    "a causal mask": lambda: causal(),
    "lora": lambda: lora(),
    "a mask": lambda: stack(
        layers.Embedding(9, 4, mask_zero=True), layers.LSTM(3), shape=(5,), dtype="int32"
    ),
}


def causal():
    x = keras.Input((None, 6), name="x")
    return keras.Model(x, layers.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True))


def lora():
    model = stack(layers.Dense(4), shape=(5, 3))
    model.layers[0].enable_lora(2)
    return model


@pytest.mark.parametrize("name", KEPT)
def test_what_has_no_shorter_form_is_right_too(name, tmp_path):
    assert nodes(KEPT[name](), tmp_path / "model.onnx")


@pytest.mark.parametrize("opset", [13, 16, 17, 21])
def test_layer_normalization_is_an_operator_since_17(opset, tmp_path):
    model = stack(layers.Dense(4), layers.LayerNormalization(), layers.Dense(2), shape=(5, 4))
    found = nodes(model, tmp_path / "model.onnx", opset=opset)
    assert ("LayerNormalization" in found) == (opset >= 17)


def test_inside_a_subclassed_model(tmp_path):
    class Closed(keras.Model):
        def __init__(self):
            super().__init__()
            self.one, self.two = layers.Dense(8), layers.LayerNormalization()
            self.three = layers.Flatten()

        def call(self, x):
            return self.three(self.two(self.one(x)))

    model = Closed()
    model(np.zeros((2, 5, 3), "float32"))
    found = nodes(model, tmp_path / "model.onnx")
    assert found == {"MatMul": 1, "Add": 1, "LayerNormalization": 1, "Flatten": 1}


def test_a_subclass_keeps_its_call(tmp_path):
    class Doubled(layers.Dense):
        def call(self, x):
            return 2 * super().call(x)

    assert nodes(stack(Doubled(4), shape=(5, 3)), tmp_path / "model.onnx")["Mul"] == 1


def test_the_layers_are_as_before(tmp_path):
    model = stack(layers.Dense(4), layers.Flatten(), shape=(5, 3))
    nodes(model, tmp_path / "model.onnx")
    assert not any("call" in vars(layer) for layer in model.layers)

    class Broken(keras.Layer):
        def call(self, x):
            return ops.eig(x)[0]

    bad = stack(layers.Dense(3), Broken(), shape=(3, 3))
    with pytest.raises(export.ConversionError):
        export.to_onnx(bad, tmp_path / "bad.onnx")
    assert not any("call" in vars(layer) for layer in bad.layers)


@pytest.mark.parametrize("index", [0, 8, -1, -9])
def test_indices_from_both_ends(index, tmp_path):
    model = stack(layers.Embedding(9, 4), shape=(3,), dtype="int32")
    rows = {"x": np.full((2, 3), index, "int32")}
    assert export.to_onnx(model, tmp_path / "model.onnx", data=rows).passed


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "int8"])
def test_small_formats(precision, tmp_path):
    x = keras.Input((6, 16), name="x")
    y = x + layers.MultiHeadAttention(2, 8)(x, x)
    y = layers.Dense(16, activation="gelu")(layers.LayerNormalization()(y))
    model = keras.Model(x, layers.Dense(3)(layers.Flatten()(y)))
    assert nodes(model, tmp_path / "model.onnx", precision=precision)


def test_the_file_of_every_process_is_the_same(tmp_path):
    model = attention()
    nodes(model, tmp_path / "one.onnx")
    export.to_onnx(model, tmp_path / "two.onnx")
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


@st.composite
def equations(draw):
    """Two operands with all kinds of letters, and their extents."""
    letters = draw(st.permutations("abcd"))
    kinds = [draw(st.sampled_from(["both", "inner", "one", "other"])) for _ in letters]
    chosen = {
        part: [letter for letter, kind in zip(letters, kinds, strict=True) if kind in wanted]
        for part, wanted in (
            ("one", ("both", "inner", "one")),
            ("other", ("both", "inner", "other")),
            ("result", ("both", "one", "other")),
        )
    }
    one, other, result = (
        "".join(draw(st.permutations(chosen[part]))) for part in ("one", "other", "result")
    )
    extents = {letter: draw(st.integers(1, 3)) for letter in letters}
    return one, other, result, extents


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(drawn=equations(), free=st.booleans())
def test_random_einsums(drawn, free, tmp_path_factory):
    one, other, result, extents = drawn
    # The batch is the first letter of an operand of its own, z.
    shape = [extents[letter] for letter in one]
    free = free and bool(shape)
    first = keras.Input([None, *shape[1:]] if free else shape, name="first")
    kernel = np.random.default_rng(0).normal(size=[extents[letter] for letter in other])
    equation = f"z{one},{other}->z{result}"
    model = keras.Model(first, ops.einsum(equation, first, kernel.astype("float32")))
    rows = np.random.default_rng(1).normal(size=[3, *shape])
    path = tmp_path_factory.mktemp("einsum") / "model.onnx"
    try:
        export.to_onnx(model, path)
    except export.SourceError:  # random rows have another extent than the kernel wants
        assert free
        export.to_onnx(model, path, data={"first": rows.astype("float32")})
    if not free and result and set(one) & set(other) - set(result):
        assert "Einsum" not in {node.op_type for node in onnx.load(path).graph.node}


def test_random_products_of_two_inputs(tmp_path, rng):
    for equation in ("bij,bjk->bik", "bij,bkj->bki", "bthd,bshd->bhts", "bhts,bshd->bthd"):
        one, rest = equation.split(",")
        other = rest.partition("->")[0]
        extents = dict(zip("ijkthsd", (2, 3, 4, 5, 3, 5, 2), strict=True))
        x, y = (
            keras.Input([extents[letter] for letter in part[1:]], name=name)
            for name, part in (("x", one), ("y", other))
        )
        model = keras.Model([x, y], ops.einsum(equation, x, y))
        found = dict(export.to_onnx(model, tmp_path / "model.onnx").nodes)
        assert set(found) <= {"MatMul", "Transpose"}, equation


def test_which_einsum_is_a_product():
    assert einsum.product_of("abc", "cd", "abd").ends == "abd"
    assert einsum.product_of("abc", "cd", "adb").ends == "abd"
    assert einsum.product_of("aecd", "abcd", "acbe").batch == "ac"
    # A diagonal, a sum, an outer product, one without rows, two columns in a batch.
    for letters in (("aab", "bc", "ac"), ("abc", "cd", "ad"), ("a", "b", "ab"), ("b", "bc", "c")):
        assert einsum.product_of(*letters) is None
    assert einsum.product_of("abc", "acde", "abde") is None


def test_examples():
    assert doctest.testmod(einsum).failed == 0


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_center_crops_of_images_of_every_size(data_format, opset, tmp_path, rng):
    """Smaller ones are resized."""
    first = data_format == "channels_first"
    crop = keras.layers.CenterCrop(6, 5, data_format=data_format)
    model = keras.Sequential([keras.Input((3, None, None) if first else (None, None, 3)), crop])
    export.to_onnx(model, tmp_path / "model.onnx", opset=opset)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (name,) = (end.name for end in session.get_inputs())
    for height, width in itertools.product((1, 3, 6, 7, 20), (1, 4, 5, 11)):
        x = rng.uniform(size=(2, height, width, 3)).astype("float32")
        x = np.moveaxis(x, -1, 1).copy() if first else x
        (result,) = session.run(None, {name: x})
        np.testing.assert_allclose(result, model(x), rtol=0, atol=1e-6)


def test_layer_normalization_of_whole_numbers(tmp_path):
    """Which lookups give, whatever Keras says of their type."""
    x = keras.Input((1,), dtype="string", name="x")
    counts = layers.StringLookup(vocabulary=["a", "b"], output_mode="multi_hot")(x)
    model = keras.Model(x, layers.LayerNormalization()(counts))
    assert export.to_onnx(model, tmp_path / "model.onnx").passed


class Distributing(keras.Model):
    def __init__(self, inner):
        super().__init__()
        self.over_time = layers.TimeDistributed(inner)

    def call(self, x):
        return self.over_time(x)


EXTENTS = [(4, 5), (4, None), (None, 4), (None, None)]


@pytest.mark.parametrize(
    ("kind", "extents"),
    [
        *((layers.Dense, extents) for extents in EXTENTS),
        (layers.GRU, (4, None)),
        *(
            pytest.param(layers.GRU, extents, marks=pytest.mark.slow)
            for extents in EXTENTS
            if extents != (4, None)
        ),
    ],
)
def test_time_distributed_twice(kind, extents, tmp_path):
    """All steps at once, whichever of their numbers is free."""
    inner = kind(2)
    shape = (*extents, 3) if isinstance(inner, layers.Dense) else (*extents, 3, 3)
    twice = layers.TimeDistributed(layers.TimeDistributed(inner))
    model = keras.Sequential([keras.Input(shape), twice])
    randomize(model, 1)
    report = export.to_onnx(model, tmp_path / "model.onnx")
    assert report.passed
    assert "Loop" not in report.nodes
    if None not in extents and isinstance(inner, layers.Dense):
        assert report.nodes == {"Reshape": 2, "MatMul": 1, "Add": 1}


def test_time_distributed_inside_of_a_closed_model(tmp_path):
    x = keras.Input((None, 6, 3))
    model = keras.Model(x, Distributing(layers.Conv1D(2, 3))(x))
    randomize(model, 1)
    report = export.to_onnx(model, tmp_path / "model.onnx")
    assert (report.nodes["Conv"], report.nodes["Loop"]) == (1, 0)
