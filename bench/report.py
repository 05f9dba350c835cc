#!/usr/bin/env python3
"""Renders results as Markdown: `python3 bench/report.py --output docs/performance.md`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from measures import NAMES

RESULTS = Path(__file__).resolve().parent / "results"
INTRODUCTION = """\
# Performance

What is measured beside what, and how it came out, misses included. Machines differ and are shared,
so the figures are ratios of sides that take turns in one run; a time alone says little about
another machine. A figure is the median of the ratios pair by pair, with its spread. Nothing in the
tests asserts a time.

`bench/README.md` says how to measure again: `python3 bench/run.py all`, then
`python3 bench/report.py --output docs/performance.md`.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results were written")
    parser.add_argument(
        "--output", type=Path, help="where the page goes [default: standard output]"
    )
    asked = parser.parse_args()
    text = page([document for name in NAMES if (document := load(asked.results, name))])
    if asked.output:
        asked.output.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0


def load(directory: Path, name: str) -> dict[str, Any] | None:
    """A benchmark's result, if it was measured."""
    path = directory / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def page(documents: list[dict[str, Any]]) -> str:
    """The whole page."""
    parts = [INTRODUCTION, overview(documents), *map(section, documents)]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def overview(documents: list[dict[str, Any]]) -> str:
    """Every figure with a goal, met or not."""
    rows = [
        [
            document["title"],
            figure["name"],
            value(figure),
            goal(figure),
            "yes" if figure["met"] else "**no**",
        ]
        for document in documents
        for figure in document["figures"]
        if figure["goal"] and figure["summary"]
    ]
    return "## Goals\n\n" + table(["benchmark", "figure", "median", "goal", "met"], rows)


def section(document: dict[str, Any]) -> str:
    """A benchmark: how, where, what, and the sides of it."""
    parts = [
        f"## {document['title']}",
        document["method"],
        circumstances(document["circumstances"]),
    ]
    figures = [figure for figure in document["figures"] if figure["summary"]]
    if figures:
        parts.append(
            table(
                ["figure", "median", "quartiles", "least to most", "values", "goal"],
                map(figure_row, figures),
            )
        )
        parts.append(sides(figures))
    notes = document["notes"] + [
        f"{each['name']}: {each['note']}" for each in figures if each["note"]
    ]
    if notes:
        parts.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join(part.rstrip("\n") for part in parts if part)


def circumstances(known: dict[str, Any]) -> str:
    """One line of where and when."""
    place = f", {known['file system']}" if "file system" in known else ""
    text = (
        f"{known['date']}, commit {known['commit']}; {known['cpus']} CPUs ({known['processor']}), "
        f"{known['memory']}; {known['system']}, Linux {known['kernel']}, control groups "
        f"{known['control groups']}{place}; load {known['load before']} before, "
        f"{known['load after']} after."
    )
    return text + (" **A smoke run: few rounds, small amounts.**" if known["quick"] else "")


def figure_row(figure: dict[str, Any]) -> list[str]:
    """A figure with its spread."""
    spread = figure["summary"]
    met = "" if figure["met"] is None else (" (met)" if figure["met"] else " (**missed**)")
    return [
        figure["name"],
        value(figure),
        f"{number(spread['first_quartile'])} to {number(spread['third_quartile'])}",
        f"{number(spread['minimum'])} to {number(spread['maximum'])}",
        str(spread["count"]),
        goal(figure) + met,
    ]


def sides(figures: list[dict[str, Any]]) -> str:
    """What was measured of each side, once, with its flags."""
    rows, seen = [], set()
    for side in (side for figure in figures for side in figure["sides"] if side["summary"]):
        spread = side["summary"]
        key = (side["name"], side["command"], spread["median"])
        if key in seen:
            continue
        seen.add(key)
        median = f"{number(spread['median'])} {side['unit']}"
        rows.append(
            [
                side["name"],
                median,
                f"{number(spread['minimum'])} to {number(spread['maximum'])}",
                side["command"],
            ]
        )
    return table(["side", "median", "least to most", "what it was"], rows) if rows else ""


def goal(figure: dict[str, Any]) -> str:
    """What is aimed at."""
    return f"{figure['goal']['sense']} {figure['goal']['value']:,.10g}" if figure["goal"] else ""


def value(figure: dict[str, Any]) -> str:
    """The median with its unit."""
    return f"{number(figure['summary']['median'])} {figure['unit']}"


def number(amount: float) -> str:
    """Three digits that count."""
    return f"{amount:,.0f}" if abs(amount) >= 100 else f"{amount:.3g}"


def table(heads: list[str], rows: Any) -> str:
    """A table of Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


if __name__ == "__main__":
    sys.exit(main())
