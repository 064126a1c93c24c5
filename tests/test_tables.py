import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType
from rich.table import Table

from aqcl.activity import GROUPS
from aqcl.assessment import RunComparison, compare_runs
from aqcl.comparison import Comparison, ComparisonRow, Verdict
from aqcl.dataset import Dataset
from aqcl.describe import Description, Kind, describe
from aqcl.evaluate import ALL, Evaluation, GroupEvaluation
from aqcl.experiment import resolve
from aqcl.runs import Run
from aqcl.splits import SplitName
from aqcl.storage import Manifest
from aqcl.tables import comparison_table, dataset_table, evaluation_table, options_table
from aqcl.wording import NOT_AFTER_HOLM, below_lines, few_seeds
from tests.run_directories import scored_run, small_dataset

YARDSTICKS = ("popularity", "item-CF + popularity", "attribute overlap + popularity")


def shown(what: RenderableType, width: int = 100) -> str:
    """What a terminal shows, with what does not fit cut off as there."""
    file = io.StringIO()
    console = Console(file=file, width=width, markup=False, emoji=False, color_system=None)
    console.print(what)
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    return "\n".join(line.rstrip() for line in lines)


def row(configuration: str, group: str, **values: Any) -> ComparisonRow:
    verdict: Verdict = "better"
    made = ComparisonRow(
        configuration=configuration,
        group=group,
        rows=53_754_238,
        users=908_400,
        positives=9_400_123,
        seeds=5,
        auc=0.7312,
        auc_low=0.72,
        auc_high=0.74,
        auc_sd=0.0021,
        difference=0.0123,
        difference_low=0.0101,
        difference_high=0.0234,
        rela_impr=12.34,
        rela_impr_low=10.12,
        rela_impr_high=14.56,
        verdict=verdict,
    )
    return dataclasses.replace(made, **values)


def comparison(
    *rows: ComparisonRow, runs: tuple[str, ...] = ("DIN",), **content: Any
) -> RunComparison:
    facts = {
        "name": "log",
        "simulated": False,
        "notes": ["12 rows left out"],
        "protocol": {"split": "last-days", "labels": "impressions"},
    }
    manifest = Manifest("aqcl-dataset", "f", {}, content=facts | content)
    return RunComparison(
        Comparison(rows, runs[0], (3, 12), 1000, 0),
        Dataset(Path("data"), manifest),
        "test",
        {name: (Path(name),) for name in runs},
        tuple(name for name in YARDSTICKS if name in {r.configuration for r in rows}),
    )


def full_comparison() -> RunComparison:
    rows = []
    for group in (ALL, *GROUPS):
        rows.append(row("DIN", group, verdict="base", rela_impr=0.0))
        rows.append(row("DIN+AQCL", group))
        rows += [
            row(name, group, seeds=1, auc_sd=None, verdict="too little to tell")
            for name in YARDSTICKS
        ]
    return comparison(*rows, runs=("DIN", "DIN+AQCL"))


def test_a_comparison_is_whole_at_100_columns() -> None:
    text = shown(comparison_table(full_comparison()))
    lines = text.splitlines()
    wanted = ["DIN+AQCL (5 seeds)", "0.7312 ± 0.0021", "+12.34% [+10.12, +14.56]", "better"]
    assert sum(all(word in line for word in wanted) for line in lines) == 4
    wanted = ["attribute overlap + popularity *", "0.7312", "too little to tell"]
    assert sum(all(word in line for word in wanted) for line in lines) == 4
    heading = "method AUC ± sd RelaImpr [95% interval] verdict"
    assert sum(" ".join(line.split()) == heading for line in lines) == 4
    assert "…" not in text


def test_the_counts_of_each_group_stand_in_one_line_with_its_range() -> None:
    text = shown(comparison_table(full_comparison()), 80)
    counts = ": 53,754,238 rows, 908,400 users, 9,400,123 clicks"
    assert f"\nall users{counts}\n" in text
    joined = " ".join(text.split())
    assert f"non-active, 0 to 3 clicks{counts}" in joined
    assert f"slightly-active, 4 to 12 clicks{counts}" in joined
    assert f"highly-active, 13+ clicks{counts}" in joined


@pytest.mark.parametrize("width", [80, 100, 120])
def test_every_number_of_a_comparison_is_whole(width: int) -> None:
    text = shown(comparison_table(full_comparison()), width)
    assert "Few seeds" not in text
    assert text.count("+12.34% [+10.12, +14.56]") == 4 * 4
    assert text.count("0.7312 ± 0.0021") == 4 * 2
    assert text.count("0.7312") >= 4 * 5
    words = text.split()
    assert words.count("little") == words.count("tell") == words.count("to") - 2 == 4 * 3
    assert words.count("overlap") == words.count("attribute") == 4


def test_columns_of_the_groups_stand_below_each_other() -> None:
    rows = [row("DIN", ALL, verdict="base"), row("a longer name", ALL, verdict="worse")]
    rows += [row("DIN", GROUPS[0], verdict="base"), row("a longer name", GROUPS[0], auc=None)]
    lines = shown(comparison_table(comparison(*rows, runs=("DIN", "a longer name")))).splitlines()
    first, second = (line for line in lines if line.startswith("method"))
    assert first == second


def test_the_base_has_no_improvement_over_itself() -> None:
    text = shown(comparison_table(comparison(row("DIN", ALL, verdict="base", rela_impr=0.0))))
    (line,) = (line for line in text.splitlines() if line.endswith("base"))
    assert "%" not in line


def test_near_chance_the_difference_of_auc_stands_for_the_ratio() -> None:
    near = row("X", ALL, rela_impr=212.0, rela_impr_low=None, rela_impr_high=None)
    result = comparison(row("DIN", ALL, verdict="base"), near, runs=("DIN", "X"))
    text = shown(comparison_table(result))
    assert "AUC +0.0123 [+0.0101, +0.0234]" in text
    assert "212" not in text
    said = (
        "AUC +x: difference of AUC, where the base is at or below 0.5, or too near it for a ratio."
    )
    assert said in text
    assert "AUC +x" not in shown(comparison_table(full_comparison()))


def test_only_a_difference_that_survives_holm_has_a_colour() -> None:
    found = {"a": ("better", 0.01), "b": ("better", 0.2), "c": ("worse", 0.2), "d": ("worse", 0.01)}
    rows = [row(n, ALL, verdict=verdict, holm=holm) for n, (verdict, holm) in found.items()]
    made = comparison_table(comparison(row("DIN", ALL, verdict="base"), *rows))
    (table,) = (part for part in made.renderables if isinstance(part, Table))
    assert [line.style for line in table.rows] == ["", "green", "", "", "red"]
    assert NOT_AFTER_HOLM in " ".join(shown(made).split())


def test_the_finding_of_single_trainings_has_no_colour_and_is_explained() -> None:
    single = {"seeds": 1, "auc_sd": None, "single": True, "holm": 0.2}
    rows = [row("DIN", ALL, verdict="base"), row("X", ALL, verdict="worse", **single)]
    made = comparison_table(comparison(*rows, runs=("DIN", "X")))
    (table,) = (part for part in made.renderables if isinstance(part, Table))
    assert [line.style for line in table.rows] == ["", ""]
    text = " ".join(shown(made).split())
    assert "worse, one seed each" in text
    assert "Not after Holm" not in text


def test_what_two_single_trainings_tell_is_said_only_of_them() -> None:
    said = "in a quarter to two thirds of all comparisons"
    assert said in few_seeds({"DIN": 1, "DIN+AQCL": 1})[0]
    assert said not in few_seeds({"DIN": 1})[0]
    assert said not in few_seeds({"DIN": 1, "DIN+AQCL": 2})[0]
    assert few_seeds({"DIN": 3, "DIN+AQCL": 3}) == []


def test_what_is_not_defined_is_a_dash() -> None:
    empty = dict.fromkeys(("auc", "auc_sd", "rela_impr", "rela_impr_low", "difference_low"))
    result = comparison(row("DIN", ALL, verdict="base"), row("X", ALL, **empty), runs=("DIN", "X"))
    assert "X (5 seeds) - - better" in " ".join(shown(comparison_table(result)).split())


def test_one_seed_has_no_deviation() -> None:
    text = shown(comparison_table(comparison(row("DIN", ALL, seeds=1, auc_sd=None))))
    assert "±" not in text
    assert "DIN (" not in text
    assert "Few seeds (DIN: 1): how much a method varies" in " ".join(text.split())
    assert "1,000 resamples of the users, paired" in text


def test_a_method_below_a_yardstick_is_said_in_one_line() -> None:
    yardstick = row("item-CF + popularity", ALL, auc=0.7500, seeds=1)
    result = comparison(row("DIN", ALL, verdict="base"), yardstick)
    said = "all users, 0.7312 against 0.7500 of item-CF + popularity"
    assert below_lines(result) == [f"DIN has no higher AUC than what was not trained: {said}."]
    assert below_lines(result)[0] in " ".join(shown(comparison_table(result)).split())
    better = comparison(row("DIN", ALL, verdict="base", auc=0.7501), yardstick)
    assert below_lines(better) == []


def test_a_method_that_ranks_worse_than_chance_is_told() -> None:
    low = {"auc": 0.41, "auc_low": 0.3912, "auc_high": 0.4321}
    rows = [row("DIN", ALL, verdict="base", **low), row("popularity", ALL, **low)]
    rows += [row("X", ALL, auc_low=0.45, auc_high=0.51), row("X", GROUPS[0], **low)]
    text = " ".join(shown(comparison_table(comparison(*rows, runs=("DIN", "X")))).split())
    assert text.count("worse than chance") == 1
    assert "DIN ranks worse than chance: the interval of its AUC over all users, 0.3912 to" in text


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ("valid", "Validation rows chose the weights (early stopping)"),
        ("train", "Training rows: the weights were fitted to them"),
    ],
)
def test_rows_that_flatter_are_told(split: SplitName, said: str) -> None:
    result = comparison(row("DIN", ALL, verdict="base"))
    assert "Judge on test rows." not in " ".join(shown(comparison_table(result)).split())
    text = " ".join(shown(comparison_table(dataclasses.replace(result, split=split))).split())
    assert said in text
    assert "Judge on test rows." in text


def test_the_groups_in_which_a_yardstick_wins_are_told_if_their_users_tell() -> None:
    rows = [row("DIN", ALL), row("popularity", ALL, auc=0.6)]
    for group, auc in zip(GROUPS, (0.9, 0.8, 0.9), strict=True):
        few = group == GROUPS[2]
        verdict = "too little to tell" if few else "better"
        rows += [row("DIN", group), row("popularity", group, auc=auc, verdict=verdict)]
    rows.append(row("item-CF + popularity", GROUPS[1], auc=0.85))
    assert below_lines(comparison(*rows)) == [
        "DIN has no higher AUC than what was not trained: non-active, 0.7312 against 0.9000 of "
        "popularity; slightly-active, 0.7312 against 0.8500 of item-CF + popularity."
    ]


def test_runs_that_only_a_number_tells_apart_are_told_with_what_differs(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "data")
    settings: dict[str, dict[str, Any]] = {
        "a": {"train": {"lr": 0.1}},
        "b": {"train": {"lr": 0.2}, "fields": []},
        "b-1": {"train": {"lr": 0.2}, "fields": [], "seed": 1},
        "other": {"name": "din #x"},
    }
    runs = [scored_run(tmp_path / name, dataset, **values) for name, values in settings.items()]
    lines = shown(comparison_table(compare_runs([run.path for run in runs], replicates=100)), 400)
    told = lines.partition("\ndin: ")[2].splitlines()
    assert told[:4] == [
        str(tmp_path / "a"),
        "  train.lr = 0.1",
        f"din #2: {tmp_path / 'b'}, {tmp_path / 'b-1'}",
        "  fields = [], train.lr = 0.2",
    ]
    assert "\ndin #x: " not in lines
    alone = shown(comparison_table(compare_runs([runs[0].path, runs[3].path], replicates=100)), 400)
    assert str(tmp_path) not in alone


def test_protocol_notes_and_simulation_stand_with_a_comparison() -> None:
    text = shown(comparison_table(comparison(row("DIN", ALL), simulated=True)))
    assert text.startswith("log (simulated), test rows: against DIN\n")
    assert "Protocol: split last-days, labels impressions." in text
    assert "Note: 12 rows left out." in text
    named = comparison(row("DIN", ALL), simulated=True, name="oncold (simulated)")
    assert shown(comparison_table(named)).count("simulated") == 1


def test_names_are_never_read_as_markup() -> None:
    name = "DIN[/] [bold]:smile:"
    result = comparison(row(name, ALL, verdict="base", seeds=1, auc_sd=None), runs=(name,))
    assert shown(comparison_table(result)).count(name) == 3  # title, row, and what has few seeds


def evaluated_run(path: Path, thresholds: tuple[int, int] = (3, 12)) -> Run:
    groups = tuple(
        GroupEvaluation(
            group=name,
            rows=53_754_238,
            users=908_400,
            positives=9_400_123,
            auc=0.7312,
            auc_low=0.7101,
            auc_high=0.7523,
            gauc=0.6001,
            logloss=0.4802,
            calibration_error=0.0103,
            predicted_observed_ratio=1.004,
        )
        for name in (ALL, *GROUPS)
    )
    empty = GroupEvaluation(GROUPS[0], 0, 0, 0, *[None] * 7)
    evaluation = Evaluation((groups[0], empty, *groups[2:]), thresholds, 1000, 0)
    path.mkdir()
    (path / "metrics.json").write_text(json.dumps({"test": evaluation.to_json()}))
    return Run(path, resolve({"dataset": "data"}), Manifest("aqcl-run", "f", {}))


@pytest.mark.parametrize("width", [80, 100, 120])
def test_an_evaluation_is_whole(width: int, tmp_path: Path) -> None:
    text = shown(evaluation_table(evaluated_run(tmp_path / "run"), "test"), width)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0] == "din, seed 0, test rows"
    assert "all non-active slightly-active highly-active" in lines
    assert "0 to 3 clicks 4 to 12 clicks 13+ clicks" in lines
    assert "rows 53,754,238 0 53,754,238 53,754,238" in lines
    assert "AUC 0.7312 - 0.7312 0.7312" in lines
    assert "95% interval 0.7101-0.7523 - 0.7101-0.7523 0.7101-0.7523" in lines
    assert "predicted/observed 1.004 - 1.004 1.004" in lines
    few = "0 users of 100, 0 clicks of 50, 0 rows without a click of 50"
    assert text.split("Too little", 1)[1].split() == f"to tell: non-active ({few}).".split()


@pytest.mark.parametrize(
    ("thresholds", "ranges"),
    [
        ((3, 3), "0 to 3 clicks nobody 4+ clicks"),
        ((0, 1), "0 clicks 1 click 2+ clicks"),
        ((1, 3), "0 to 1 clicks 2 to 3 clicks 4+ clicks"),
    ],
)
def test_ranges_of_groups_have_words(
    thresholds: tuple[int, int], ranges: str, tmp_path: Path
) -> None:
    text = shown(evaluation_table(evaluated_run(tmp_path / "run", thresholds), "test"))
    assert ranges in " ".join(text.split())


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize(
    ("kind", "name"), [("regularizer", "aqcl"), ("backbone", "din"), ("train", None)]
)
def test_options_are_whole(kind: Kind, name: str | None, width: int) -> None:
    description = describe(kind, name)
    text = shown(options_table(description), width)
    assert "…" not in text
    prefix = f"{kind}.{name}" if kind == "regularizer" else kind
    assert f"Keys under {prefix}, such as --set {description.options[0].key}=..." in text
    first_words = {line.split(" ")[0] for line in text.splitlines()}
    assert {option.key.removeprefix(f"{prefix}.") for option in description.options} <= first_words
    words = set(text.split())
    assert all(set(option.meaning.split()) <= words for option in description.options)


def test_keys_without_a_common_beginning_stand_as_they_are() -> None:
    text = shown(options_table(describe("prepare")))
    assert "\nsplit.kind " in text
    assert "Keys under" not in text


def test_a_part_without_options_says_so() -> None:
    part = Description("my.module:Net", "A net of one's own.", options=(), prefix="backbone.")
    lines = shown(options_table(part)).splitlines()
    assert lines == ["my.module:Net", "A net of one's own.", "", "It has no options."]


def test_a_dataset_is_told_in_facts() -> None:
    splits = {name: {"rows": 4846, "positives": 1135, "users": 296} for name in ("train", "test")}
    content = {
        "name": "log",
        "simulated": False,
        "notes": ["a note"],
        "protocol": {"split": "last-days"},
        "counts": {"users": 1299, "items": 60, "clicks": 1407, "splits": splits},
        "mean_activity": 5.512,
        "activity_thresholds": [3, 12],
        "schema": {
            "fields": [
                {"name": "brand", "side": "item", "kind": "categorical", "size": 1200},
                {"name": "age", "side": "user", "kind": "numeric", "size": 0},
            ]
        },
    }
    days = {"train": ("2021-05-01", "2021-06-20"), "test": ("2021-06-21", "2021-06-30")}
    days["all"] = ("2021-05-01", "2021-06-30")
    text = shown(dataset_table(Path("out[/]"), content, days))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    wanted = [
        "dataset log in out[/]",
        "users 1,299",
        "dates 2021-05-01 to 2021-06-30 (UTC)",
        "clicks per user 5.51 in training, on average",
        "train 4,846 rows, 1,135 clicks, 296 users, 2021-05-01 to 2021-06-20",
        "test 4,846 rows, 1,135 clicks, 296 users, 2021-06-21 to 2021-06-30",
        "groups non-active 0 to 3 clicks, slightly-active 4 to 12 clicks, highly-active 13+ clicks",
        "item field brand (categorical, 1,198 values)",
        "user field age (numeric)",
        "protocol split last-days",
        "note a note",
    ]
    assert [line for line in lines if line in wanted] == wanted
    assert "SIMULATED" not in text
    of_positions = shown(dataset_table(Path("out"), content | {"simulated": True}, {}))
    assert all(words in of_positions for words in ("SIMULATED", "296 users\n"))
    assert "dates" not in of_positions
