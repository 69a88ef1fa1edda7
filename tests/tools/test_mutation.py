"""The mutation run: it kills what a check notices, and reports what no check does."""

import importlib.util
import sys
from pathlib import Path

import pytest

RULES = """
def double(x):
    return x + x

def spare(x):
    x = x - 1
    return x
"""


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def mutation():
    before = sys.path.copy()
    yield load(Path(__file__).parents[2] / "tools" / "mutation.py")
    sys.path[:] = before
    del sys.modules["mutation"]


@pytest.fixture
def module(tmp_path):
    path = tmp_path / "two_rules.py"
    path.write_text(RULES, encoding="utf-8")
    yield load(path)
    del sys.modules["two_rules"]


def test_what_a_check_sees_is_killed_and_the_rest_survives(mutation, module):
    def cases():
        assert module.double(3) == 6

    fates = {m.key: mutation.fate(m, module, cases) for m in mutation.mutants(module)}
    assert fates["double", "return x - x"] == "failed"
    assert fates["spare", "x = x + 1"] == fates["spare", "return old_x"] == "survived"
    assert {fate for (name, _), fate in fates.items() if name == "spare"} == {"survived"}
    assert (module.double(3), module.spare(3)) == (6, 2)


def test_a_mutant_that_raises_is_killed(mutation, module):
    def cases():
        assert 1 / module.double(3) > 0

    fates = {m.line: mutation.fate(m, module, cases) for m in mutation.mutants(module)}
    assert fates["return x - x"] == "raised"


def test_adam_has_the_mutants_that_matter(mutation):
    from kerasdl.optimizers import adam

    found = {mutant.key: mutant for mutant in mutation.mutants(adam)}
    assert len(found) >= 150
    wanted = [
        ("adam", "v_hat = v"),
        ("adam", "m_hat = m / one_minus_power(β1, t - 1)"),
        ("adam", "m_hat = old_m / one_minus_power(β1, t)"),
        ("moments", "return (β2 * m + (1 - β1) * g, β2 * v + (1 - β2) * ops.square(g))"),
        ("moments", "return (β1 * m + β1 * g, β2 * v + (1 - β2) * ops.square(g))"),
        ("moments", "return (β1 * m + (1 - β1) * g, β2 * v + (1 - β2) * ops.abs(g))"),
        (
            "adam_step",
            "return θ + η * m_hat / (ops.sqrt(v_hat + ε) if inside else ops.sqrt(v_hat) + ε)",
        ),
        (
            "adam_step",
            "return θ - η * m_hat / (ops.sqrt(v_hat + ε) if inside else ops.sqrt(v_hat + ε))",
        ),
        (
            "adam_step",
            "return θ - η * m_hat / (ops.sqrt(v_hat + ε) if inside else ops.sqrt(v_hat))",
        ),
    ]
    table = next(case for case in mutation.CASES if case[0] == "Adam")

    def cases():
        for options in table[2]:
            mutation.check(*table[:2], options, steps=3)

    assert {mutation.fate(found[key], adam, cases) for key in wanted} == {"failed"}
    cases()


@pytest.mark.parametrize(
    ("survivors", "score", "code"), [(1, "99.5%", 0), (20, "90.0%", 1), (None, "100.0%", 1)]
)
def test_score_and_exit_code(mutation, monkeypatch, capsys, survivors, score, code):
    mutant = mutation.Mutant("rule", "return θ", None)
    fates = ["failed"] * (200 - (survivors or 60)) + ["survived"] * (survivors or 0)
    monkeypatch.setattr(mutation, "CASES", [("SGD", None, [])])
    monkeypatch.setattr(mutation, "run", lambda *case: [(mutant, fate) for fate in fates])
    assert mutation.main([]) == code
    output = capsys.readouterr().out
    assert f"mutation score: {score}" in output
    assert output.count("survived: rule: return θ") == (survivors or 0)
