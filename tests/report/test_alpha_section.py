"""The alpha that a report draws of a run is the one that its weights go with."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from aqcl.activity import alpha
from aqcl.dataset import open_dataset
from aqcl.report.run_report import report_runs
from aqcl.train import train
from tests.report.test_page import Outline
from tests.tiny_runs import AQCL, tiny_dataset, tiny_experiment


def test_a_learned_alpha_is_drawn_for_each_seed_and_told(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path / "data")
    table = {**AQCL, "learn_alpha": {"enabled": True, "every": 2, "lr": 0.1}, "warmup_steps": 1}
    runs = []
    for seed in (1, 2):
        experiment = tiny_experiment(data, f"seed={seed}", regularizer={"aqcl": table})
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
        line = made.figures[f"alpha-0-seed-{seed}"].axes[0].get_lines()[0]
        clicks, shown = (np.asarray(values) for values in line.get_data())
        wanted = alpha(torch.from_numpy(clicks).float(), mean, w1, w2).numpy()
        np.testing.assert_allclose(shown, wanted, rtol=1e-5)
        assert f"learned, seed {seed}, as learned: alpha of aqcl" in text
        assert f"w1 = {w1:.3g}, w2 = {w2:.3g}" in text
