"""Every optimizer, with every option of its own, against its formula: 100 steps, 20 seeds."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops

import kerasdl.optimizers
from references import CASES, TOLERANCES, check, train

# What they return is not all that they keep, so their files have references of their own.
ELSEWHERE = {"ASGD", "SparseAdam", "Lookahead", "Clipped"}
PAIRS = [
    pytest.param(name, reference, options, id=f"{name}-{options}")
    for name, reference, table in CASES
    for options in table
]


@pytest.mark.usefixtures("has_float64")
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(("name", "reference", "options"), PAIRS)
def test_formula(name, reference, options, dtype):
    check(name, reference, options, dtype)


@pytest.mark.parametrize(("name", "reference", "options"), PAIRS)
def test_short_floats_keep_their_dtype_and_have_float32_slots(name, reference, options):
    optimizer = getattr(kerasdl.optimizers, name)(0.125, **options)
    θ = train(optimizer, np.ones(3), np.ones((5, 3)), "bfloat16")
    assert keras.backend.standardize_dtype(θ.dtype) == "bfloat16"
    assert {v.dtype for v in optimizer.variables[2:] if "float" in v.dtype} <= {"float32"}
    result = ops.convert_to_numpy(ops.cast(θ, "float32"))
    expected = reference(np.ones(3), np.ones((5, 3)), 0.125, **options)
    np.testing.assert_allclose(result, expected, rtol=0.02, atol=0.002)


def test_every_optimizer_and_option_has_a_case():
    cases = {name: (reference, table) for name, reference, table in CASES}
    assert {*cases, *ELSEWHERE, "Optimizer"} == set(kerasdl.optimizers.__all__)
    for name, (reference, table) in cases.items():
        arguments = inspect.signature(getattr(kerasdl.optimizers, name)).parameters
        used = {option for options in table for option in options}
        assert {*arguments} - {"learning_rate", "kwargs"} <= used
        assert "weight_decay" in used or name == "AdagradDA"
        for option, parameter in inspect.signature(reference).parameters.items():
            if option in arguments:
                assert parameter.default == arguments[option].default
