"""A SavedModel that writes files is not even loaded, unless the user says so."""

import keras
import pytest
import tensorflow as tf

from kerasdl import export

pytestmark = pytest.mark.tensorflow


def saved(folder, act):
    """A SavedModel that does something while it computes."""

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, "x")])
        def call(self, x):
            with tf.control_dependencies([act(x)]):
                return {"y": x * 2}

    module = Module()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.call})


def save_tensors(path):
    def act(x):
        return tf.raw_ops.SaveV2(
            prefix=str(path), tensor_names=["x"], shape_and_slices=[""], tensors=[x]
        )

    return act


ACTS = {
    "WriteFile": lambda path: lambda x: tf.io.write_file(str(path), "code"),
    "PrintV2": lambda path: lambda x: tf.print("code", output_stream=f"file://{path}"),
    "SaveV2": save_tensors,
    "EagerPyFunc": lambda path: lambda x: tf.py_function(path.touch, [], []),
}


@pytest.mark.parametrize("name", ACTS)
def test_it_is_refused(name, tmp_path):
    written = tmp_path / "written"
    saved(tmp_path / "evil", ACTS[name](written))
    for look in (export.inspect, lambda path: export.to_onnx(path, tmp_path / "model.onnx")):
        with pytest.raises(export.SourceError, match=f"operations {name}.*unsafe=True"):
            look(tmp_path / "evil")
    assert [file.name for file in tmp_path.iterdir()] == ["evil"]


def test_it_is_refused_while_it_is_loaded(tmp_path):
    class Resource(tf.saved_model.experimental.TrackableResource):
        def _create_resource(self):
            return tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[])

        def _initialize(self):
            tf.io.write_file(str(tmp_path / "written"), "code")

    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.resource = Resource()

        @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, "x")])
        def call(self, x):
            return {"y": x + tf.cast(tf.size(self.resource.resource_handle) * 0, tf.float32)}

    module = Module()
    tf.saved_model.save(module, str(tmp_path / "evil"), signatures={"serving_default": module.call})
    (tmp_path / "written").unlink(missing_ok=True)
    with pytest.raises(export.SourceError, match="operations WriteFile"):
        export.inspect(tmp_path / "evil")
    assert not (tmp_path / "written").exists()


def test_the_user_may_trust_it(tmp_path):
    saved(tmp_path / "own", ACTS["WriteFile"](tmp_path / "written"))
    assert export.inspect(tmp_path / "own", unsafe=True).kind == "SavedModel"


def test_models_that_only_compute(tmp_path):
    x = keras.Input((3,), dtype="string")
    lookup = keras.layers.StringLookup(vocabulary=["a", "b"], output_mode="multi_hot")
    model = keras.Model(x, keras.layers.Dense(2)(lookup(x)))
    model.export(tmp_path / "keras", verbose=False)
    tf.saved_model.save(model, str(tmp_path / "tensorflow"))
    for name in ("keras", "tensorflow"):
        assert export.inspect(tmp_path / name).kind == "SavedModel"
