"""Which studies are for us: a site's rules, in a small language of their own.

    modality = DX or modality = CR
    body_part like "*FEMUR*" and not station = "OLD ROOM"
    called_ae in (BONEURGENT, BONENIGHT)

A name is compared with one value by `=` or `!=`, with several by `in (…)`, with a pattern by
`like` (`*` and `?`). Comparisons ignore case and are joined by `and`, `or`, `not` and parentheses.
A study may have several values of a name (its series may differ): one that fits is enough, and
`!=` wants none.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from bonetumor.domain.errors import Misconfigured

Facts = Mapping[str, frozenset[str]]
Condition = Callable[[Facts], bool]

NAMES = ("modality", "body_part", "procedure", "series", "station", "calling_ae", "called_ae")
_TOKEN = re.compile(r'\s*(?:(!=|[=(),])|"([^"]*)"|([^\s=!(),"]+))')
_WORDS = frozenset({"and", "or", "not", "in", "like"})


class Verdict(StrEnum):
    """What a rule makes of the studies that it fits."""

    ASSESS = "assess"
    URGENT = "urgent"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A condition, as it was written and as it is asked, and what follows."""

    when: str
    then: Verdict
    fits: Condition


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the rules make of a study. `unwanted` says why it is not for us."""

    urgent: bool = False
    unwanted: str | None = None


def parse_rule(when: str, then: str) -> Rule:
    """A rule; raises Misconfigured with what was expected where."""
    return Rule(when=when, then=Verdict(then), fits=_Parser(when).whole())


def judge(rules: Sequence[Rule], facts: Facts) -> Judgement:
    """The first rule that fits decides. Without rules every study is for us; with rules only those
    that one fits."""
    if not rules:
        return Judgement()
    for number, rule in enumerate(rules, start=1):
        if rule.fits(facts):
            if rule.then is Verdict.IGNORE:
                return Judgement(unwanted=f"rule {number} ignores it: {rule.when}")
            return Judgement(urgent=rule.then is Verdict.URGENT)
    return Judgement(unwanted=f"none of {len(rules)} rules wants it")


class _Parser:
    """Recursive descent over the tokens: or, and, not, comparison."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._read(text))
        self._next = 0

    def whole(self) -> Condition:
        condition = self._either()
        if self._peek() is not None:
            raise self._wrong("the end")
        return condition

    def _read(self, text: str) -> Sequence[tuple[str, str]]:
        found, place = [], 0
        while text[place:].strip():
            match = _TOKEN.match(text, place)
            if match is None:
                raise Misconfigured(
                    f"rule {text!r}: expected a word, got {text[place : place + 9]!r}"
                )
            sign, quoted, word = match.groups()
            if sign is not None:
                found.append(("sign", sign))
            elif quoted is not None:
                found.append(("value", quoted))
            else:
                is_word = word.lower() in _WORDS
                found.append(("word", word.lower()) if is_word else ("value", word))
            place = match.end()
        return found

    def _either(self) -> Condition:
        parts = [self._both()]
        while self._take("word", "or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else lambda facts: any(part(facts) for part in parts)

    def _both(self) -> Condition:
        parts = [self._one()]
        while self._take("word", "and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else lambda facts: all(part(facts) for part in parts)

    def _one(self) -> Condition:
        if self._take("word", "not"):
            inner = self._one()
            return lambda facts: not inner(facts)
        if self._take("sign", "("):
            inner = self._either()
            if not self._take("sign", ")"):
                raise self._wrong(")")
            return inner
        return self._comparison()

    def _comparison(self) -> Condition:
        name = self._value("one of " + ", ".join(NAMES))
        if name not in NAMES:
            raise Misconfigured(
                f"rule {self._text!r}: expected one of {', '.join(NAMES)}, got {name!r}"
            )
        if self._take("sign", "="):
            wanted = self._value("a value").upper()
            return lambda facts: wanted in facts.get(name, frozenset())
        if self._take("sign", "!="):
            unwanted = self._value("a value").upper()
            return lambda facts: unwanted not in facts.get(name, frozenset())
        if self._take("word", "like"):
            pattern = self._value("a pattern").upper()
            return lambda facts: any(fnmatchcase(v, pattern) for v in facts.get(name, ()))
        if self._take("word", "in"):
            several = self._values()
            return lambda facts: bool(several & facts.get(name, frozenset()))
        raise self._wrong("=, !=, like or in")

    def _values(self) -> frozenset[str]:
        if not self._take("sign", "("):
            raise self._wrong("(")
        found = [self._value("a value").upper()]
        while self._take("sign", ","):
            found.append(self._value("a value").upper())
        if not self._take("sign", ")"):
            raise self._wrong(")")
        return frozenset(found)

    def _value(self, expected: str) -> str:
        token = self._peek()
        if token is None or token[0] != "value":
            raise self._wrong(expected)
        self._next += 1
        return token[1]

    def _take(self, kind: str, text: str) -> bool:
        if self._peek() != (kind, text):
            return False
        self._next += 1
        return True

    def _peek(self) -> tuple[str, str] | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _wrong(self, expected: str) -> Misconfigured:
        token = self._peek()
        got = "the end" if token is None else repr(token[1])
        return Misconfigured(f"rule {self._text!r}: expected {expected}, got {got}")
