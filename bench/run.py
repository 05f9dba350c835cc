#!/usr/bin/env python3
"""Measures Insula beside its peers: `python3 bench/run.py all`, or one benchmark's name."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.context import BENCH, EXECUTABLES, REPOSITORY, Context, Unavailable, say
from harness.figures import Result
from harness.files import remove_tree
from harness.machine import describe, load
from measures import NAMES

RESULTS = BENCH / "results"
_ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("benchmarks", nargs="*", metavar="BENCHMARK", help="names, or all")
    parser.add_argument("--list", action="store_true", help="say which there are")
    parser.add_argument("--rounds", type=int, help="rounds of every benchmark")
    parser.add_argument(
        "--quick", action="store_true", help="a smoke run: few rounds, small amounts"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON too")
    parser.add_argument("--work", type=Path, help="where to work; what is installed there is kept")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results are written")
    parser.add_argument("--executables", type=Path, default=EXECUTABLES, help="where ours are")
    return parser.parse_args()


def main() -> int:
    asked = arguments()
    if asked.list:
        for name in NAMES:
            print(f"{name:12}{importlib.import_module(f'measures.{name}').TITLE}")
        return 0
    names = NAMES if asked.benchmarks in ([], ["all"]) else asked.benchmarks
    if unknown := set(names) - set(NAMES):
        say(f"no such benchmark: {', '.join(sorted(unknown))}; see --list")
        return 2
    if os.geteuid() != 0:
        say("limits and peers need root")
        return 2
    for number in _ENDING:
        signal.signal(number, end)
    with place(asked.work) as work:
        context = Context(work, asked.quick, asked.rounds, asked.executables.resolve())
        outcomes = [measure(context, name, asked.results) for name in names]
    documents = [document for document in outcomes if document]
    if asked.json:
        print(json.dumps(documents, indent=2))
    return 0 if len(documents) == len(names) else 1


def end(number: int, _: object) -> None:
    """Takes away what was started, and is not disturbed at that."""
    for each in _ENDING:
        signal.signal(each, signal.SIG_IGN)
    say("cleaning up")
    sys.exit(128 + number)


@contextlib.contextmanager
def place(given: Path | None) -> Iterator[Path]:
    """Where to work: as given, which stays, or a temporary one, which goes."""
    if given:
        given.mkdir(parents=True, exist_ok=True)
        yield given.resolve()
        return
    path = Path(tempfile.mkdtemp(prefix="insula-bench-"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        remove_tree(path)


def measure(context: Context, name: str, results: Path) -> dict[str, Any] | None:
    """Runs a benchmark and keeps its result; one that fails does not keep the others back."""
    module = importlib.import_module(f"measures.{name}")
    say(f"{name}: {module.TITLE}")
    before = load()
    try:
        result: Result = module.measure(context)
    except Unavailable as missing:
        result = Result(name, module.TITLE, module.METHOD, [], [f"not measured: {missing}"])
    except Exception:  # Whatever it is, the next benchmark is independent of it.
        traceback.print_exc()
        return None
    result.circumstances = {
        **describe(REPOSITORY, context.work),
        "load before": before,
        "load after": load(),
        "quick": context.quick,
    }
    document = result.document()
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"{name}.json"
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    show(document)
    return document


def show(document: dict[str, Any]) -> None:
    """A line for each figure: median, unit, [least, quartiles, most]."""
    for figure in document["figures"]:
        if not (known := figure["summary"]):
            continue
        keys = ["minimum", "first_quartile", "third_quartile", "maximum"]
        spread = " ".join(f"{known[key]:.3g}" for key in keys)
        line = f"  {figure['name']}: {known['median']:.3g} {figure['unit']} [{spread}]"
        line += f" n={known['count']}"
        if goal := figure["goal"]:
            line += f"   goal {goal['sense']} {goal['value']:g}: "
            line += "met" if figure["met"] else "MISSED"
        say(line)
    for note in document["notes"]:
        say(f"  {note}")


if __name__ == "__main__":
    sys.exit(main())
