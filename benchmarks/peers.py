"""Training speed of DIN in public libraries and here: the same rows, sizes, optimizer, machine.

`python benchmarks/peers.py --install DIR` makes an environment for each library, and a checkout of
FuxiCTR, whose wheel comes without the model, is `DIR/FuxiCTR`. `measure` looks for them in the
folder that AQCL_PEERS names, else in `peers` under the work folder; a library that is not there is
reported as not installed. Each library reads its rows through its own data loader and trains with
its own loop; checkpoints and evaluations are left out.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.data import dataset, described
from benchmarks.machine import load
from benchmarks.part import WORK, Better
from benchmarks.peer_rows import BATCH, MAX_HISTORY, Rows, write_rows
from benchmarks.threads import FreshProcessError, Threads, fresh, settings

VARIABLE = "AQCL_PEERS"
TORCH = "torch==2.13.0"
OURS = "aqcl"


class Peer(NamedTuple):
    """A library, its version and what pip installs after torch."""

    name: str
    version: str
    requirements: tuple[str, ...] = ()

    def python(self, folder: Path) -> Path:
        """The interpreter of its environment."""
        return folder / self.name / "bin" / "python"


PEERS = (
    Peer("fuxictr", "2.3.10"),
    Peer("deepctr-torch", "0.3.0", ("requests",)),
    Peer("torch-rechub", "0.9.0"),
    Peer("recbole", "1.2.1", ("setuptools<81", "numpy<2", "pandas<2.3")),
)
# Rounds, steps of the warm-up, timed steps.
QUICK, FULL = (2, 20, 40), (5, 20, 60)

RATIOS: dict[str, Better] = {"settings.*.ours_to_fastest": "higher"}


def measure(full: bool, work: Path) -> dict[str, Any]:
    """Every library and ours in turn, in each thread setting, each time in a fresh process."""
    rounds, warm_steps, timed_steps = FULL if full else QUICK
    path, folder = dataset(work), work / "peer-rows"
    n_rows = export(path, folder, warm_steps, timed_steps)
    environments = Path(os.environ.get(VARIABLE) or work / "peers").resolve()
    pythons = {OURS: Path(sys.executable)}
    state: dict[str, Any] = {OURS: "runs"}
    for peer in PEERS:
        problem = missing(peer, environments)
        state[peer.name] = problem or "runs"
        if problem is None:
            pythons[peer.name] = peer.python(environments)
    os.environ["FUXICTR_CHECKOUT"] = str(environments / "FuxiCTR")
    reports: dict[str, dict[str, list[Any]]] = {}
    loads: dict[str, float] = {}
    for setting, threads in settings().items():
        loads[setting] = load()
        reports[setting] = {name: [] for name in pythons}
        for _ in range(rounds):
            for name in list(pythons):
                try:
                    reports[setting][name].append(run_driver(name, pythons[name], folder, threads))
                except FreshProcessError as error:
                    if name == OURS:
                        raise
                    state[name] = f"does not run: {str(error).splitlines()[-1]}"
                    del pythons[name]
    return {
        "dataset": described(path),
        "rows": n_rows,
        "rounds": rounds,
        "batch_size": BATCH,
        "max_history": MAX_HISTORY,
        "versions": {peer.name: peer.version for peer in PEERS},
        "state": state,
        "settings": {
            setting: {"load_before": loads[setting], **summary(found, pythons)}
            for setting, found in reports.items()
        },
    }


def run_driver(name: str, python: Path, folder: Path, threads: Threads) -> Any:
    """What a driver prints."""
    driver = f"benchmarks.peer_{name.replace('-', '_')}"
    return fresh(["-m", driver, folder], threads, python=python, timeout=600)


def missing(peer: Peer, environments: Path) -> str | None:
    """Why a library cannot be run, or None."""
    if not peer.python(environments).exists():
        return "not installed"
    if peer.name == "fuxictr" and not (environments / "FuxiCTR" / "model_zoo").is_dir():
        return "not installed: no checkout with its models"
    return None


def summary(reports: dict[str, list[Any]], names: Any) -> dict[str, Any]:
    """Medians of a setting, and ours against the fastest library."""
    speeds = {
        name: [round(report["rows"] / report["seconds"]) for report in reports[name]]
        for name in reports
        if name in names
    }
    median = {name: round(statistics.median(values)) for name, values in speeds.items()}
    found: dict[str, Any] = {
        "rows_per_second": median,
        "rows_per_second_all": speeds,
        "logloss": {name: reports[name][-1]["logloss"] for name in speeds},
        "ours_to": {n: round(median[OURS] / v, 2) for n, v in median.items() if n != OURS},
    }
    if found["ours_to"]:
        found["fastest"] = min(found["ours_to"], key=lambda name: found["ours_to"][name])
        found["ours_to_fastest"] = found["ours_to"][found["fastest"]]
    return found


def export(path: Path, folder: Path, warm_steps: int, timed_steps: int) -> int:
    """Write the rows of the first steps of our first epoch for all drivers; their number."""
    from aqcl.dataset import batch_bounds, open_dataset

    opened = open_dataset(path)
    split, schema = opened.train, opened.schema
    order, bounds = split.order(0, 0), batch_bounds(len(split), BATCH)
    warm_steps = min(warm_steps, (len(bounds) - 1) // 2)
    timed_steps = min(timed_steps, len(bounds) - 1 - warm_steps)
    folder.mkdir(parents=True, exist_ok=True)
    cuts = (0, bounds[warm_steps], bounds[warm_steps + timed_steps])
    for name, first, last in (("warm", *cuts[:2]), ("timed", *cuts[1:])):
        batch = split.batch(order[first:last], MAX_HISTORY)
        # As in our model: an entity that training has not seen is the unknown id 1.
        item, clicks = (
            ids.where(ids < schema.n_items, 1).numpy() for ids in (batch.item, batch.history)
        )
        user = batch.user.where(batch.user < schema.n_users, 1).numpy()
        label, length = batch.label.long().numpy(), batch.offsets.diff().numpy()
        rows = Rows(user, item, label, length, clicks, schema.n_users, schema.n_items)
        write_rows(folder, name, rows)
    ours = {
        "dataset": str(path.resolve()),
        "batch_size": BATCH,
        "warm_steps": warm_steps,
        "timed_steps": timed_steps,
    }
    (folder / "ours.json").write_text(json.dumps(ours), encoding="utf-8")
    return int(cuts[2] - cuts[1])


def lines(outcome: dict[str, Any]) -> list[str]:
    """A table for the terminal."""
    rows = [f"  {name}: {state}" for name, state in outcome["state"].items() if state != "runs"]
    for setting, found in outcome["settings"].items():
        rows.append(f"  {setting} (load {found['load_before']})")
        for name, speed in found["rows_per_second"].items():
            ratio = found["ours_to"].get(name)
            note = "" if ratio is None else f"   ours is {ratio:.2f} times as fast"
            rows.append(f"    {name:16}{speed:>9,} rows/s{note}")
    return rows


def install(folder: Path) -> None:
    """Make the environments that are not there yet, torch first so that no CUDA comes along."""
    for peer in PEERS:
        python = peer.python(folder)
        if python.exists():
            continue
        sys.stdout.write(f"{peer.name} {peer.version}\n")
        subprocess.run([sys.executable, "-m", "venv", folder / peer.name], check=True)
        wanted = [f"{peer.name}=={peer.version}", *peer.requirements]
        for packages in ([TORCH], wanted):
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    if not (folder / "FuxiCTR" / "model_zoo").is_dir():
        sys.stdout.write(f"put a checkout of reczoo/FuxiCTR at {folder / 'FuxiCTR'}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--install", type=Path, default=WORK / "peers", metavar="DIR")
    install(parser.parse_args().install)
