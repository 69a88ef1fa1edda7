"""Factors of the learning rate and of the decay, chosen by the paths of the variables.

A pattern names a run of the parts of a path: "dense_1" a layer wherever it stands,
"encoder/dense" a layer in a layer, "*/bias" or "bias" every bias; each part may hold the
wildcards of a shell (`*`, `?`, `[...]`). So what stands before, such as the name of the model,
which Keras puts in front of some paths and drops from others, does not matter.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from math import prod


def matches(pattern: str, path: str) -> bool:
    """Whether the pattern's parts are found in a row among the parts of the path.

    Example:

    >>> matches("dense*/kernel", "model/dense_1/kernel"), matches("dense", "dense_1/kernel")
    (True, False)
    """
    parts, wanted = path.split("/"), pattern.strip("/").split("/")
    return any(
        all(map(fnmatchcase, parts[start:], wanted))
        for start in range(len(parts) - len(wanted) + 1)
    )


def without_prefix(factors: Mapping[str, float], paths: Sequence[str]) -> dict[str, float]:
    """The patterns without the model's name, which is gone when the model is loaded.

    Args:
        factors: Factor of each pattern.
        paths: Paths of all variables.

    Returns:
        The same factors. Patterns that find something without the first part of all paths
        stay; of the others that part goes.

    Example:

    >>> without_prefix({"model/dense": 0.1}, ["model/dense/kernel", "model/dense_1/kernel"])
    {'dense': 0.1}
    """
    shared = len({path.split("/")[0] for path in paths}) == 1
    if not shared or not all(path.count("/") > 1 for path in paths):
        return dict(factors)
    without = [path.partition("/")[2] for path in paths]

    def shortened(pattern: str) -> str:
        by_name = any(matches(pattern, path) for path in paths)
        if not by_name or any(matches(pattern, path) for path in without):
            return pattern
        return pattern.strip("/").partition("/")[2] or "*"

    return {shortened(pattern): factor for pattern, factor in factors.items()}


def factors_of(
    argument: str, factors: Mapping[str, float] | None, paths: Sequence[str]
) -> list[float]:
    """The factor of each path: the product over the patterns that match it, else 1.

    Args:
        argument: Name of the argument, for the error text.
        factors: Factor of each pattern, or None.
        paths: Paths of all variables.

    Returns:
        One factor per path.

    Raises:
        ValueError: A pattern matches no path.

    Example:

    >>> factors_of("m", {"dense": 0.5, "bias": 3.0}, ["dense/kernel", "dense/bias"])
    [0.5, 1.5]
    """
    factors = factors or {}
    for pattern in factors:
        if not any(matches(pattern, path) for path in paths):
            known = ", ".join(f'"{path}"' for path in paths)
            raise ValueError(
                f"Each pattern of `{argument}` must match the path of a trainable variable, or "
                f"a run of its parts; there are {known}. Received: {argument} with "
                f'"{pattern}". Correct the pattern or drop it.'
            )
    return [
        prod(factor for pattern, factor in factors.items() if matches(pattern, path))
        for path in paths
    ]
