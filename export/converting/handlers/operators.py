"""What stands for an operator of ONNX (`..operators`)."""

from __future__ import annotations

import json
from typing import Any

from ..operators import TOKEN
from .formula import HANDLERS, Formula


def _operator(graph: Any, node: Any, name: str, args: Any) -> None:
    """The operator; a function of Python's stays what it is, and is refused."""
    formula = Formula(graph, node)
    token = formula.attribute("token")
    if not token.startswith(TOKEN):
        return
    content = json.loads(token.removeprefix(TOKEN))
    given = iter(node.input)
    results = getattr(formula, content["operator"])(
        *(next(given) if there else "" for there in content["given"]),
        outputs=len(node.output),
        **content["attributes"],
    )
    formula.finish(results if isinstance(results, list) else [results])


HANDLERS["PyFuncStateless"] = (_operator, [])
