"""The float64 run of a TensorFlow graph."""

import numpy as np
import tensorflow as tf

from kerasdl.export.programs.saved_model import SavedModelProgram


class Module(tf.Module):
    def __init__(self, rng):
        self.w = tf.Variable(rng.normal(size=(4, 3)).astype("float32"))

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 4], tf.float32, name="x"),
            tf.TensorSpec([], tf.int32, name="n"),
        ]
    )
    def __call__(self, x, n):
        y = tf.cond(n > 1, lambda: tf.tanh(x @ self.w), lambda: tf.exp(x @ self.w))
        return {"y": y / 3.0, "count": n + 1}


def test_float64_run(tmp_path, rng):
    module = Module(rng)
    tf.saved_model.save(module, str(tmp_path), signatures=module.__call__)
    program = SavedModelProgram(tmp_path)
    x = rng.normal(size=(5, 4)).astype("float32")
    by_name = {"n": np.int32(3), "x": x}
    arrays = [by_name[port.name] for port in program.inputs]
    results = dict(
        zip([port.name for port in program.outputs], program.run_float64(arrays), strict=True)
    )
    truth = np.tanh(x.astype("float64") @ module.w.numpy().astype("float64")) / np.float32(3)
    assert results["y"].dtype == np.float64
    np.testing.assert_allclose(results["y"], truth, rtol=1e-14)
    assert results["count"] == 4
    index = [port.name for port in program.outputs].index("y")
    exact = program.run_float64(arrays)
    reach = np.max(next(program.reaches(arrays, exact, np.random.default_rng(0)))[index])
    assert 1e-9 < reach < 1e-6
