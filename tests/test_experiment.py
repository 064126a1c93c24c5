"""Experiments: every default filled in, every problem named at once, parts from anywhere."""

from pathlib import Path
from typing import Any, ClassVar

import pytest

from aqcl.backbones import BACKBONES
from aqcl.backbones.din import DINOptions
from aqcl.config import as_values, override, read_toml, settings, to_toml
from aqcl.errors import ConfigError
from aqcl.experiment import (
    Experiment,
    TrainOptions,
    find_backbone,
    find_regularizer,
    method_settings,
    own_settings,
    resolve,
)
from aqcl.regularizers import REGULARIZERS
from aqcl.scoring import build_backbone, build_regularizer
from tests.model_inputs import make_facts
from tests.test_objective import Spy

SPY = "tests.test_objective:Spy"


@settings
class AskingOptions:
    """One without a default."""

    weight: float
    share: float = 0.5


class Asking(Spy):
    """A regularizer whose weight must be given."""

    Options: ClassVar[type] = AskingOptions


def problems(values: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        resolve(values)
    return str(caught.value).splitlines()


def test_defaults_are_filled_in() -> None:
    experiment = resolve({"dataset": "d", "regularizer": {"aqcl": {}}})

    assert experiment.backbone["name"] == "din"
    assert experiment.backbone["dropout"] == DINOptions().dropout
    assert experiment.train == TrainOptions()
    aqcl = experiment.regularizer["aqcl"]
    assert (aqcl["n_codewords"], aqcl["top_k"]) == (128, 5)
    assert [aqcl[f"{t}_temperature"] for t in ("instance", "cluster", "codebook")] == [0.1] * 3
    assert aqcl["view"] == {"mask_rate": 0.3, "bit_rate": 0.1, "share_attention": True}
    assert "constant_alpha" not in aqcl


OUTSIDE = """
from typing import ClassVar
from aqcl.backbones.din import DIN, DINOptions
from aqcl.regularizers.icl import ICL

class Plain(DINOptions):
    extra: bool = True

class WithPlainOptions(DIN):
    Options: ClassVar[type] = Plain

class Narrow(DIN):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        del self.latent_dim

class Weightless(ICL):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        del self.weight
"""


def test_parts_from_outside_that_lack_something_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "parts_that_lack.py").write_text(OUTSIDE)
    (tmp_path / "parts_that_break.py").write_text("class Broken(:\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=r"parts_that_break:X' cannot be imported: SyntaxError"):
        find_backbone("parts_that_break:X")
    with pytest.raises(ConfigError, match=r"decorated with aqcl.config.settings, got .* Plain"):
        find_backbone("parts_that_lack:WithPlainOptions")
    narrow, weightless = "parts_that_lack:Narrow", "parts_that_lack:Weightless"
    values = {"dataset": "d", "backbone": {"name": narrow}, "regularizer": {weightless: {}}}
    with pytest.raises(ConfigError, match=f"'{narrow}' makes a Backbone without an .*latent_dim"):
        build_backbone(resolve(values), make_facts())
    experiment = resolve({**values, "backbone": {}})
    backbone = build_backbone(experiment, make_facts())
    with pytest.raises(ConfigError, match=f"'{weightless}' makes a Regularizer without .*weight"):
        build_regularizer(experiment, weightless, make_facts(), backbone)


def test_options_of_a_backbone_without_a_name_are_those_of_the_default() -> None:
    """As `--set backbone.dropout=0.1` gives them where the file has no backbone."""
    values = override({"dataset": "d"}, ["backbone.dropout=0.1"])

    experiment = resolve(values)

    assert experiment == resolve({"dataset": "d", "backbone": {"name": "din", "dropout": 0.1}})
    assert experiment.label == "din"


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("regularizers", [[], *([name] for name in REGULARIZERS), [*REGULARIZERS]])
def test_a_resolved_experiment_survives_the_disk(
    backbone: str, regularizers: list[str], tmp_path: Path
) -> None:
    experiment = resolve(
        {
            "dataset": "some/where",
            "name": "größe",
            "seed": 2**40,
            "fields": ["a", "b"],
            "backbone": {"name": backbone},
            "regularizer": {name: {"weight": 0.125} for name in regularizers},
            "train": {"lr": 3e-4, "monitor": "logloss"},
            "runtime": {"threads": 2},
        }
    )
    file = tmp_path / "config.toml"
    file.write_text(to_toml(as_values(experiment)), encoding="utf-8")

    again = resolve(read_toml(file))

    assert again == experiment
    assert list(again.regularizer) == regularizers
    assert again.fields == ("a", "b")
    assert again.train.lr == 3e-4


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"trian": {}}, r"trian: unknown key; did you mean 'train'\?"),
        ({"train": {"learning_rate": 1}}, r"train\.learning_rate: unknown key; .*known: .*lr"),
        (
            {"train": {"device": "cuda"}},
            r"train\.device: unknown key; did you mean 'runtime\.device'",
        ),
        ({"lr": 0.1}, r"lr: unknown key; did you mean 'train\.lr'\?$"),
        ({"train": {"epoch": 1}}, r"train\.epoch: unknown key; did you mean 'epochs'\?"),
        ({"train": {"lr": 0}}, r"train\.lr: .*greater than 0, got 0"),
        ({"train": {"monitor": "f1"}}, r"train\.monitor: .*'auc' or 'logloss', got 'f1'"),
        ({"seed": -1}, r"seed: .*got -1"),
        ({"backbone": {"name": "dinn"}}, r"backbone\.name = 'dinn' .*did you mean 'din'\?"),
        ({"backbone": {"dropuot": 0.1}}, r"backbone\.dropuot: .*did you mean 'dropout'\?"),
        ({"backbone": {"name": 3}}, r"backbone\.name: expected the name .*\"din\", got 3$"),
        (
            {"backbone": {"name": "din", "dropuot": 0.1}},
            r"backbone\.dropuot: unknown key; did you mean 'dropout'\?",
        ),
        ({"backbone": {"name": "din", "dropout": 1}}, r"backbone\.dropout: .*less than 1, got 1"),
        ({"backbone": {"name": "din", "sizes": []}}, r"backbone\.sizes: .*at least 1"),
        (
            {"backbone": "din"},
            r"backbone: expected a table, got 'din'; set its name, as backbone.name = \"din\"$",
        ),
        *(
            (
                {"regularizer": wrong},
                rf"{where}: expected a table for each, got {came}; write \[regularizer.aqcl\] "
                "with its options, or --set regularizer.aqcl.weight=0.1$",
            )
            for wrong, where, came in (
                ("aqcl", "regularizer", "'aqcl'"),
                ({"name": "aqcl"}, "regularizer.name", "'aqcl'"),
                ({"aqcl": 3}, "regularizer.aqcl", 3),
            )
        ),
        ({"regularizer": {"aqlc": {}}}, r"regularizer = 'aqlc' .*did you mean 'aqcl'\?"),
        (
            {"regularizer": {"aqcl": {"topk": 3}}},
            r"regularizer\.aqcl\.topk: unknown key; did you mean 'top_k'\?",
        ),
        (
            {"regularizer": {"aqcl": {"view": {"mask": 0.1}}}},
            r"regularizer\.aqcl\.view\.mask: unknown key; did you mean 'mask_rate'\?",
        ),
    ],
    ids=str,
)
def test_a_problem_is_named_with_its_place(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=f"(?m)^{expected}"):
        resolve({"dataset": "d", **values})


def test_all_problems_are_named_at_once() -> None:
    lines = problems(
        {
            "sed": 1,
            "train": {"lr": -1, "batch": 3},
            "backbone": {"name": "din", "dropout": 2, "size": 1},
            "regularizer": {"aqcl": {"top_k": 0, "w1": 0}, "icl": {"temperature": 0}, "x": {}},
        }
    )

    starts = sorted(line.split(":")[0].split(" ")[0] for line in lines)
    assert starts == [
        "backbone.dropout",
        "backbone.size",
        "dataset",
        "regularizer",
        "regularizer.aqcl.top_k",
        "regularizer.aqcl.w1",
        "regularizer.icl.temperature",
        "sed",
        "train.batch",
        "train.lr",
    ]


def test_one_mistake_is_one_line() -> None:
    assert len(problems({"dataset": "d", "backbone": {"name": "dinn"}})) == 1
    assert len(problems({"dataset": "d", "backbone": 3})) == 1
    assert len(problems({"dataset": "d", "regularizer": {"aqcl": 3}})) == 1


def test_parts_are_found_by_import_path() -> None:
    assert find_backbone("aqcl.backbones.din:DIN") is BACKBONES["din"]
    assert find_regularizer(SPY) is Spy

    experiment = resolve(
        {"dataset": "d", "backbone": {"name": "aqcl.backbones.din:DIN", "sizes": [3]}}
    )

    assert experiment.backbone["sizes"] == [3]
    assert experiment.label == "aqcl.backbones.din:DIN"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            "no_such_module:DIN",
            "cannot be imported: .*: No module named 'no_such_module'; .*PYTHONPATH=. for this one",
        ),
        ("aqcl.backbones.din:DINN", "cannot be imported: .*has no attribute 'DINN'"),
        (":DIN", "cannot be imported"),
        (".din:DIN", "cannot be imported"),
        ("aqcl.backbones.din:", "cannot be imported"),
        ("aqcl.batch:Batch", "is not a Backbone: expected a class with Options, embed, encode"),
        ("aqcl.regularizers.icl:ICL", "is not a Backbone: expected a class with embed, encode"),
        ("aqcl.objective:torch", "is not a Backbone"),
    ],
)
def test_a_bad_import_path_is_explained(path: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=f"'{path}' {expected}"):
        find_backbone(path)


def test_a_class_without_options_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Spy, "Options")

    with pytest.raises(ConfigError, match="expected a class with Options;"):
        find_regularizer(SPY)


@pytest.mark.parametrize(
    ("values", "label"),
    [
        ({}, "din"),
        ({"name": "mine"}, "mine"),
        ({"regularizer": {"aqcl": {}, "icl": {}}}, "din+aqcl+icl"),
        ({"regularizer": {"aqcl": {"weight": 0}, "icl": {}}}, "din+icl"),
    ],
)
def test_a_run_has_a_label(values: dict[str, Any], label: str) -> None:
    assert resolve({"dataset": "d", **values}).label == label


def test_method_settings_are_those_that_seeds_share() -> None:
    first = resolve({"dataset": "d", "seed": 1, "name": "a", "runtime": {"threads": 1}})
    second = resolve({"dataset": "e", "seed": 2, "name": "b", "runtime": {"threads": 2}})
    other = resolve({"dataset": "d", "seed": 1, "name": "a", "train": {"lr": 0.5}})

    assert method_settings(first) == method_settings(second)
    assert method_settings(first) != method_settings(other)


@pytest.mark.parametrize(
    "own",
    [
        {"backbone": {"name": "din"}},
        {"backbone": {"name": "deepfm", "dropout": 0.4}, "train": {"lr": 0.5}},
        {
            "backbone": {"name": "din"},
            "regularizer": {"icl": {}, "aqcl": {"w1": 3.0, "view": {"mask_rate": 0.5}}},
        },
        {
            "backbone": {"name": "din"},
            "regularizer": {"tests.test_experiment:Asking": {"weight": 2.0}},
        },
    ],
)
def test_own_settings_are_those_that_are_no_defaults(own: dict[str, Any]) -> None:
    experiment = resolve({"dataset": "d", "seed": 4, **own})
    assert own_settings(experiment) == own
    whole = resolve({"dataset": "d", **method_settings(experiment)})
    assert own_settings(whole) == own


def test_an_experiment_cannot_be_changed() -> None:
    experiment = resolve({"dataset": "d"})

    assert isinstance(experiment, Experiment)
    with pytest.raises(AttributeError):
        experiment.seed = 3  # type: ignore[misc]
