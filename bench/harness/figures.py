"""Figures: what was measured, on which sides, and how it stands to its goal."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Goal:
    """What is aimed at: `>=` or `<=` of a value."""

    sense: str
    value: float

    def is_met(self, value: float) -> bool:
        return value >= self.value if self.sense == ">=" else value <= self.value

    def __str__(self) -> str:
        return f"{self.sense} {self.value:g}"


@dataclass(frozen=True)
class Summary:
    """The median of some values, and their spread."""

    count: int
    median: float
    minimum: float
    first_quartile: float
    third_quartile: float
    maximum: float


def summary(values: Sequence[float]) -> Summary:
    """Quartiles by linear interpolation between the values, which may be only one."""
    ordered = sorted(values)
    if len(ordered) == 1:
        first = third = ordered[0]
    else:
        first, _, third = statistics.quantiles(ordered, n=4, method="inclusive")
    return Summary(
        count=len(ordered),
        median=statistics.median(ordered),
        minimum=ordered[0],
        first_quartile=first,
        third_quartile=third,
        maximum=ordered[-1],
    )


@dataclass(frozen=True)
class Side:
    """One side of a figure: its flags, and what was measured of it."""

    name: str
    command: str
    unit: str
    values: list[float]


@dataclass(frozen=True)
class Figure:
    """A ratio of two sides by pairs, or an amount; without a goal it only explains another one."""

    name: str
    unit: str
    values: list[float]
    goal: Goal | None = None
    sides: list[Side] = field(default_factory=list)
    note: str = ""


def pair_ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Of what was measured next to each other, pair by pair."""
    return [a / b for a, b in zip(above, below, strict=True)]


def ratio(name: str, above: Side, below: Side, goal: Goal | None = None, note: str = "") -> Figure:
    """`above / below`, pair by pair."""
    values = pair_ratios(above.values, below.values)
    return Figure(name, "x", values, goal, [above, below], note)


@dataclass
class Result:
    """What a benchmark found, with the circumstances in which it did."""

    benchmark: str
    title: str
    method: str
    figures: list[Figure]
    notes: list[str] = field(default_factory=list)
    circumstances: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """As it is written to a file."""
        document = asdict(self)
        for figure, data in zip(self.figures, document["figures"], strict=True):
            data["summary"] = asdict(summary(figure.values)) if figure.values else None
            known = data["summary"]
            data["met"] = figure.goal.is_met(known["median"]) if figure.goal and known else None
            for side, side_data in zip(figure.sides, data["sides"], strict=True):
                side_data["summary"] = asdict(summary(side.values)) if side.values else None
        return document
