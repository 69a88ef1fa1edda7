"""What exporting lets out: no warnings that are nobody's concern, modules when asked for."""

import logging
import random
import subprocess
import sys
import threading
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from kerasdl import export
from random_networks import randomize

pytestmark = pytest.mark.tensorflow

RETRACING = "5 out of the last 5 calls to f triggered tf.function retracing."


@pytest.fixture
def told():
    """What TensorFlow's logger tells."""
    logger, lines = tf.get_logger(), []

    class Collector(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())

    handler, level, filters = Collector(), logger.level, list(logger.filters)
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    yield lines
    assert logger.filters == filters
    logger.setLevel(level)
    logger.removeHandler(handler)


def outer_products():
    x = keras.Input((3,), name="x")
    rows = layers.Lambda(lambda x: ops.vectorized_map(lambda row: ops.outer(row, row), x))
    return keras.Model(x, rows(x))


def test_no_word_of_retracing(told, tmp_path):
    model = outer_products()
    report = export.to_onnx(model, tmp_path / "model.onnx")
    assert report.passed
    assert export.verify(model, tmp_path / "model.onnx").passed
    assert told == []


def test_other_warnings_are_told(told, tmp_path):
    logger = tf.get_logger()

    def progress(line):
        for warn in (logger.warning, tf.get_logger().warning):
            warn("something else")
        logger.warning(RETRACING)
        other = threading.Thread(target=lambda: logger.warning("from elsewhere: %s", RETRACING))
        other.start()
        other.join()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export.to_onnx(outer_products(), tmp_path / "model.onnx", progress=progress)
    logger.warning(RETRACING)
    assert told == ["something else"] * 2 + [f"from elsewhere: {RETRACING}", RETRACING]


def test_the_largest_number_warns_of_nothing(tmp_path):
    x = keras.Input((4,), name="x")
    largest = float(np.finfo(np.float32).max)
    y = layers.Dense(3, name="dense")(x)
    model = keras.Model(x, ops.minimum(ops.maximum(y, -largest), largest))
    randomize(model, 0)
    export.to_onnx(model, tmp_path / "model.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        report = export.verify(model, tmp_path / "model.onnx")
    assert report.passed
    assert report.constants.compared >= 4


def test_data_of_another_kind(tmp_path):
    path = tmp_path / "data.npz"
    model = outer_products()
    for content in (b"x,y\n1,2\n", b""):
        path.write_bytes(content)
        with pytest.raises(export.OptionError, match="is no readable .npz file: it is no") as error:
            export.to_onnx(model, tmp_path / "model.onnx", data=path)
        assert "pickle" not in str(error.value)
    with path.open("wb") as file:
        np.save(file, np.array([None]))
    with pytest.raises(export.OptionError, match="one array without a name"):
        export.to_onnx(model, tmp_path / "model.onnx", data=path)


def test_testing_is_there_when_asked_for():
    code = """
        import sys
        from kerasdl import export
        assert "kerasdl.export.testing" not in sys.modules
        assert export.testing.assert_parity.__module__ == "kerasdl.export.testing"
        assert "pytest" not in sys.modules
        try:
            export.tasting
        except AttributeError as error:
            print(error)
    """
    lines = [line.removeprefix(" " * 8) for line in code.splitlines()]
    run = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True
    )
    assert run.stdout == "module 'kerasdl.export' has no attribute 'tasting'\n"


def recurrent():
    return keras.Sequential([keras.Input((5, 3)), layers.LSTM(4), layers.Dense(1)])


def test_warnings_may_be_errors(tmp_path):
    """NumPy's of TensorFlow's variables, above all, which pytest's settings here let pass."""
    models = [recurrent(), keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dense(2)])]
    path = tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for model in models:
            assert export.to_onnx(model, path).passed
            assert export.verify(model, path, layers=True).passed
            assert export.to_onnx(model, path, precision="float16").passed
            export.inspect(model)
        export.fold(models[1])


def test_numpy_may_raise(tmp_path):
    with np.errstate(all="raise"):
        report = export.to_onnx(recurrent(), tmp_path / "model.onnx", precision="float16")
        assert np.geterr()["over"] == "raise"
    assert report.passed


def test_random_numbers_of_python_go_on(tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dropout(0.5)])
    model.save(tmp_path / "model.keras")
    state = random.getstate()
    export.to_onnx(tmp_path / "model.keras", tmp_path / "model.onnx")
    export.fold(model)
    assert random.getstate() == state
