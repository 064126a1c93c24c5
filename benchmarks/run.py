"""Measures parts of the suite and stores each in a file, <part>.json.

`python benchmarks/run.py` takes all parts quickly and leaves what is published as it is; `--full`
measures as thoroughly as that needs, and stores in results/benchmarks/. Run it on an otherwise idle
machine.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine
from benchmarks.part import QUICK, RESULTS, ROOT, WORK, Part, available, figures, load


def main() -> None:
    """Measure, show and store."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(available()))
    parser.add_argument("--full", action="store_true", help="more rounds, larger sizes")
    parser.add_argument(
        "--out", type=Path, help=f"{RESULTS.relative_to(ROOT)}, or without --full {QUICK}"
    )
    add_options(parser)
    arguments = parser.parse_args()
    names = chosen(parser, arguments.parts)
    settle(arguments)
    out = arguments.out or (RESULTS if arguments.full else ROOT / QUICK)
    say(heading())
    for name in names:
        started = time.perf_counter()
        found = record(name, load(name), arguments.full, arguments.work)
        file = out / f"{name}.json"
        if "skipped" in found["outcome"] and file.exists():
            say(f"\n{name}: skipped ({found['outcome']['skipped']}); {file} stays as it is")
            continue
        store(file, found)
        say(f"\n{name} ({time.perf_counter() - started:.0f} s)")
        say("\n".join(shown(load(name), found["outcome"])))
    say(f"\nstored in {out}")


def add_options(parser: argparse.ArgumentParser) -> None:
    """What run.py and check.py share."""
    parser.add_argument("--dataset", type=Path, help="a dataset directory; made if not given")
    parser.add_argument("--work", type=Path, default=WORK, help="data that is made once")
    parser.add_argument("--threads", type=int, default=0, help="0: one per core")
    parser.add_argument("--wait-policy", choices=("active", "passive"), default="passive")


def chosen(parser: argparse.ArgumentParser, names: Sequence[str]) -> list[str]:
    """The parts asked for, or all."""
    for name in names:
        if name not in available():
            parser.error(f"no part '{name}': there are {', '.join(available())}")
    return list(names) or available()


def settle(arguments: argparse.Namespace) -> None:
    """Threads of this process, which must not spin while it waits for others; dataset; folder."""
    from aqcl.runtime import settle_threads
    from benchmarks.data import VARIABLE

    settle_threads(arguments.threads, arguments.wait_policy)
    if arguments.dataset is not None:
        os.environ[VARIABLE] = str(arguments.dataset.resolve())
    arguments.work = arguments.work.resolve()
    arguments.work.mkdir(parents=True, exist_ok=True)


def heading() -> str:
    """Threads, policy, load, machine and versions."""
    described = machine.describe()
    versions = ", ".join(f"{name} {value}" for name, value in machine.versions().items())
    return (
        f"{os.environ['OMP_NUM_THREADS']} threads, {os.environ.get('OMP_WAIT_POLICY')}, load "
        f"{machine.load()}; {described['processor']}, {described['cores']} cores, "
        f"{described['memory_gib']} GiB; {versions}"
    )


def record(name: str, part: Part, full: bool, work: Path) -> dict[str, Any]:
    """The outcome of a part and under what conditions it was measured."""
    from aqcl import __version__
    from aqcl.source_code import code_fingerprint

    load_before = machine.load()
    outcome = part.measure(full, work)
    return {
        "command": f"python benchmarks/run.py {name}" + (" --full" if full else ""),
        "version": __version__,
        "code": code_fingerprint(),
        "machine": machine.describe(),
        "versions": machine.versions(),
        "threads": int(os.environ["OMP_NUM_THREADS"]),
        "wait_policy": os.environ.get("OMP_WAIT_POLICY", ""),
        "load_before": load_before,
        "full": full,
        "outcome": outcome,
    }


def store(path: Path, found: dict[str, Any]) -> None:
    """Write a record so that a reader sees the old one or the new one."""
    from aqcl.storage import atomic_write

    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(found, indent=1, allow_nan=False) + "\n")


def shown(part: Part, outcome: dict[str, Any]) -> list[str]:
    """The part's own lines, or its ratios."""
    lines = getattr(part, "lines", None)
    if lines is not None:
        return list(lines(outcome))
    return [
        f"  {figure.path}: {figure.value:g}"
        for pattern in part.RATIOS
        for figure in figures(outcome, pattern)
    ]


def say(text: str) -> None:
    """Print at once, as parts take minutes."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    # Ends what was started, too: a training that went on alone would meet its own continuation.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    main()
