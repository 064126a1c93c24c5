"""Measures parts quickly anew and names what got slower than in results/benchmarks/.

Times of different minutes are not comparable, ratios are: each part declares which. A ratio that
got worse by more than 20% is measured once more, and if that says the same the exit code is 1. It
is 2 where none did, but stored and new figures of a part cannot be compared: another machine,
thread setting or dataset. Parts of which no ratio was measured both times are named at the end.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine
from benchmarks.kept import OtherConditionsError
from benchmarks.part import RESULTS, Better, available, figures, load
from benchmarks.run import add_options, chosen, record, say, settle, store

TOLERANCE = 1.2
SLOWER, NOT_COMPARABLE = 1, 2


class NotComparableError(Exception):
    """The records were not made under the same conditions."""


class NothingComparedError(Exception):
    """No ratio of a part was measured both times."""


class Compared(NamedTuple):
    """A ratio before and now; `now` is None where it was not measured."""

    path: str
    before: float
    now: float | None
    slowdown: float
    """1 is as fast as before, 1.2 is 20% slower."""

    @property
    def slower(self) -> bool:
        """Whether it got slower by more than the tolerance."""
        return self.slowdown > TOLERANCE


def main() -> None:
    """Compare the parts asked for, or all that are stored."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(available()))
    parser.add_argument("--stored", type=Path, default=RESULTS)
    add_options(parser)
    arguments = parser.parse_args()
    names = chosen(parser, arguments.parts)
    settle(arguments)
    names = [name for name in names if is_stored(arguments.stored, name)]
    if not names:
        sys.exit(f"{arguments.stored}: nothing to compare with; run `make bench FULL=1` first")
    slower: list[str] = []
    not_comparable: list[str] = []
    left_out: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            try:
                slower += check(name, arguments, Path(folder))
            except (NotComparableError, OtherConditionsError) as error:
                not_comparable.append(str(error))
            except NothingComparedError as error:
                left_out.append(str(error))
    for message in not_comparable:
        say(message)
    if slower:
        say("slower by more than 20%:\n" + "\n".join(slower))
        sys.exit(SLOWER)
    if not_comparable:
        sys.exit(NOT_COMPARABLE)
    if len(left_out) < len(names):
        say("of what was compared, nothing got slower by more than 20%")
    if left_out:
        say("\n".join(["not compared:", *left_out]))


def is_stored(folder: Path, name: str) -> bool:
    """Whether there is a record of the part; says so if not."""
    if (folder / f"{name}.json").exists():
        return True
    say(f"{name}: nothing stored, not compared")
    return False


def check(name: str, arguments: argparse.Namespace, folder: Path) -> list[str]:
    """A line for each ratio of a part that is slower in two measurements.

    Raises:
        NotComparableError: see `require_comparable`.
        NothingComparedError: with the reason.
    """
    part = load(name)
    before = json.loads((arguments.stored / f"{name}.json").read_text(encoding="utf-8"))
    slower: dict[str, str] = {}
    for attempt in range(2):
        # Compared before the measurement too: it may take minutes.
        require_comparable(name, before, conditions_now())
        now = record(name, part, False, arguments.work)
        store(folder / f"{name}-{attempt}.json", now)
        require_comparable(name, before, now)
        compared = compare(before["outcome"], now["outcome"], part.RATIOS)
        if all(found.now is None for found in compared):
            raise NothingComparedError(f"{name}: {now['outcome'].get('skipped', 'has no ratios')}")
        say("\n".join(f"{name}: {line(found)}" for found in compared))
        again = {found.path: f"{name}: {line(found)}" for found in compared if found.slower}
        slower = again if attempt == 0 else {p: t for p, t in again.items() if p in slower}
        if not slower:
            break
    return list(slower.values())


def conditions_now() -> dict[str, Any]:
    """A record without an outcome."""
    return {
        "machine": machine.describe(),
        "threads": int(os.environ["OMP_NUM_THREADS"]),
        "wait_policy": os.environ.get("OMP_WAIT_POLICY", ""),
        "outcome": {},
    }


def require_comparable(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """End where a comparison would compare machines, settings or data.

    Raises:
        NotComparableError: what differs, and what to do.
    """
    if before["machine"]["fingerprint"] != now["machine"]["fingerprint"]:
        raise NotComparableError(
            f"{name}: stored on another machine ({machine_line(before['machine'])}) than this one "
            f"({machine_line(now['machine'])}): run `make bench FULL=1` here first, or check there"
        )
    settings = [f"{found['threads']} threads, {found['wait_policy']}" for found in (before, now)]
    if settings[0] != settings[1]:
        raise NotComparableError(
            f"{name}: stored with {settings[0]}, measured with {settings[1]}: give the same "
            "--threads and --wait-policy"
        )
    data = [data_of(found["outcome"]) for found in (before, now)]
    if now["outcome"] and data[0] != data[1]:
        raise NotComparableError(
            f"{name}: stored on dataset {data[0]}, measured on {data[1]}: give the same --dataset"
        )


def data_of(outcome: Mapping[str, Any]) -> Any:
    """What tells one dataset from another, None where a part makes its own data."""
    data = outcome.get("dataset")
    return data.get("fingerprint") if isinstance(data, dict) else data


def machine_line(described: Mapping[str, Any]) -> str:
    """A machine in a few words."""
    return f"{described['processor']}, {described['cores']} cores, {described['memory_gib']} GiB"


def compare(
    before: Mapping[str, Any], now: Mapping[str, Any], ratios: Mapping[str, Better]
) -> list[Compared]:
    """Each declared ratio of the stored outcome beside the new one."""
    compared = []
    for pattern, better in ratios.items():
        new = dict(figures(now, pattern))
        for path, old in figures(before, pattern):
            value = new.get(path)
            slowdown = 1.0
            if value is not None:
                worse, well = (value, old) if better == "lower" else (old, value)
                slowdown = worse / well if well > 0 else float("inf")
            compared.append(Compared(path, old, value, slowdown))
    return compared


def line(found: Compared) -> str:
    """A ratio, before and now."""
    if found.now is None:
        return f"{found.path}: {found.before:.3g} before, not measured now"
    change = f"{abs(found.slowdown - 1):.0%} {'slower' if found.slowdown >= 1 else 'faster'}"
    return f"{found.path}: {found.before:.3g} before, {found.now:.3g} now ({change})"


if __name__ == "__main__":
    main()
