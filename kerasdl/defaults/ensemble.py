"""Several trained models as one."""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import tree
from keras.src.models.functional import Functional  # Keras exports `Model`, not this class

from kerasdl._checks import require


def ensemble(models: Sequence[keras.Model], name: str | None = None) -> keras.Model:
    """Return one model whose outputs are the means of the outputs of trained models.

        y(x) = (1/k) Σᵢ yᵢ(x)

    For classifiers that is the mean of the probabilities, for regression that of the values.
    Models that were trained from different seeds err differently, and the mean errs less: on
    convex losses such as cross-entropy and squared error never more than the members do on
    average. Five members have most of the gain, at five times the cost.

    The members keep their weights in common with the ensemble, and stay as they are. The
    ensemble is not compiled. It is saved as one `.keras` file, and exported as one ONNX file.

    Args:
        models: Two or more built Functional or Sequential models, which may differ inside. All
            have inputs and outputs of the same structure, shapes and types. A model that is
            listed twice counts twice.
        name: Name of the ensemble. Default None.

    Returns:
        A functional model with the inputs of the first member, and its outputs' names.

    Raises:
        ValueError: The models do not go together, or some have layers in common, which Keras
            could not load again from one file.

    Example:

    >>> import numpy as np
    >>> from kerasdl.defaults.default_model import default_model
    >>> x, y = np.linspace(-1.0, 1.0, 64).reshape(64, 1), np.zeros(64)
    >>> members = []
    >>> for seed in (1, 2):
    ...     keras.utils.set_random_seed(seed)
    ...     member = default_model((1,), task="regression", units=(8,))
    ...     history = member.fit(x, y, verbose=0)
    ...     members.append(member)
    >>> model = ensemble(members)
    >>> mean = np.mean([member.predict(x, verbose=0) for member in members], axis=0)
    >>> bool(np.allclose(model.predict(x, verbose=0), mean, atol=1e-6))
    True

    References:
        N0 (recipe: squeeze out the juice), N4 (best practices); Hansen & Salamon, "Neural
        Network Ensembles", 1990; Lakshminarayanan et al., "Simple and Scalable Predictive
        Uncertainty Estimation using Deep Ensembles", 2017.
    """
    require(
        isinstance(models, (list, tuple)) and len(models) > 1 and all(map(_is_open, models)),
        "models",
        models,
        "a list of two or more built Functional or Sequential models",
        "Call a Sequential model once, or give it a `keras.Input`, before it gets here.",
    )
    ends = [_ends(model) for model in models]
    _require_same(models, ends)
    _require_apart(models)
    inputs = tree.map_structure(
        lambda end: keras.Input(end.shape[1:], dtype=end.dtype, name=end.name), ends[0][0]
    )
    taken = {end.name for end in tree.flatten(inputs)}
    names = list(_unique(keras.Model(*ends[0]).output_names, taken))
    outputs = [tree.flatten(outputs) for outputs in _called(models, ends, inputs, taken)]
    means = [
        _mean(parts, name) for parts, name in zip(zip(*outputs, strict=True), names, strict=True)
    ]
    return keras.Model(inputs, tree.pack_sequence_as(ends[0][1], means), name=name)


def _is_open(model: Any) -> bool:
    if isinstance(model, keras.Sequential):
        return model.built and type(model).call is keras.Sequential.call
    return isinstance(model, Functional) and type(model).call is Functional.call


def _ends(model: keras.Model) -> tuple[Any, Any]:
    if not isinstance(model, keras.Sequential):
        return model.input, model.output
    single = len(model.outputs) == 1
    return model.inputs[0], model.outputs[0] if single else model.outputs


def _called(
    models: Sequence[keras.Model], ends: Sequence[tuple[Any, Any]], inputs: Any, taken: set[str]
) -> list[Any]:
    """The outputs of every member; those of one that is listed twice are computed once.

    Each is called under a name of its own, by a model around the same layers.
    """
    called: dict[int, Any] = {}
    for model, (entry, output) in zip(models, ends, strict=True):
        if id(model) not in called:
            (name,) = _unique([model.name], taken)
            called[id(model)] = keras.Model(entry, output, name=name)(inputs)
    return [called[id(model)] for model in models]


def _mean(parts: Sequence[Any], name: str) -> Any:
    half = parts[0].dtype in {"float16", "bfloat16"}
    return keras.layers.Average(dtype="float32" if half else parts[0].dtype, name=name)(parts)


def _unique(names: Sequence[str], taken: set[str]) -> Iterator[str]:
    """The names, numbered where they are taken; they are taken from then on."""
    for name in names:
        found, number = name, 0
        while found in taken:
            number += 1
            found = f"{name}_{number}"
        taken.add(found)
        yield found


def _require_same(models: Sequence[keras.Model], ends: Sequence[tuple[Any, Any]]) -> None:
    first, *others = [_described(*end) for end in ends]
    floating = [dtype for end, (_, dtype) in first.items() if end.startswith("output")]
    require(
        all(map(keras.backend.is_float_dtype, floating)),
        "models",
        f"outputs of type {', '.join(floating)}",
        "models whose outputs are floating-point numbers",
        "Average what comes before the last step, and put that step behind the ensemble.",
    )
    for index, found in enumerate(others, 1):
        for end in sorted(first.keys() | found.keys()):
            ours, theirs = first.get(end, "none"), found.get(end, "none")
            require(
                ours == theirs,
                "models",
                f"{end} of models[{index}] (`{models[index].name}`): {_text(theirs)}, "
                f"of models[0] (`{models[0].name}`): {_text(ours)}",
                "models with the same inputs and outputs",
                "Leave out the one that differs, or build it with the same ends.",
            )


def _described(inputs: Any, outputs: Any) -> dict[str, tuple[Any, str]]:
    """Shape and type of every end, by its place in the structure.

    A Sequential model that had no `keras.Input` holds the batch size of its first call.
    """
    return {
        kind + "".join(f"[{key!r}]" for key in path): ((None, *end.shape[1:]), end.dtype)
        for kind, structure in (("input", inputs), ("output", outputs))
        for path, end in tree.flatten_with_path(structure)
    }


def _text(end: Any) -> str:
    return end if isinstance(end, str) else f"{end[0]} {end[1]}"


def _require_apart(models: Sequence[keras.Model]) -> None:
    owners: dict[int, int] = {}
    for index, model in enumerate(models):
        for variable in model.variables:
            owner = owners.setdefault(id(variable), index)
            require(
                models[owner] is model,
                "models",
                f"`{variable.path}` in models[{owner}] and models[{index}]",
                "models that have no layer in common",
                "Keras cannot load them from one file; put in "
                "copy = keras.models.clone_model(m); copy.set_weights(m.get_weights()).",
            )
