"""What each factor of an ablation does: differences of cells, averaged over the levels of the other factors.

With y the metric of a cell, a and b two levels of a factor, u and v two of another, and the mean over all levels of
the factors that are left::

    main effect of b over a         mean of  y(b, ·) − y(a, ·)
    interaction of b over a, v over u   mean of  [y(b, v) − y(a, v)] − [y(b, u) − y(a, u)]

A main effect is a difference of means over equally many cells: every cell has the same weight, so that no factor is
confounded with another (Montgomery, *Design and Analysis of Experiments*, chapter 6). An interaction is how much larger
the effect of a factor is at one level of another factor than at the other. All cells answer the same queries and are
measured on the same resamples (see :mod:`obelisk.evaluation.intervals`), so the intervals are paired.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from obelisk.evaluation.comparison import Arm, plain_differences
from obelisk.evaluation.intervals import Difference, paired_difference

Levels = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Change:
    """A factor changed from one level, ``against``, to another."""

    factor: str
    against: str
    level: str

    def sign(self, levels: Levels) -> int:
        """Return 1 for a cell after the change, −1 before it, 0 for one of another level."""
        return (levels[self.factor] == self.level) - (levels[self.factor] == self.against)

    def __str__(self) -> str:
        return f"{self.factor}: {self.against} → {self.level}"


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What one change (a main effect), or two together beyond each alone (an interaction), do to every metric.

    ``at`` holds the levels of other factors at which the effect holds; if empty, it is the mean over all of theirs.
    """

    changes: tuple[Change, ...]
    metrics: Mapping[str, Difference]
    at: Levels

    def __str__(self) -> str:
        named = " × ".join(map(str, self.changes))
        return f"{named}, at {', '.join(self.at.values())}" if self.at else named

    def to_fields(self) -> dict[str, object]:
        """Return the effect as plain values for JSON."""
        return {
            "changes": [{"factor": one.factor, "against": one.against, "level": one.level} for one in self.changes],
            "at": dict(self.at),
            "metrics": plain_differences(self.metrics),
        }


def find_effects(cells: Sequence[tuple[Levels, Arm]], factors: Mapping[str, Sequence[str]]) -> list[Effect]:
    """Return main effects, each followed by what it is at every choice of the other factors, then the interactions.

    ``cells`` are all choices of levels, each with its arm; a factor's first level is the one its others are held
    against.
    """
    effects = []
    for change in list_changes(factors):
        effects.append(measure_effect(cells, (change,), {}))
        others = {factor: levels for factor, levels in factors.items() if factor != change.factor}
        if others:
            choices = (dict(zip(others, chosen, strict=True)) for chosen in itertools.product(*others.values()))
            effects += [measure_effect(cells, (change,), at) for at in choices]
    pairs = itertools.combinations(list_changes(factors), 2)
    return effects + [measure_effect(cells, pair, {}) for pair in pairs if pair[0].factor != pair[1].factor]


def list_changes(factors: Mapping[str, Sequence[str]]) -> Iterator[Change]:
    """Yield the change from each factor's first level to every other one."""
    for factor, (first, *others) in factors.items():
        yield from (Change(factor=factor, against=first, level=level) for level in others)


def measure_effect(cells: Sequence[tuple[Levels, Arm]], changes: tuple[Change, ...], at: Levels) -> Effect:
    """Return the effect of some changes over the cells of given levels.

    It is a sum of the cells' metrics, each with the product of the changes' signs, over the number of cells that have
    all changes.
    """
    weights = []
    for levels, arm in cells:
        weight = 1
        for change in changes:
            weight *= change.sign(levels)
        if weight and all(levels[factor] == level for factor, level in at.items()):
            weights.append((weight, arm))
    each = len(weights) / 2 ** len(changes)
    up = [arm for weight, arm in weights if weight > 0]
    down = [arm for weight, arm in weights if weight < 0]
    metrics = {
        name: paired_difference(
            sum(arm.metrics.values[name] for arm in up) / each,
            sum(arm.metrics.values[name] for arm in down) / each,
            sum(arm.samples[name] for arm in up) / each,
            sum(arm.samples[name] for arm in down) / each,
        )
        for name in up[0].metrics.values
    }
    return Effect(changes=changes, metrics=metrics, at=at)
