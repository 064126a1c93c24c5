"""The alpha that a report draws of a run is the one that its weights go with."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from aqcl.activity import alpha
from aqcl.config import read_toml
from aqcl.dataset import open_dataset
from aqcl.experiment import resolve
from aqcl.report.run_report import report_runs
from aqcl.report.study_report import report_study
from aqcl.runs import open_run
from aqcl.search import conclusion
from aqcl.search.work import run_search
from aqcl.train import train
from tests.report.test_page import Outline
from tests.searches import short_search
from tests.tiny_runs import AQCL, tiny_dataset, tiny_experiment

LEARNING = {**AQCL, "learn_alpha": {"enabled": True, "every": 2, "lr": 0.1}, "warmup_steps": 1}


def assert_draws(figure: Figure, mean: float, w1: float, w2: float) -> None:
    """The curve of a figure is that of these values."""
    line = figure.axes[0].get_lines()[0]
    clicks, shown = (np.asarray(values) for values in line.get_data())
    wanted = alpha(torch.from_numpy(clicks).float(), mean, w1, w2).numpy()
    np.testing.assert_allclose(shown, wanted, rtol=1e-5)


def test_a_learned_alpha_is_drawn_for_each_seed_and_told(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path / "data")
    runs = []
    for seed in (1, 2):
        experiment = tiny_experiment(data, f"seed={seed}", regularizer={"aqcl": LEARNING})
        runs.append(train(replace(experiment, name="learned"), tmp_path / str(seed)))

    made = report_runs([run.path for run in runs], replicates=100)

    text, mean = Outline(made.html).text, open_dataset(data).mean_activity
    assert {key for key in made.figures if key.startswith("alpha")} == {
        "alpha-0-seed-1",
        "alpha-0-seed-2",
    }
    for run in runs:
        seed, learned = run.experiment.seed, run.manifest.content["alpha"]
        w1, w2 = learned["w1"], learned["w2"]
        assert (w1, w2) != (1.0, 1.0)
        assert_draws(made.figures[f"alpha-0-seed-{seed}"], mean, w1, w2)
        assert f"learned, seed {seed}, as learned: alpha of aqcl" in text
        assert f"w1 = {w1:.3g}, w2 = {w2:.3g}" in text


def test_a_study_tells_the_alpha_that_its_winner_has_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, study = tiny_dataset(tmp_path / "data"), tmp_path / "study"
    space = {"train.lr": {"choices": [0.02, 0.03]}}
    values = short_search(data, trials=2, widen=0, space=space)
    drawn = dict[str, Figure]()
    monkeypatch.setattr(conclusion, "save", lambda figure, path: drawn.update({path.name: figure}))

    found = run_search(values | {"regularizer": {"aqcl": LEARNING}}, study)

    best, mean = found["methods"]["best"]["best"], open_dataset(data).mean_activity
    learned = open_run(study / best["run"]).manifest.content["alpha"]
    w1, w2 = learned["w1"], learned["w2"]
    assert (w1, w2) != (1.0, 1.0)
    told = alpha(torch.tensor([0, mean, 10 * mean]), mean, w1, w2).tolist()
    assert list(best["alpha"]["aqcl"].values()) == pytest.approx(told)
    assert_draws(drawn["best-alpha"], mean, w1, w2)
    assert_draws(report_study(study).figures["alpha-0"], mean, w1, w2)
    # The winner's file repeats its run, which begins with the alpha that was given.
    assert resolve(read_toml(study / "best.toml")).regularizer["aqcl"]["w1"] == 1.0

    shutil.rmtree(study / "trials")
    made = report_study(study)
    assert "Alpha of best is not drawn" in Outline(made.html).text
    assert "alpha-0" not in made.figures
