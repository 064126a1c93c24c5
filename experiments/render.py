"""Writes docs/results.md, and between markers README.md and docs/alpha.md, from results/.

`python experiments/render.py` rewrites them; with `--check` it only compares and ends with exit
code 1 if one is out of date.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import alpha_page

from aqcl.comparison import finding, restated

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
ALPHA = ROOT / "docs" / "alpha.md"
PAPER = ROOT / "results" / "paper"
PAGE = ROOT / "docs" / "results.md"
FIGURES = "figures/paper/"
"""Of the page, seen from it."""


def main() -> None:
    """Render or check."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    pages = {page: render(page.read_text(encoding="utf-8")) for page in (README, ALPHA)}
    pages[PAGE] = paper_page()
    if check:
        old = [page.name for page, text in pages.items() if page.read_text("utf-8") != text]
        if old:
            sys.exit(f"{', '.join(old)} differs: run python experiments/render.py")
        return
    for page, text in pages.items():
        page.write_text(text, encoding="utf-8")
    draw()
    draw_alphas()


def paper_page() -> str:
    """The page of the paper's tables and figures."""
    from aqcl.reproduce.results_page import read_outcomes, results_page

    reading = (PAPER / "reading.md").read_text(encoding="utf-8")
    return results_page(read_outcomes(PAPER), FIGURES, reading)


def draw() -> None:
    """Draw the figures of the page."""
    from aqcl.figures import save
    from aqcl.reproduce.pictures import figures_of
    from aqcl.reproduce.results_page import read_outcomes

    folder = PAGE.parent / FIGURES
    folder.mkdir(parents=True, exist_ok=True)
    for outcome in read_outcomes(PAPER):
        for name, figure in figures_of(outcome).items():
            save(figure, folder / name, ("svg",))


def render(text: str) -> str:
    """The text with each marked table made anew from its results, if they are there."""
    for name, make in TABLES.items():
        file = ROOT / "results" / f"{name}.json"
        if not file.exists():
            continue
        table = make(json.loads(file.read_text(encoding="utf-8")))
        start, end = f"<!-- results:{name} -->", f"<!-- /results:{name} -->"
        before, found, rest = text.partition(start)
        _, closed, after = rest.partition(end)
        if found and closed:
            text = f"{before}{start}\n{table}\n{end}{after}"
    return text


def comparison(results: dict[str, Any]) -> str:
    """DIN against DIN + AQCL at each method's best penalty and at the fixed ones."""
    seeds = len(results["specification"]["final_seeds"])
    note = restated(results["comparisons"]["best"])
    lines = [
        f"`{results['command']}`: test AUC, mean of {seeds} seeds; difference with its paired "
        f"95% interval over users and seeds.{note}",
        "",
        "| embedding penalty | users | DIN | DIN + AQCL | difference | RelaImpr | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    base = results["specification"]["base"]
    for label, compared in results["comparisons"].items():
        rows = compared["rows"]
        for row in rows:
            if row["configuration"] == base:
                continue
            other = next(
                r for r in rows if r["group"] == row["group"] and r["configuration"] == base
            )
            penalty = "each method's best" if label == "best" else label
            lines.append(
                f"| {penalty} | {row['group']} ({row['users']:,}) "
                f"| {with_sd(other)} | {with_sd(row)} "
                f"| {row['difference']:+.4f} [{row['difference_low']:+.4f}, "
                f"{row['difference_high']:+.4f}] | {row['rela_impr']:+.2f}% "
                f"| {finding(row['verdict'], row.get('holm'))} |"
            )
    return "\n".join([*lines, "", *yardstick_lines(results), "", *tuning_lines(results)])


def with_sd(row: dict[str, Any]) -> str:
    """Mean and standard deviation over the seeds."""
    return f"{row['auc']:.4f} ± {row['auc_sd']:.4f}"


def yardstick_lines(results: dict[str, Any]) -> list[str]:
    """What needs no training, on the same rows."""
    found = [
        f"{name} {evaluation['groups'][0]['auc']:.4f}"
        for name, evaluation in results["yardsticks"].items()
    ]
    return [f"Not trained, on the same rows: {', '.join(found)}."]


def tuning_lines(results: dict[str, Any]) -> list[str]:
    """What the grid on validation chose, and whether it lies inside the grid."""
    spec, lines = results["specification"], []
    own_grids = {m["name"]: m["grid"] for m in spec.get("methods", ()) if "grid" in m}
    for method, runs_of_method in results["tuning"].items():
        penalty = results["winners"][method]["train"]["embedding_l2"]
        grid = own_grids.get(method) or spec["penalty"]["grid"]
        runs_said = f"{len(runs_of_method)} runs on validation"
        if confirmed := results.get("confirmed", {}).get(method):
            seeds = confirmed[0]["seeds"] - 1
            runs_said += f", and {seeds} more of each of the best {len(confirmed)},"
        inside = "inside" if min(grid) < penalty < max(grid) else "AT THE EDGE of"
        lines.append(f"{method}: {runs_said} chose penalty {penalty:g}, {inside} the grid.")
    return [" ".join(lines)]


def alpha(results: dict[str, Any]) -> str:
    """Constant alpha against the searched curve, and what each search cost."""
    return alpha_page.block(results, f"figures/{alpha_name(results)}.svg")


def alpha_name(results: dict[str, Any]) -> str:
    """Of the specification, which results and figure share."""
    return Path(results["command"].split()[-1]).stem


def draw_alphas() -> None:
    """The figure of each outcome of experiments/alpha.py."""
    from aqcl.figures import save

    for name, make in TABLES.items():
        file = ROOT / "results" / f"{name}.json"
        if make is alpha and file.exists():
            results = json.loads(file.read_text(encoding="utf-8"))
            out = ALPHA.parent / "figures" / alpha_name(results)
            out.parent.mkdir(exist_ok=True)
            save(alpha_page.picture(results), out, ("svg",))


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "beauty-ids": comparison,
    "beauty-alpha": alpha,
    "ta-feng-alpha": alpha,
}

if __name__ == "__main__":
    main()
