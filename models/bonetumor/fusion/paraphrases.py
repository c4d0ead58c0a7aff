"""Other sound wordings of the abnormal blood markers, so that a network learns to read any of them.

All of them pass `wording.find_faults`: the same markers with their values and directions, in
another order, with other words, with the limit, the ratio or neither, alone or several together.
"""

import random
from collections.abc import Sequence

from bonetumor.domain.labs import LabPanel, LabResult
from bonetumor.fusion.text import NAMES, describe, plain

_HIGH = ("high", "elevated", "raised", "increased")
_LOW = ("low", "reduced", "decreased")
# Of one marker: {name}, {side} (high, low and the like), {value} with its unit, {tail}.
_ALONE = (
    "{name} is {side} at {value}{tail}.",
    "the {name} is {side}: {value}{tail}.",
    "{side} {name} of {value}{tail}.",
    "{name} of {value} is {side}{tail}.",
    "{name}: {value}{tail}, {side}.",
    "{name} measured {value}{tail} and is {side}.",
    "the patient has a {side} {name} of {value}{tail}.",
    "blood shows {side} {name} at {value}{tail}.",
    "with {value}{tail} the {name} is {side}.",
)
# Of several markers on the same side: {list} of their names and values.
_TOGETHER = (
    "{list} are {side}.",
    "{side} are {list}.",
    "{side}: {list}.",
    "the following are {side}: {list}.",
    "blood shows {side} {list}.",
)


def paraphrases(panel: LabPanel, count: int) -> tuple[str, ...]:
    """So many wordings, the same for the same panel; none where nothing is abnormal."""
    chance = random.Random(describe(panel))  # noqa: S311 - variety, not secrets
    return tuple(paraphrase(panel, chance) for _ in range(count if panel.abnormal else 0))


def paraphrase(panel: LabPanel, chance: random.Random) -> str:
    """One wording, drawn by chance. A panel without abnormal markers has the template's alone."""
    results = list(panel.abnormal)
    if not results:
        return describe(panel)
    chance.shuffle(results)
    sides = [[r for r in results if r.is_high is high] for high in (True, False)]
    joined = [side for side in sides if len(side) > 1 and chance.random() < 0.3]
    sentences = [
        _alone(result, chance) for result in results if not any(result in side for side in joined)
    ]
    sentences += [_together(side, chance) for side in joined]
    chance.shuffle(sentences)
    dress = str if chance.random() < 0.3 else _capital
    between = "; " if chance.random() < 0.15 else ". "
    return between.join(dress(s).rstrip(".") for s in sentences) + "."


def _alone(result: LabResult, chance: random.Random) -> str:
    return chance.choice(_ALONE).format(
        name=NAMES[result.analyte],
        side=_side(result, chance),
        value=f"{plain(result.value)} {result.unit}",
        tail=_tail(result, chance),
    )


def _together(results: Sequence[LabResult], chance: random.Random) -> str:
    form = chance.choice(("{name} {value}", "{name} ({value})", "{name} at {value}"))
    *first, last = (
        form.format(name=NAMES[r.analyte], value=f"{plain(r.value)} {r.unit}") for r in results
    )
    return chance.choice(_TOGETHER).format(
        list=f"{', '.join(first)} and {last}", side=_side(results[0], chance)
    )


def _side(result: LabResult, chance: random.Random) -> str:
    return chance.choice(_HIGH if result.is_high else _LOW)


def _tail(result: LabResult, chance: random.Random) -> str:
    """The limit, the ratio to it, both, the range, or nothing."""
    limit = result.high if result.is_high else result.low
    if not limit:
        return ""
    side = "upper" if result.is_high else "lower"
    ratio = f"{result.value / limit:.{chance.choice((1, 1, 2))}f}"
    forms = [
        "",
        "",
        f" {ratio} times the limit",
        f", {ratio} times the {side} limit",
        f" ({side} limit {plain(limit)})",
        f", {ratio} times the limit of {plain(limit)}",
    ]
    if result.low is not None and result.high is not None:
        forms.append(f" (reference range {plain(result.low)} to {plain(result.high)})")
    return chance.choice(forms)


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
