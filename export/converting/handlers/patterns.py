"""Patterns: regular expressions that stand for a few texts and no others."""

from __future__ import annotations

ESCAPES = {"t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r"}
SPECIAL = set(r"\.^$|?*+()[]{}")
MOST = 100
"""Characters in a set."""


def literals(pattern: str) -> list[str] | None:
    """All the texts that a pattern stands for: one literal, or the characters of a set.

    None for any other pattern.

    Example:

    >>> literals(r"<br />"), literals(r"[a,-\\.]"), literals("a+")
    (['<br />'], ['a', ',', '-', '.'], None)
    """
    if pattern.startswith("[") and pattern.endswith("]") and len(pattern) > 2:
        return _characters(pattern[1:-1])
    symbols = _symbols(pattern)
    if not symbols or any(not escaped and symbol in SPECIAL for symbol, escaped in symbols):
        return None
    return ["".join(symbol for symbol, _ in symbols)]


def _characters(body: str) -> list[str] | None:
    """The characters of a set, each once."""
    symbols = _symbols(body)
    if not symbols or symbols[0] == ("^", False) or "[:" in body:
        return None
    found: list[str] = []
    while symbols:
        (first, escaped), *symbols = symbols
        if first == "]" and not escaped:
            return None
        last = first
        if len(symbols) > 1 and symbols[0] == ("-", False):
            last, symbols = symbols[1][0], symbols[2:]
        if not 0 <= ord(last) - ord(first) < MOST:
            return None
        found += map(chr, range(ord(first), ord(last) + 1))
    return list(dict.fromkeys(found))


def _symbols(pattern: str) -> list[tuple[str, bool]] | None:
    """Characters, and whether a backslash stood before them; None for classes such as \\d."""
    symbols: list[tuple[str, bool]] = []
    characters = iter(pattern)
    for character in characters:
        if character != "\\":
            symbols.append((character, False))
            continue
        escaped = next(characters, "")
        if escaped in ESCAPES:
            symbols.append((ESCAPES[escaped], True))
        elif not escaped or escaped.isalnum() or not escaped.isascii():
            return None
        else:
            symbols.append((escaped, True))
    return symbols
