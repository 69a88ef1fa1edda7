"""Plain data and back: nothing is lost, and nothing else is taken."""

import doctest
import json
import math
from collections import Counter
from dataclasses import dataclass, field

import pytest

from kerasdl.export import SourceError
from kerasdl.export.reporting import plain
from kerasdl.export.reporting.plain import from_plain, to_plain


@dataclass
class Inner:
    number: float
    maybe: float | None = None


@dataclass
class Outer:
    name: str
    flag: bool
    shape: tuple[int | None, ...]
    inner: list[Inner] = field(default_factory=list)
    counts: Counter[str] | None = None
    texts: dict[str, str] = field(default_factory=dict)


WHOLE = Outer(
    "é\ud800",
    True,
    (None, 3),
    [Inner(1.5, math.inf), Inner(math.inf), Inner(2**0.5, 0.1)],
    Counter(b=2, a=1),
    {"k": "v"},
)


def test_round_trip_through_json():
    data = to_plain(WHOLE)
    assert from_plain(Outer, json.loads(json.dumps(data, allow_nan=False)), "x") == WHOLE
    assert isinstance(from_plain(Outer, data, "x").counts, Counter)
    assert data["inner"] == [
        {"number": 1.5, "maybe": "Infinity"},
        {"number": None, "maybe": None},
        {"number": 2**0.5, "maybe": 0.1},
    ]


def test_defaults_and_what_is_not_known():
    data = {"name": "n", "flag": False, "shape": [], "later": 1}
    assert from_plain(Outer, data, "x") == Outer("n", False, ())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 1}, "`x.name` must be a string. Received: 1."),
        ({"name": None}, "`x.name` must be a string. Received: None."),
        ({"flag": 1}, "`x.flag` must be true or false. Received: 1."),
        ({"shape": "ab"}, "`x.shape` must be a list. Received: 'ab'."),
        ({"shape": [1, True]}, "`x.shape[1]` must be an integer. Received: True."),
        ({"shape": [1.0]}, "`x.shape[0]` must be an integer. Received: 1.0."),
        ({"inner": [[]]}, "`x.inner[0]` must be an object. Received: []."),
        ({"inner": [{}]}, "`x.inner[0].number` is missing."),
        ({"inner": [{"number": "1"}]}, "`x.inner[0].number` must be a number. Received: '1'."),
        ({"inner": [{"number": False}]}, "`x.inner[0].number` must be a number. Received: False."),
        ({"counts": {"a": "b"}}, "`x.counts['a']` must be an integer. Received: 'b'."),
        ({"counts": []}, "`x.counts` must be an object. Received: []."),
        ({"texts": {"a": "b" * 99}, "name": ["n" * 99]}, f"Received: ['{'n' * 58}…."),
    ],
)
def test_what_is_of_another_type(change, message):
    with pytest.raises(SourceError) as caught:
        from_plain(Outer, to_plain(WHOLE) | change, "x")
    assert message in str(caught.value)


def test_integers_are_numbers_too():
    assert from_plain(Inner, {"number": 2}, "x").number == 2.0
    assert from_plain(Inner, {"number": 10**400}, "x").number == math.inf


def test_examples():
    assert doctest.testmod(plain).failed == 0
