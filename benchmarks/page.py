"""Writes the tables and plots of docs/performance.md from results/: `python benchmarks/page.py`.

With a folder of other records it writes the page they make beside them.

What has not been measured says so. No table of the page is typed by hand.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from experiments.render import tuning_lines

from aqcl.comparison import finding, restated
from benchmarks.extrapolation import extrapolation, limits
from benchmarks.part import PARTS, RESULTS, ROOT
from benchmarks.plots import PLOTS, draw

PAGE = ROOT / "docs" / "performance.md"
FIGURES = ROOT / "docs" / "figures"
QUALITY = ("beauty-optimizers", "beauty-cheaper")
"""Comparisons of experiments/run.py that the page shows too."""
NOT_RUN = "*Not run.*"
MARKED = re.compile(r"(<!-- bench:(\S+) -->\n).*?(<!-- /bench:\2 -->)", re.DOTALL)
Records = Mapping[str, dict[str, Any]]


def main() -> None:
    """Write the page, draw its plots."""
    from aqcl.storage import atomic_write

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("records", type=Path, nargs="?", default=RESULTS)
    folder = parser.parse_args().records
    is_published = folder.resolve() == RESULTS
    records = stored(folder)
    page, figures = (PAGE, FIGURES) if is_published else (folder / PAGE.name, folder / "figures")
    atomic_write(page, rendered(PAGE.read_text(encoding="utf-8"), records))
    draw(records, figures)
    sys.stdout.write(f"{page}\n")


def stored(results: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """The records there are, by part; quality comparisons lie one folder above."""
    places = {name: results / f"{name}.json" for name in PARTS}
    places |= {name: results.parent / f"{name}.json" for name in QUALITY}
    return {
        name: json.loads(path.read_text(encoding="utf-8"))
        for name, path in places.items()
        if path.exists()
    }


def rendered(page: str, records: Records) -> str:
    """The page with each marked block written anew."""

    def block(match: re.Match[str]) -> str:
        return f"{match[1]}{BLOCKS[match[2]](records)}\n{match[3]}"

    return MARKED.sub(block, page)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def conditions(record: Mapping[str, Any]) -> str:
    """How a record was made, in a line."""
    machine = record["machine"]
    return (
        f"`{record['command']}`: {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, torch {record['versions']['torch']}, load before "
        f"{record['load_before']}."
    )


def of(part: str, make: Callable[[dict[str, Any]], str]) -> Callable[[Records], str]:
    """A block that needs one record and names its conditions."""

    def block(records: Records) -> str:
        if part not in records or records[part]["outcome"].get("skipped"):
            return NOT_RUN
        record = records[part]
        shown = [
            f"![{(plot.__doc__ or name).strip()}](figures/performance-{name}.svg)"
            for name, (source, plot) in PLOTS.items()
            if source == part
        ]
        return "\n\n".join([make(record["outcome"]), conditions(record), *shown])

    return block


def steps(outcome: dict[str, Any]) -> str:
    """Time of a step in each thread setting."""
    rows = []
    for setting, found in outcome["settings"].items():
        for name, step in found["step_ms"].items():
            added, ratio = found["added_ms"].get(name), found["ratio"].get(name)
            rows.append(
                [
                    setting,
                    name,
                    f"{step:.1f}",
                    "" if added is None else f"{added:.1f}",
                    "" if ratio is None else f"{ratio:.2f}",
                    f"{found['rows_per_second'][name]:,}",
                ]
            )
    data = outcome["dataset"]
    head = ["threads", "model", "ms a step", "added", "times DIN", "rows/s"]
    about = f"{data['name']}: {data['rows']:,} rows, mean history {data['mean_history']}."
    return f"{table(head, rows)}\n\n{about}"


def peers(outcome: dict[str, Any]) -> str:
    """Rows per second beside other libraries."""
    speeds = [found["rows_per_second"] for found in outcome["settings"].values()]
    names = list(dict.fromkeys(name for found in speeds for name in found))
    rows = [
        [
            setting,
            *(f"{found['rows_per_second'].get(name, 0):,}" for name in names),
            f"{found['ours_to_fastest']:.2f} ({found['fastest']})",
        ]
        for setting, found in outcome["settings"].items()
    ]
    idle = [f"{name} {state}" for name, state in outcome["state"].items() if state != "runs"]
    versions = ", ".join(f"{name} {version}" for name, version in outcome["versions"].items())
    rounds = [found["rows_per_second_all"].values() for found in outcome["settings"].values()]
    spread = max(max(cell) / min(cell) - 1 for cells in rounds for cell in cells)
    about = (
        f"Rows a second, medians of {outcome['rounds']} rounds, of which the quickest of a cell is "
        f"up to {spread:.0%} above its slowest; {versions}."
    )
    return "\n\n".join([table(["threads", *names, "aqcl to the fastest"], rows), about, *idle])


def roofline(outcome: dict[str, Any]) -> str:
    """Predicted and measured time of each item of a step."""
    parts = []
    for threads, models in outcome["threads"].items():
        plural = "thread" if threads == "1" else "threads"
        totals: list[tuple[float, float, float]] = []
        for model, found in models.items():
            uncached = {
                name: item["predicted_ms"] + ms_beyond_caches(item["bytes"], found["rates"])
                for name, item in found["items"].items()
            }
            by_torch = {
                name: time + ms_by_torch(name, found["items"][name], found["rates"])
                for name, time in uncached.items()
            }
            rows = [
                [
                    name,
                    f"{item['flops'] / 1e6:.0f}",
                    f"{item['bytes'] / 1e6:.1f}",
                    f"{item['operations']:.0f}",
                    f"{item['predicted_ms']:.2f}",
                    f"{uncached[name]:.2f}",
                    f"{by_torch[name]:.2f}",
                    f"{item['measured_ms']:.2f}",
                    f"{item['measured_ms'] - by_torch[name]:+.2f}",
                ]
                for name, item in found["items"].items()
            ]
            head = ["item", "MFLOP", "MB", "operations"]
            head += [f"{kind} ms" for kind in ("predicted", "uncached", "torch's", "measured")]
            totals.append((found["step_ms"], found["predicted_ms"], sum(uncached.values())))
            step, predicted, beyond = totals[-1]
            parts.append(
                f"{model}, {threads} {plural}: a step takes {step:.1f} ms, predicted "
                f"{predicted:.1f}, uncached {beyond:.1f}, by torch's products "
                f"{sum(by_torch.values()):.1f}; *measured* sums to {found['profiler_ms']:.1f} ms "
                f"more than a step.\n\n{table([*head, 'left'], rows)}"
            )
        step, predicted, beyond = (large / small for small, large in zip(*totals, strict=True))
        parts.append(
            f"{' over '.join(reversed(models))}, {threads} {plural}: a step takes {step:.2f} times "
            f"as long, predicted {predicted:.2f}, uncached {beyond:.2f}."
        )
    return "\n\n".join(parts)


def ms_beyond_caches(n_bytes: float, rates: Mapping[str, float]) -> float:
    """What moving bytes takes more where no cache holds them."""
    slow, fast = rates["memory_gb_per_second"], rates["copy_gb_per_second"]
    return n_bytes / 1e6 * (1 / slow - 1 / fast)


def ms_by_torch(name: str, item: Mapping[str, float], rates: Mapping[str, float]) -> float:
    """What products of an item take more by the library that torch takes than by the faster one.

    Those of the contrast go to the faster one.
    """
    slower = rates["gemm_gflops"] / rates["gemm_gflops_by_torch"] - 1
    return 0.0 if name == "contrast" else item["products_ms"] * slower


def optimizers(outcome: dict[str, Any]) -> str:
    """Step time by number of users."""
    by_name = outcome["optimizers"]
    users = list(next(iter(by_name.values())))
    rows = [
        [
            f"`{name}`",
            *(f"{found[u]['step_ms']:.1f}{own_memory(found[u], 'held_anon_mib')}" for u in users),
            f"{outcome['growth'][name]:.2f}",
        ]
        for name, found in by_name.items()
    ]
    about = (
        f"Milliseconds a step, and memory held, of DIN alone, ids only: batches of "
        f"{outcome['batch_size']} rows, mean history {outcome['mean_history']}, "
        f"{outcome['items']:,} items, {outcome['threads']}."
    )
    made = table(["optimizer", *(f"{int(u):,} users" for u in users), "last / first"], rows)
    return f"{made}\n\n{about}"


def own_memory(found: Mapping[str, float], key: str = "peak_anon_mib") -> str:
    """Memory of its own in brackets, where it was measured."""
    return f" ({found[key]:,.0f} MiB)" if key in found else ""


def growth(outcome: dict[str, Any]) -> str:
    """Time and memory of each stage by size of the log."""
    rows = []
    for size, stages in outcome["sizes"].items():
        for stage, found in stages.items():
            ratio = outcome["ratios"].get(stage, {}).get(size)
            rows.append(
                [
                    f"{int(size):,}",
                    stage,
                    f"{found['seconds']:.1f}",
                    f"{found['microseconds_per_row']:.2f}",
                    "" if ratio is None else f"{ratio:.2f}",
                    f"{found['peak_anon_mib']:,.0f}",
                    f"{found['peak_file_mib']:,.0f}",
                ]
            )
    head = ["rows of the log", "stage", "s", "µs a row", "times the size before"]
    return table([*head, "MiB of its own", "MiB of mapped files"], rows)


def oncold(outcome: dict[str, Any]) -> str:
    """The stages of the paper-sized log."""
    rows = [
        [
            stage,
            f"{found['wall_seconds']:,.0f}",
            f"{found['cpu_seconds']:,.0f}",
            f"{found['peak_rss_mib']:,.0f}",
            f"{found['peak_anon_mib']:,.0f}",
        ]
        for stage, found in outcome["stages"].items()
    ]
    head = ["stage", "s", "s of processor", "MiB resident at most", "of them its own"]
    training, sittings = outcome["training"], outcome["stages"].get("train", {}).get("sittings", 1)
    begun_anew = f", in {sittings} sittings" if sittings > 1 else ""
    return (
        f"{table(head, rows)}\n\n{outcome['rows']:,} samples; training: "
        f"{training['rows']:,} rows in {training['step']:,} steps of "
        f"{training['step_seconds']:,.0f} s together ({training['rows_per_second']:,} rows/s), of "
        f"which {training['data_wait']:.1%} was waiting for data, and {training['evaluations']} "
        f"evaluations{begun_anew}; {outcome['threads']} thread, settings "
        f"{json.dumps(outcome['train'])}, {json.dumps(outcome['regularizer'])}."
    )


def evaluation(outcome: dict[str, Any]) -> str:
    """Time and memory of an evaluation by number of rows."""
    rows = [
        [
            f"{int(size):,}",
            f"{found['wall_seconds']:.1f}",
            f"{found['cpu_seconds']:.1f}",
            f"{found['cpu_microseconds_per_row']:.2f}",
            f"{found['peak_rss_mib']:,.0f}{own_memory(found)}",
        ]
        for size, found in outcome["sizes"].items()
    ]
    head = ["rows", "s", "s of processor", "µs of it a row", "MiB resident at most (its own)"]
    about = (
        f"{outcome['replicates']} resamples of the users. Of its own memory, 33 bytes a row are "
        "the scores and their columns, made in memory here, and 8 a sort to compare the time with."
    )
    return f"{table(head, rows)}\n\n{about}"


def quality(name: str) -> Callable[[Records], str]:
    """A block for a comparison of test AUCs."""

    def block(records: Records) -> str:
        if name not in records:
            return NOT_RUN
        record = records[name]
        comparison = record["comparisons"]["best"]
        rows = []
        for row in comparison["rows"]:
            if row["group"] not in ("all", "non-active"):
                continue
            low, high = row["difference_low"], row["difference_high"]
            difference = "" if row["verdict"] == "base" else f"{row['difference']:+.4f}"
            found = finding(row["verdict"], row.get("holm"))
            interval = "" if row["verdict"] == "base" else f"[{low:+.4f}, {high:+.4f}]"
            spread = f"{row['auc']:.4f} ± {row['auc_sd']:.4f}"
            rows.append([row["configuration"], row["group"], spread, difference, interval, found])
        head = ["method", "users", "test AUC", "difference", "95% interval", "verdict"]
        about = f"`{record['command']}`, {row['seeds']} seeds.{restated(comparison)}"
        return f"{table(head, rows)}\n\n{' '.join([about, *tuning_lines(record)]).strip()}"

    return block


def reproduction(outcome: dict[str, Any]) -> str:
    """The time of a quick look at the paper's tables and figures."""
    return (
        f"`{outcome['command']}` took {outcome['wall_seconds'] / 60:.0f} minutes, "
        f"{outcome['cpu_seconds'] / 60:.0f} of processor, and {outcome['peak_anon_mib']:,.0f} MiB "
        f"of its own, all processes together; {outcome['finished']} of {outcome['cells']} cells "
        "have finished. Those of Amazon Beauty need a file, which was not named."
    )


BLOCKS: Mapping[str, Callable[[Records], str]] = {
    "steps": of("steps", steps),
    "peers": of("peers", peers),
    "roofline": of("roofline", roofline),
    "optimizers": of("optimizers", optimizers),
    "growth": of("growth", growth),
    "oncold": of("oncold", oncold),
    "evaluation": of("evaluation", evaluation),
    "reproduction": of("reproduction", reproduction),
    "extrapolation": extrapolation,
    "limits": limits,
    **{name: quality(name) for name in QUALITY},
}


if __name__ == "__main__":
    main()
