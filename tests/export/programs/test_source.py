"""What can be read, and what is said of the rest."""

import json
import sys
import zipfile

import keras
import numpy as np
import pytest
from keras import layers

from kerasdl import export
from kerasdl.export.programs.source import open_source


def saved(tmp_path, *stack, name="model.keras"):
    model = keras.Sequential([keras.Input((4,)), *stack, layers.Dense(2)])
    model.save(tmp_path / name)
    return tmp_path / name


def refused(source, **options):
    with pytest.raises(export.SourceError) as caught:
        open_source(source, **options)
    return str(caught.value)


def test_missing_file(tmp_path):
    assert refused(tmp_path / "none.keras").endswith(
        "none.keras does not exist. Give a .keras file, a .h5 file or a SavedModel folder."
    )


def test_what_is_accepted_elsewhere(tmp_path):
    (tmp_path / "model.txt").write_text("hello")
    for source in (tmp_path / "none", tmp_path / "model.txt", 3):
        assert "a picture." in refused(source, accepted="a picture")


def test_not_a_path():
    assert refused(3) == (
        "The model must be a keras.Model or a path to a .keras file, a .h5 file or a SavedModel "
        "folder. Received: 3."
    )


@pytest.mark.parametrize("name", ["model.txt", "model.onnx", "model"])
def test_other_files(name, tmp_path):
    (tmp_path / name).write_text("hello")
    assert "is not a model. Give" in refused(tmp_path / name)


def test_a_folder_that_is_no_saved_model(tmp_path):
    assert "is not a model. Give" in refused(tmp_path)


def test_a_keras_file_that_is_none(tmp_path):
    (tmp_path / "model.keras").write_text("hello")
    assert refused(tmp_path / "model.keras").endswith("model.keras is no .keras file.")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
def test_truncated_keras_file(share, tmp_path):
    path = saved(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "a truncated .keras file; copy or save it again" in refused(path)


def test_damaged_keras_file(tmp_path):
    path = saved(tmp_path)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(255 - b for b in content[middle : middle + 200])
    path.write_bytes(content)
    assert "is damaged (" in refused(path)


def test_an_archive_that_is_no_model(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("hello.txt", "hello")
    assert "cannot be read as a Keras model" in refused(tmp_path / "model.keras")


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_h5_file(share, tmp_path, recwarn):
    path = saved(tmp_path, name="model.h5")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "cannot be read as a Keras model" in refused(path)


def test_weights_without_a_model(tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    model.save_weights(tmp_path / "x.weights.h5")
    assert "holds weights without a model" in refused(tmp_path / "x.weights.h5")


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_python_code_is_not_run_unasked(name, tmp_path, recwarn):
    path = saved(tmp_path, layers.Lambda(lambda x: x + 1), name=name)
    assert "carries Python code (a Lambda layer), which is not run." in refused(path)
    assert "`--unsafe`" in refused(path)
    program = open_source(path, unsafe=True)
    x = np.zeros((1, 4), "float32")
    np.testing.assert_allclose(program.run([x]), [program.model(x)])


def configured(path, kind, **config):
    """Change the configuration of the layers of one class in a file."""
    with zipfile.ZipFile(path) as archive:
        files = {each: archive.read(each) for each in archive.namelist()}
    data = json.loads(files["config.json"])
    for layer in data["config"]["layers"]:
        if layer["class_name"] == kind:
            layer["config"] |= config
    files["config.json"] = json.dumps(data)
    with zipfile.ZipFile(path, "w") as archive:
        for each, content in files.items():
            archive.writestr(each, content)
    return path


@pytest.mark.parametrize("kind", [layers.StringLookup, layers.TextVectorization])
def test_vocabularies_elsewhere_are_not_read_unasked(kind, tmp_path):
    (tmp_path / "words.txt").write_text("a\nb\n")
    model = keras.Sequential([keras.Input((1,), dtype="string"), kind(vocabulary=["a", "b"])])
    model.save(tmp_path / "model.keras")
    configured(tmp_path / "model.keras", kind.__name__, vocabulary=str(tmp_path / "words.txt"))
    message = refused(tmp_path / "model.keras")
    assert "takes a vocabulary from a file outside of it, which is not read." in message
    assert "`--unsafe`" in message
    assert "Lambda" not in message


def test_saved_models_elsewhere_are_not_loaded_unasked(tmp_path):
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    inner.export(tmp_path / "saved", verbose=False)
    path = saved(tmp_path, layers.TFSMLayer(str(tmp_path / "saved"), call_endpoint="serve"))
    message = refused(path)
    assert "has a TFSMLayer, which loads a SavedModel from elsewhere; it is not loaded." in message
    assert "Lambda" not in message


def test_the_reason_is_told_without_the_configuration(tmp_path):
    """In which a layer may have any name."""
    path = configured(saved(tmp_path, layers.Dense(3, name="Unknown")), "Dense", units=-1)
    assert "cannot be read as a Keras model: Received an invalid value for `units`" in refused(path)
    path = configured(saved(tmp_path, layers.Dense(3)), "Dense", kernel_initializer="none such")
    assert "Could not interpret initializer identifier: none such" in refused(path)


CUSTOM = """
import keras

@keras.saving.register_keras_serializable(package="mine")
class Doubling(keras.layers.Layer):
    def call(self, x):
        return 2 * x
"""


def test_unknown_class_and_its_import(tmp_path, monkeypatch):
    (tmp_path / "my_layers.py").write_text(CUSTOM)
    monkeypatch.syspath_prepend(tmp_path)
    import my_layers

    path = saved(tmp_path, my_layers.Doubling())
    keras.saving.get_custom_objects().pop("mine>Doubling")
    message = refused(path)
    assert "uses `Doubling`, which Keras does not know" in message
    assert "`--import MODULE`" in message
    del sys.modules["my_layers"]
    assert open_source(path, imports=["my_layers"]).name == "sequential"


def test_unknown_import():
    with pytest.raises(export.OptionError, match="`no_such_module` cannot be imported"):
        open_source("model.keras", imports=["no_such_module"])


@pytest.mark.parametrize("odd", [None, 5, "numpy", b"numpy", {"numpy"}, [None], ["numpy", 3]])
def test_imports_that_are_no_list_of_names(odd):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    for source in ("model.keras", model):
        with pytest.raises(export.OptionError, match="`imports` must be a list of names of modu"):
            open_source(source, imports=odd)


def test_an_import_that_ends_the_process(tmp_path, monkeypatch):
    """With the exit code of a file that is verified."""
    (tmp_path / "my_script.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(export.OptionError, match="`my_script` cannot be imported: it ends the"):
        open_source("model.keras", imports=["my_script"])


def test_a_model_that_was_never_built():
    class Model(keras.Model):
        def call(self, x):
            return x

    assert "Call it once on a batch" in refused(Model())
    assert "Call it once on a batch" in refused(keras.Sequential([layers.Dense(3)]))


def test_saved_model_without_a_signature(tmp_path):
    import tensorflow as tf

    tf.saved_model.save(tf.Module(), str(tmp_path / "saved"))
    assert "has no signature `serving_default`; it has none" in refused(tmp_path / "saved")


def test_damaged_saved_model(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"hello")
    assert "is a damaged SavedModel" in refused(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(value):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="d")])
    model.layers[0].bias.assign([0.0, value, 0.0])
    assert refused(model) == (
        "Layer `d`: 1 of 3 values of `bias` are NaN or infinite. Train the model again, or "
        "restore weights from before it diverged."
    )


class Remembers(layers.Layer):
    """Counts its calls, and returns what the count makes of the input."""

    def __init__(self, told, **keywords):
        super().__init__(**keywords)
        self.told = told

    def build(self, shape):
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, name="count")

    def call(self, inputs):
        self.count.assign_add(1.0)
        return inputs * self.count if self.told else inputs * 2.0


def test_a_layer_that_remembers_the_call_before_is_refused(tmp_path):
    x = keras.Input((2,))
    model = keras.Model(x, layers.Dense(2)(Remembers(True, name="counter")(x)))
    with pytest.raises(export.ConversionError, match="`counter` .* assigns to `count`") as caught:
        export.to_onnx(model, tmp_path / "model.onnx")
    assert caught.value.layer == "counter"
    assert list(tmp_path.iterdir()) == []
    assert float(model.layers[1].count.value) == 0


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_what_is_assigned_and_not_read_does_not_matter(precision, tmp_path):
    x = keras.Input((2,))
    model = keras.Model(x, Remembers(False, dtype=precision)(x))
    assert export.to_onnx(model, tmp_path / "model.onnx").passed
    assert export.verify(model, tmp_path / "model.onnx").passed


def test_several_arguments(tmp_path):
    class Sum(keras.Model):
        def __init__(self):
            super().__init__(name="sum")
            self.dense = keras.layers.Dense(2)

        def build(self, x_shape, y_shape):
            self.dense.build(x_shape)

        def call(self, x, y):
            return self.dense(x) + y

    model = Sum()
    model(np.ones((1, 3)), np.ones((1, 2)))
    with pytest.raises(export.SourceError, match=r"arguments, x, y\. .*\[x, y\], model\(x, y\)"):
        export.to_onnx(model, tmp_path / "model.onnx")
    x, y = keras.Input((3,)), keras.Input((2,))
    assert export.to_onnx(keras.Model([x, y], model(x, y)), tmp_path / "model.onnx").passed
