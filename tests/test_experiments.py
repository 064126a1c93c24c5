"""The shipped specifications are valid, and what README says of results is what results/ holds."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from aqcl.comparison import compare
from aqcl.config import build, override, read_toml
from aqcl.evaluate import evaluate
from aqcl.experiment import resolve
from aqcl.prepare.pipeline import PrepareSettings
from aqcl.prepare.source import prepare_source
from aqcl.reproduce.cells import Scope, place_of, prepare_values
from aqcl.reproduce.specs import TUNED, load_specs
from aqcl.search.sampling import WARMUP_EVALUATIONS, make_pruner
from tests.evaluated_runs import THRESHOLDS, made_run

ROOT = Path(__file__).resolve().parent.parent
SPECIFICATIONS = sorted(
    path for path in (ROOT / "experiments").glob("*.toml") if "methods" in read_toml(path)
)
EXPERIMENTS = sorted(
    path
    for path in set((ROOT / "experiments").glob("*.toml")) - set(SPECIFICATIONS)
    if "searches" not in read_toml(path)  # those of experiments/alpha.py
)


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "experiments" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", SPECIFICATIONS, ids=lambda path: path.stem)
def test_every_specification_is_a_fair_comparison_of_valid_experiments(path: Path) -> None:
    spec = read_toml(path)
    build(PrepareSettings, spec["prepare"])
    grids = {m["name"]: m.get("grid", spec["penalty"].get("grid")) for m in spec["methods"]}
    assert len({len(grids[m["name"]]) * len(m["options"]) for m in spec["methods"]}) == 1
    seeds = [spec["tuning_seed"], *spec.get("confirm", {"seeds": []})["seeds"]]
    assert not set(seeds) & set(spec["final_seeds"])
    assert len(set(seeds)) == len(seeds)
    assert spec["base"] in {method["name"] for method in spec["methods"]}
    for method in spec["methods"]:
        for options in method["options"]:
            values = {"dataset": "data", **spec["experiment"], **method["settings"]}
            assignments = [f"{key}={value}" for key, value in options.items()]
            assignments.append(f"{spec['penalty']['key']}={grids[method['name']][0]}")
            resolve(override(values, assignments))


def test_the_best_of_a_grid_are_chosen_among_by_the_mean_of_several_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single lucky run wins without `confirm`, not with it."""
    script = load_script("run")
    jobs = [script.Job(tmp_path / name, (f"x={name}",), {}) for name in "abcd"]
    scores = {"a": 0.6, "b": 0.8, "c": 0.7, "d": 0.5, "b-seed1": 0.6, "c-seed1": 0.74}

    def mean_valid(cell: list[Any]) -> float:
        return float(np.mean([scores[job.out.name] for job in cell]))

    monkeypatch.setattr(script, "mean_valid", mean_valid)
    assert script.winner(script.shortlist({}, jobs)) is jobs[1]
    cells = script.shortlist({"confirm": {"best": 2, "seeds": [1]}}, jobs)
    assert [[job.assignments for job in cell] for cell in cells] == [
        [("x=b",), ("x=b", "seed=1")],
        [("x=c",), ("x=c", "seed=1")],
    ]
    assert script.winner(cells) is jobs[2]
    assert (
        script.winner(script.shortlist({"confirm": {"best": 2, "seeds": [1]}}, jobs[:1])) is jobs[0]
    )


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_is_valid(path: Path) -> None:
    resolve(read_toml(path))


def test_readme_holds_the_tables_of_the_results() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert load_script("render").render(readme) == readme


def test_the_page_of_the_paper_holds_its_results() -> None:
    render = load_script("render")
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == render.paper_page()


ONE_SEED = ROOT / "results" / "one-seed"
"""Of winners that one seed chose."""
OUTCOMES = [*(ROOT / "results" / "paper").glob("*.json"), *ONE_SEED.glob("*.json")]


def test_the_simulated_log_is_still_the_one_of_the_stored_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else `--earlier results/paper` refuses its cells: every other log needs files."""
    monkeypatch.setenv("AQCL_CACHE", str(tmp_path / "cache"))
    specs, scope = load_specs(), Scope(tmp_path)
    place = place_of(scope, "oncold", TUNED)
    made = prepare_source(prepare_values(specs, scope, place), place.prepared)
    datasets = [json.loads(path.read_text(encoding="utf-8"))["datasets"] for path in OUTCOMES]
    known = {one["oncold"]["fingerprint"] for one in datasets if "oncold" in one}
    assert known == {made.manifest.fingerprint}


@pytest.mark.parametrize("path", sorted(OUTCOMES), ids=str)
def test_stored_comparisons_follow_from_their_runs(path: Path) -> None:
    """Every mean, deviation, difference, improvement and verdict from the runs' own summaries."""
    outcome = json.loads(path.read_text(encoding="utf-8"))
    assert not outcome["quick"]
    for comparison in outcome["comparisons"]:
        if comparison["comparison"] is None:
            continue
        aucs: dict[tuple[str, str], list[float]] = {}
        for run in comparison["runs"]:
            for group, auc in run["auc"].items():
                aucs.setdefault((run["label"], group), []).append(auc)
        rows = comparison["comparison"]["rows"]
        assert {(r["configuration"], r["group"]) for r in rows} == aucs.keys()
        for one in rows:
            own = np.array(aucs[one["configuration"], one["group"]])
            base = np.array(aucs[comparison["base"], one["group"]])
            assert len(own) == outcome["seeds"]
            assert one["auc"] == pytest.approx(own.mean(), abs=1e-9)
            assert one["auc_sd"] == pytest.approx(own.std(ddof=1), abs=1e-9)
            assert one["difference"] == pytest.approx(own.mean() - base.mean(), abs=1e-9)
            ratio = ((own.mean() - 0.5) / (base.mean() - 0.5) - 1) * 100
            assert one["rela_impr"] == pytest.approx(ratio, abs=1e-6)
            if one["verdict"] == "better":
                assert one["difference_low"] > 0
            if one["verdict"] == "worse":
                assert one["difference_high"] < 0
        for claim in comparison["claims"]:
            if claim["verdict"] != "not run":
                pair = [
                    np.mean(aucs[name, claim["group"]]) for name in (claim["method"], claim["base"])
                ]
                assert claim["difference"] == pytest.approx(pair[0] - pair[1], abs=1e-9)
                assert (claim["verdict"] == "yes") == (claim["difference_low"] > 0)


def test_restated_intervals_are_nearly_those_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a tenth of their width; p within a factor of two where it is not tiny."""
    runs = {
        "DIN": [made_run(1.0 + 0.05 * s, s) for s in range(5)],
        "AQCL": [made_run(1.3 - 0.1 * s, 10 + s) for s in range(5)],
    }
    anew = compare(runs, "DIN", THRESHOLDS, 400).to_json()
    with monkeypatch.context() as former:
        former.setattr("aqcl.bootstrap.seed_spread", lambda n_seeds: 1.0)
        stored = compare(runs, "DIN", THRESHOLDS, 400).to_json()
    del stored["intervals"]
    results = {
        "comparisons": {"best": stored},
        "runs": [
            {
                "method": name,
                "cell": "best",
                "seed": seed,
                "test": evaluate(run, THRESHOLDS, 1).to_json(),
            }
            for name, seeds in runs.items()
            for seed, run in enumerate(seeds)
        ],
    }
    narrow = [dict(row) for row in stored["rows"]]
    restate = load_script("restate").restate
    assert restate(results)
    assert stored["intervals"] == "restated"
    for old, got, expected in zip(narrow, stored["rows"], anew["rows"], strict=True):
        names = ["auc"] + ["difference", "rela_impr"] * (old["configuration"] == "AQCL")
        for name in names:
            width, wanted = (r[f"{name}_high"] - r[f"{name}_low"] for r in (got, expected))
            assert width > old[f"{name}_high"] - old[f"{name}_low"]
            assert width == pytest.approx(wanted, rel=0.15)
            for end in (f"{name}_low", f"{name}_high"):
                assert got[end] == pytest.approx(expected[end], abs=0.12 * wanted)
    assert not restate(results)  # once only


def row(configuration: str, auc: float, **more: Any) -> dict[str, Any]:
    return {"configuration": configuration, "group": "all", "users": 1000, "auc": auc} | more


def test_rendering_shows_what_the_results_hold(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    render = load_script("render")
    compared = row("DIN+AQCL", 0.76, auc_sd=0.001, difference=0.01, difference_low=-0.002)
    compared |= {"difference_high": 0.022, "rela_impr": 4.0, "verdict": "no difference shown"}
    results = {
        "command": "python run",
        "specification": {"final_seeds": [1, 2], "base": "DIN", "penalty": {"grid": [1, 2, 3]}},
        "comparisons": {"best": {"rows": [row("DIN", 0.75, auc_sd=0.002), compared]}},
        "yardsticks": {"popularity": {"groups": [{"auc": 0.6245}]}},
        "winners": {"DIN": {"train": {"embedding_l2": 3}}},
        "tuning": {"DIN": [{}] * 12},
    }
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "beauty-ids.json").write_text(json.dumps(results))
    monkeypatch.setattr(render, "ROOT", tmp_path)
    text = render.render("x\n<!-- results:beauty-ids -->\nold\n<!-- /results:beauty-ids -->\ny")
    assert text.startswith("x\n")
    assert text.endswith("\ny")
    assert "old" not in text
    assert "0.7500 ± 0.0020" in text
    assert "+0.0100 [-0.0020, +0.0220]" in text
    assert "no difference shown" in text
    assert "popularity 0.6245" in text
    assert "AT THE EDGE of the grid" in text


@pytest.mark.parametrize(
    ("method", "file"), [("DIN", "beauty-din"), ("DIN+AQCL", "beauty-din-aqcl")]
)
def test_the_shipped_winners_are_those_of_the_results(method: str, file: str) -> None:
    results = json.loads((ROOT / "results" / "beauty-ids.json").read_text(encoding="utf-8"))
    winner = {**results["winners"][method], "name": method}
    assert read_toml(ROOT / "experiments" / f"{file}.toml") == winner
    assert resolve(winner) == resolve(read_toml(ROOT / "experiments" / f"{file}.toml"))


def test_the_tuned_baseline_is_sound_and_its_penalty_inside_the_grid() -> None:
    results = json.loads((ROOT / "results" / "beauty-ids.json").read_text(encoding="utf-8"))
    best = {
        row["configuration"]: row["auc"]
        for row in results["comparisons"]["best"]["rows"]
        if row["group"] == "all"
    }
    assert best["DIN"] >= 0.75
    assert best["DIN"] > max(e["groups"][0]["auc"] for e in results["yardsticks"].values())
    grid = results["specification"]["penalty"]["grid"]
    for winner in results["winners"].values():
        assert min(grid) < winner["train"]["embedding_l2"] < max(grid)
    assert {len(runs) for runs in results["tuning"].values()} == {12}


def test_the_median_stops_what_starts_slowly_and_ends_best() -> None:
    replay = load_script("pruning").replay
    fast, slow = [0.7, 0.72, 0.72, 0.72], [0.6, 0.65, 0.7, 0.8]
    whole = replay([fast] * 4 + [slow], warm_up=4)
    assert whole == {"best_valid_auc": 0.8, "trials_ended": 5, "evaluations": 20}
    judged = replay([fast] * 4 + [slow], warm_up=1)
    assert judged == {"best_valid_auc": 0.72, "trials_ended": 4, "evaluations": 18}


def test_the_replay_stops_what_a_search_would_stop() -> None:
    found = json.loads((ROOT / "results" / "pruning.json").read_text(encoding="utf-8"))
    study = optuna.create_study(direction="maximize", pruner=make_pruner("median"))
    evaluations = 0
    for curve in (trial["valid_auc"] for trial in found["trials"]):
        trial = study.ask()
        for number in range(1, len(curve) + 1):
            trial.report(max(curve[:number]), number)
            evaluations += 1
            if number < len(curve) and trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, max(curve))
    ended = study.get_trials(states=[TrialState.COMPLETE])
    assert found["median"][str(WARMUP_EVALUATIONS)] == {
        "best_valid_auc": study.best_value,
        "trials_ended": len(ended),
        "evaluations": evaluations,
    }


def test_the_guide_tells_what_the_replay_found() -> None:
    found = json.loads((ROOT / "results" / "pruning.json").read_text(encoding="utf-8"))
    curves = [trial["valid_auc"] for trial in found["trials"]]
    replay = load_script("pruning").replay
    assert replay(curves, 99) == found["whole"]
    for warm_up, told in found["median"].items():
        assert replay(curves, int(warm_up)) == told
    guide = (ROOT / "docs" / "how-to" / "search.md").read_text(encoding="utf-8")
    assert f"{found['whole']['best_valid_auc']:.4f}" in guide
    reached = [one["best_valid_auc"] for one in found["median"].values()]
    assert f"{min(reached):.4f} to {max(reached):.4f} would have won" in guide


def test_the_reading_quotes_numbers_that_stand_in_tables() -> None:
    """Whoever reads results by hand must not quote what is not, or no longer, there."""
    reading = (ROOT / "results" / "paper" / "reading.md").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8").replace(reading.strip(), "")
    readme, guide = (
        (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/how-to/search.md")
    )
    one_seed, constants = (
        json.loads((ONE_SEED / f"{name}.json").read_text("utf-8")) for name in ("table2", "figure5")
    )
    (din, aqcl) = (
        row
        for row in one_seed["comparisons"][0]["comparison"]["rows"]
        if row["group"] == "all" and row["configuration"] in ("DIN", "AQCL")
    )
    searched = next(
        r for r in constants["comparisons"][0]["comparison"]["rows"] if r["group"] == "all"
    )
    earlier = "; ".join(f"{row['auc']:.4f} ± {row['auc_sd']:.4f}" for row in (din, searched))
    chosen = one_seed["studies"]["beauty/din"]["methods"]["DIN"]["parameters"]
    earlier += f"; {chosen['train.embedding_l2']:.4f}"
    low, high = (f"{aqcl[f'rela_impr_{end}']:+.2f}" for end in ("low", "high"))
    for text in (reading, readme):
        assert f"{aqcl['rela_impr']:.2f}%" in " ".join(text.split())
    assert f"{aqcl['rela_impr']:.2f}% [{low}, {high}]" in readme
    assert f"{din['auc']:.4f}" in guide
    tables = page + readme + earlier
    quoted = re.findall(r"0\.\d{4}(?: ± 0\.\d{4})?", reading)
    assert quoted
    assert [number for number in quoted if number not in tables] == []
    relative = re.findall(r"[-+]\d+\.\d\d(?=%)", reading)
    assert relative
    with_intervals = []
    for text in (reading, readme):
        found = re.findall(r"[-+]\d+\.\d\d% \[[^\]]+\]", text)
        assert found
        with_intervals += found
    known = f"{page} {low}% {high}%"
    assert [number for number in relative + with_intervals if number not in known] == []


def test_the_readme_quotes_numbers_that_stand_in_tables() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    said = " ".join(re.sub(r"<!-- results:.*?<!-- /results:", "", readme, flags=re.S).split())
    reading = (ROOT / "results" / "paper" / "reading.md").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8").replace(reading.strip(), "")
    aucs = re.findall(r"\b0\.\d{4}\b", said)
    improvements = re.findall(r"[-+]\d+\.\d\d%(?: \[[^\]]+\])?", said)
    assert len(aucs) >= 5
    assert len(improvements) >= 6
    assert [number for number in aucs + improvements if number not in page] == []
    # In any other form, numbers would not be looked for.
    assert re.findall(r"\d+\.\d%", said) == []


def test_the_pages_tell_what_five_seeds_can_show() -> None:
    paper, ids = (
        json.loads((ROOT / "results" / name).read_text(encoding="utf-8"))
        for name in ("paper/table2.json", "beauty-ids.json")
    )
    made = [(one["dataset"], one["comparison"]) for one in paper["comparisons"]]
    made += [("beauty", one) for one in ids["comparisons"].values()]
    halves: dict[str, list[float]] = {"beauty": [], "ta-feng": []}
    for dataset, comparison in made:
        for one in comparison["rows"] if comparison and dataset in halves else ():
            judged = one["verdict"] != "base" and one["configuration"] not in ids["yardsticks"]
            if judged and one["group"] == "all":
                halves[dataset].append((one["rela_impr_high"] - one["rela_impr_low"]) / 2)
    told = {name: f"{min(found):.0f} to {max(found):.0f}%" for name, found in halves.items()}
    readme, tutorial = (
        " ".join((ROOT / page).read_text(encoding="utf-8").split())
        for page in ("README.md", "docs/tutorial.md")
    )
    sentence = "{beauty} on data like Beauty, {ta-feng} on data like Ta Feng"
    assert f"gains that five seeds show are {sentence.format_map(told)}" in readme
    assert f"that half was {told['beauty']} RelaImpr" in tutorial
    assert f"and {told['ta-feng']} on a quarter of Ta Feng" in tutorial


def test_the_readme_names_the_backbones_that_are_measured_on_beauty() -> None:
    results = json.loads((ROOT / "results" / "paper" / "table3.json").read_text(encoding="utf-8"))
    aucs = {
        one["configuration"]: f"{one['auc']:.4f}"
        for found in results["comparisons"]
        if found["dataset"] == "beauty" and found["comparison"]
        for one in found["comparison"]["rows"]
        if one["group"] == "all"
    }
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    quoted = "its test AUC is {DIN}, DeepFM's {DeepFM} and Wide&Deep's {WideDeep}"
    assert quoted.format_map(aucs) in readme
