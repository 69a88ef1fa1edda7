"""Plain data and arrays come back as they were, types and bits included."""

import random

import ml_dtypes
import numpy as np
import pytest

from kerasdl.callbacks._checkpoint_file import CheckpointFolder, NotPlainError, encode, same

VALUES = [
    None,
    True,
    -3,
    2**80,
    0.1,
    float("inf"),
    "häß",
    [1, [2.0, None]],
    (1, (2,), []),
    {1, 2},
    frozenset({"a"}),
    {"a": 1, 2: (3,), (4, 5): {}},
    np.array([1.5, np.nan]),
    np.zeros((0, 3), "int8"),
    np.float32(0.1),
    np.array(7),
    np.array([1.5, -2.0], ml_dtypes.bfloat16),
    random.Random(3).getstate(),
    np.random.RandomState(3).get_state(legacy=False),
]


def assert_equal(a, b):
    assert type(a) is type(b)
    if isinstance(a, (np.ndarray, np.generic)):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes()
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for each, other in zip(a, b, strict=True):
            assert_equal(each, other)
    else:
        assert a == b


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_round_trip(value, tmp_path):
    folder = CheckpointFolder(tmp_path / "new", keep=1)
    folder.save(0, 0, value)
    assert_equal(folder.newest(), value)


@pytest.mark.parametrize("value", [print, object(), [lambda: 0], {"a": open}, np.array([None])])
def test_more_than_plain_data(value):
    with pytest.raises(NotPlainError):
        encode(value, [])


def test_same():
    assert same([1, np.arange(3)], [1, np.arange(3)])
    assert not same([1, np.arange(3)], [1, np.arange(1, 4)])
    assert not same(1, 1.0)
    assert not same(np.arange(3), np.arange(3.0))
    assert not same((1,), [1])


def test_order_is_that_of_the_training(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=9)
    for epoch, batch in ((0, 9), (0, 10), (9_999_999, 1), (10_000_000, 0), (2, 0)):
        folder.save(epoch, batch, (epoch, batch))
    assert folder.newest() == (10_000_000, 0)
    (tmp_path / "notes.txt").write_text("not a checkpoint")
    assert len(folder.paths()) == 5


def test_no_folder():
    assert CheckpointFolder("/nowhere/at/all", keep=1).newest() is None


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=1)
    (tmp_path / "epoch-000000-batch-00000000.checkpoint").mkdir()
    with pytest.raises(OSError, match="epoch-000000"):
        folder.newest()
