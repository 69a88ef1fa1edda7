"""A mutation run over the update rules: does the formula test notice when a rule is wrong?

A *mutant* is an optimizer's file with one thing changed in its pure functions, in `rule` or in
`slot_start`: a sign, a decay, an ε, a bias correction, a number of steps. Its code takes the
place of the original's, the formula check of `tests/kerasdl/optimizers/references.py` runs over
the cases of that optimizer, and the mutant is *killed* if one of them fails or raises.

    python tools/mutation.py [optimizer ...]

Exit code 1 if fewer than 95 % are killed, or if there are fewer than 150.
"""

import ast
import importlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from types import CodeType, ModuleType

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
sys.path.append(str(Path(__file__).parents[1] / "tests" / "kerasdl" / "optimizers"))

import numpy as np
from rich.console import Console
from rich.table import Table

import kerasdl.optimizers
from references import CASES, check

STEPS = 12
LEAST_MUTANTS, LEAST_SHARE = 150, 0.95

# Mutants that are the same algorithm, by function and changed line, with the reason.
ONE_SLOT = "the rule has one slot, which is the first and the last"
INSIDE = "self.epsilon_position == 'inside'"
EQUIVALENT = {
    ("SGD.rule", "θ, v = step(g, θ, slots[-1], η, self.momentum)"): ONE_SLOT,
    (
        "Adagrad.rule",
        f"θ, r = adagrad(g, θ, slots[-1], η, self.epsilon, {INSIDE})",
    ): ONE_SLOT,
    (
        "ProximalAdagrad.rule",
        "θ, r = proximal_adagrad(g, θ, slots[-1], η, self.initial_accumulator_value, λ1, λ2)",
    ): ONE_SLOT,
    (
        "GradientControlledSGD.rule",
        "θ, a = compounding_descent(g, θ, slots[-1], η, size, self.c)",
    ): ONE_SLOT,
}

PAIRS = [("β1", "β2"), ("λ1", "λ2"), ("beta_1", "beta_2")]
PARTNERS = {a: b for pair in PAIRS for a, b in (pair, pair[::-1])}
OPERATORS: dict[type[ast.operator], tuple[type[ast.operator], ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.Pow: (ast.Mult,),
}
COMPARISONS = {ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.GtE, ast.Gt: ast.LtE}
SYMMETRIC = {"ops.maximum", "ops.minimum", "_wide.maximum"}
FUNCTIONS = {"maximum": "minimum", "minimum": "maximum", "square": "abs", "expm1": "exp"}


@dataclass(frozen=True)
class Mutant:
    """One changed function: its qualified name, the changed line, and the code to run."""

    function: str
    line: str
    code: CodeType

    @property
    def key(self) -> tuple[str, str]:
        return self.function, self.line


def mutants(module: ModuleType) -> Iterator[Mutant]:
    """All mutants of the rules in the file of `module`, each different from all others."""
    path = Path(str(module.__file__))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for name, function in rules(tree):
        keep_old_arguments(function)
        original = ast.unparse(function)
        seen = {original}
        for place, key, replacement in changes(function):
            kept, place[key] = place[key], replacement
            changed = ast.unparse(function)
            if changed not in seen:
                seen.add(changed)
                code = compile(ast.fix_missing_locations(tree), str(path), "exec")
                yield Mutant(name, difference(original, changed), code_of(code, name))
            place[key] = kept


def rules(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """The pure functions of a file, and the methods that use them, by qualified name."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith(("_", "require")):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and method.name in {"rule", "slot_start"}:
                    yield f"{node.name}.{method.name}", method


def updated(statement: ast.stmt) -> set[str]:
    """Names that the statement assigns."""
    nodes = ast.walk(statement)
    return {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def keep_old_arguments(function: ast.FunctionDef) -> None:
    """Remember, under `old_x`, every argument x that the function updates."""
    assigned = {name for statement in function.body for name in updated(statement)}
    names = [a.arg for a in function.args.args if a.arg in assigned]
    start = isinstance(function.body[0], ast.Expr)
    function.body[start:start] = [ast.parse(f"old_{name} = {name}").body[0] for name in names]


def changes(function: ast.FunctionDef) -> Iterator[tuple[dict | list, str | int, ast.expr]]:
    """Where to put what: a place is a node's fields, or one of its lists."""
    stale: set[str] = set()
    for statement in function.body:
        for node in list(ast.walk(statement)):
            for field, value in list(ast.iter_fields(node)):
                items = value if isinstance(value, list) else [value]
                for i, item in enumerate(items):
                    place, key = (value, i) if isinstance(value, list) else (vars(node), field)
                    if isinstance(node, ast.If) and item is node.test:
                        yield place, key, ast.UnaryOp(ast.Not(), item)
                    if isinstance(item, ast.expr):
                        for replacement in replacements(item, stale):
                            yield place, key, replacement
        if not ast.unparse(statement).startswith("old_"):
            stale |= updated(statement) & {a.arg for a in function.args.args}


def replacements(node: ast.expr, stale: set[str]) -> Iterator[ast.expr]:
    """What may stand in place of an expression; `stale` are names whose old value is at hand."""
    match node:
        case ast.BinOp(left, operator, right):
            for other in OPERATORS.get(type(operator), ()):
                yield ast.BinOp(left, other(), right)
            yield left
            yield right
            if isinstance(operator, ast.Mult):
                yield ast.BinOp(left, operator, node)
            if isinstance(operator, ast.Add):
                yield from moved_into_root(left, right)
        case ast.Call(function, arguments):
            yield from of_call(node, function, arguments)
            yield from (a for a in arguments if not isinstance(a, ast.Starred))
        case ast.Name(name, ast.Load()):
            if name in stale:
                yield ast.Name(f"old_{name}", ast.Load())
            if name in PARTNERS:
                yield ast.Name(PARTNERS[name], ast.Load())
            if name == "t":
                yield from (ast.parse(text, mode="eval").body for text in ("t - 1", "t + 1"))
        case ast.Attribute(owner, name, ast.Load()) if name in PARTNERS:
            yield ast.Attribute(owner, PARTNERS[name], ast.Load())
        case ast.Constant(bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(int(value) | float(value)):
            yield from (ast.Constant(value + 1), ast.Constant(value - 1))
        case ast.UnaryOp(_, operand):
            yield operand
        case ast.IfExp(test, body, orelse):
            yield from (body, orelse, ast.IfExp(test, orelse, body))
        case ast.Compare(left, [operator], right) if type(operator) in COMPARISONS:
            yield ast.Compare(left, [COMPARISONS[type(operator)]()], right)
        case ast.Tuple(elements, ast.Load()):
            yield from (ast.Tuple(swap, ast.Load()) for swap in swaps(elements))


def of_call(call: ast.Call, function: ast.expr, arguments: list[ast.expr]) -> Iterator[ast.expr]:
    """Another function, other places of the arguments, ε taken out of a root."""
    if isinstance(function, ast.Attribute) and function.attr in FUNCTIONS:
        other = ast.Attribute(function.value, FUNCTIONS[function.attr], ast.Load())
        yield ast.Call(other, arguments, call.keywords)
    if ast.unparse(function) not in SYMMETRIC:
        for swapped in swaps(arguments):
            yield ast.Call(function, swapped, call.keywords)
    if is_root(call) and isinstance(arguments[0], ast.BinOp):
        inner = arguments[0]
        yield ast.BinOp(ast.Call(function, [inner.left], []), inner.op, inner.right)


def moved_into_root(left: ast.expr, right: ast.expr) -> Iterator[ast.expr]:
    """√a + b as √(a + b)."""
    for root, other in ((left, right), (right, left)):
        if is_root(root):
            yield ast.Call(root.func, [ast.BinOp(root.args[0], ast.Add(), other)], [])


def is_root(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "ops.sqrt"


def swaps(items: list[ast.expr]) -> Iterator[list[ast.expr]]:
    """The list with two neighbours exchanged."""
    for i in range(len(items) - 1):
        yield [*items[:i], items[i + 1], items[i], *items[i + 2 :]]


def difference(original: str, changed: str) -> str:
    """The changed line; every statement of both texts is on a line of its own."""
    pairs = zip(original.splitlines(), changed.splitlines(), strict=True)
    return next(new.strip() for old, new in pairs if old != new)


def code_of(code: CodeType, name: str) -> CodeType:
    """The code of the function with this qualified name inside the code of its file."""
    for inner in code.co_consts:
        if isinstance(inner, CodeType) and name.startswith(inner.co_qualname):
            return inner if inner.co_qualname == name else code_of(inner, name)
    raise LookupError(name)


def fate(mutant: Mutant, module: ModuleType, cases: Callable[[], object]) -> str:
    """What `cases` does while the mutant stands in for its original."""
    function = reduce(getattr, mutant.function.split("."), module)
    original, function.__code__ = function.__code__, mutant.code
    try:
        with np.errstate(all="ignore"):
            cases()
    except AssertionError:
        return "failed"
    except Exception:  # noqa: BLE001 A wrong rule may raise anything.
        return "raised"
    finally:
        function.__code__ = original
    return "survived"


def run(name: str, reference: Callable, table: list[dict]) -> list[tuple[Mutant, str]]:
    """The mutants of one optimizer, each with its fate."""
    module = importlib.import_module(getattr(kerasdl.optimizers, name).__module__)

    table = list(table)

    def cases() -> None:
        for options in table:
            try:
                check(name, reference, options, steps=STEPS)
            except Exception:
                # What killed one mutant is likely to kill the next.
                table.sort(key=lambda other: other is not options)
                raise

    cases()
    return [
        (mutant, "equivalent" if mutant.key in EQUIVALENT else fate(mutant, module, cases))
        for mutant in mutants(module)
    ]


def main(names: list[str]) -> int:
    """Print the table; return the exit code."""
    console = Console(highlight=False, soft_wrap=True)
    table = Table("optimizer", "mutants", "failed", "raised", "survived")
    fates: list[tuple[Mutant, str]] = []
    for name, reference, options in CASES:
        if not names or name in names:
            own = run(name, reference, options)
            counts = Counter(fate for _, fate in own if fate != "equivalent")
            row = (counts.total(), counts["failed"], counts["raised"], counts["survived"])
            if own:
                table.add_row(name, *map(str, row))
            fates += own
    console.print(table)
    for mutant, outcome in fates:
        if outcome in {"survived", "equivalent"}:
            reason = f"  ({EQUIVALENT[mutant.key]})" if outcome == "equivalent" else ""
            console.print(f"{outcome}: {mutant.function}: {mutant.line}{reason}", markup=False)
    counts = Counter(outcome for _, outcome in fates)
    killed = counts["failed"] + counts["raised"]
    total = killed + counts["survived"]
    share = killed / max(total, 1)
    console.print(f"mutation score: {share:.1%}, {killed} of {total} killed")
    return int(share < LEAST_SHARE or (not names and total < LEAST_MUTANTS))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
