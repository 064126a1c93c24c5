"""Latents of a run, and how interests separate them."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from aqcl.contrastive import unit
from aqcl.dataset import open_dataset
from aqcl.errors import ConfigError
from aqcl.latents import (
    choose_rows,
    clusters,
    encode_rows,
    load_interests,
    load_model,
    separation,
    tsne,
)
from aqcl.runs import Run
from aqcl.train import train
from tests.tiny_runs import AQCL, ICL, tiny_dataset, tiny_experiment


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    return train(tiny_experiment(tiny_dataset(folder)), folder / "run")


def test_latents_are_those_that_predictions_come_from(run: Run) -> None:
    dataset = open_dataset(Path(run.experiment.dataset))
    model = load_model(run, dataset)
    rows = np.array([5, 0, 7])
    latent = encode_rows(model, dataset.valid, rows, 50)
    batch = dataset.valid.batch(rows, 50)
    with torch.no_grad():
        logit = model.predict(torch.from_numpy(latent), model.embed(batch))  # type: ignore[operator]
    expected = run.predictions("valid").score[rows]
    assert torch.sigmoid(logit).numpy() == pytest.approx(expected, abs=1e-6)


def test_no_rows_have_a_width_still(run: Run) -> None:
    dataset = open_dataset(Path(run.experiment.dataset))
    latent = encode_rows(load_model(run, dataset), dataset.valid, np.arange(0), 50)
    assert latent.shape == (0, 8)
    assert load_interests(run, dataset).nearest(latent).shape == (0,)


def test_the_codebook_is_found_beside_other_regularizers(run: Run, tmp_path: Path) -> None:
    dataset = open_dataset(Path(run.experiment.dataset))
    regularizers = {"icl": ICL, "aqcl": AQCL}
    both = train(tiny_experiment(dataset.path, regularizer=regularizers), tmp_path / "both")
    found = load_interests(both, dataset).regularizer.codebook
    assert torch.equal(found, both.weights()["regularizers.1.codebook"])


def test_the_nearest_interest_is_that_of_the_largest_cosine(run: Run) -> None:
    dataset = open_dataset(Path(run.experiment.dataset))
    interests = load_interests(run, dataset)
    latent = encode_rows(load_model(run, dataset), dataset.train, np.arange(20), 50)
    weights = run.weights()
    with torch.no_grad():
        z = unit(interests.regularizer.projector(torch.from_numpy(latent)))
        cosines = z @ unit(weights["regularizers.0.codebook"]).T
    assert interests.nearest(latent).tolist() == cosines.argmax(1).tolist()


def test_a_run_without_a_codebook_is_refused(run: Run, tmp_path: Path) -> None:
    dataset = open_dataset(Path(run.experiment.dataset))
    plain = train(tiny_experiment(dataset.path, "regularizer.aqcl.weight=0"), tmp_path / "plain")
    with pytest.raises(ConfigError, match=r"has no codebook; .*aqcl\.weight"):
        load_interests(plain, dataset)
    early = train(
        tiny_experiment(dataset.path, "regularizer.aqcl.warmup_steps=999"), tmp_path / "early"
    )
    told = f"was trained for {early.manifest.content['steps']} steps, and its codebook is set after"
    with pytest.raises(ConfigError, match=f"{told} 999; train longer or lower"):
        load_interests(early, dataset)


def test_best_weights_from_a_warm_up_are_not_called_a_short_training(
    run: Run, tmp_path: Path
) -> None:
    experiment = tiny_experiment(Path(run.experiment.dataset), "regularizer.aqcl.warmup_steps=12")
    early = train(experiment, tmp_path / "early")
    steps, best = (early.manifest.content[key] for key in ("steps", "best_step"))
    assert best <= 12 < steps
    told = (
        f"the best weights are of step {best} of {steps}, within the warm-up of aqcl (12 steps), "
        f"and have no codebook yet; set regularizer.aqcl.warmup_steps well below {best}"
    )
    with pytest.raises(ConfigError, match=re.escape(told)):
        load_interests(early, open_dataset(Path(experiment.dataset)))


def test_rows_are_chosen_once_each_and_in_order() -> None:
    rows = np.arange(100, 200)
    assert choose_rows(rows, 100) is rows
    chosen = choose_rows(rows, 30)
    assert len(set(chosen.tolist())) == 30
    assert np.array_equal(chosen, np.sort(chosen))
    assert np.array_equal(chosen, choose_rows(rows, 30))
    assert set(chosen.tolist()) <= set(rows.tolist())


def groups(apart: float) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    label = np.repeat(np.arange(3), 40)
    latent = apart * np.eye(3)[label] + draw.normal(size=(120, 3))
    return latent.astype(np.float32), label


def test_separation_tells_groups_from_noise() -> None:
    near, far = (separation(*groups(apart)) for apart in (0.0, 50.0))
    assert far.purity == 1.0
    assert far.silhouette > 0.9
    assert near.purity == pytest.approx(near.chance, abs=0.1)
    assert near.silhouette < 0.1
    assert far.chance == pytest.approx(39 / 119)  # of the others


def test_purity_counts_neighbours_by_hand() -> None:
    latent = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], dtype=np.float32)
    label = np.array([0, 0, 1, 1])
    # Each has three others, one of them alike.
    found = separation(latent, label)
    assert (found.purity, found.chance) == pytest.approx((1 / 3, 1 / 3))


def test_separation_needs_two_interests() -> None:
    with pytest.raises(ConfigError, match="1 interests among 4 latents"):
        separation(np.eye(4, dtype=np.float32), np.zeros(4, dtype=np.int64))


def test_clusters_go_by_direction_and_not_by_length() -> None:
    latent, label = groups(50.0)
    lengths = np.random.default_rng(1).uniform(0.1, 10, size=(120, 1)).astype(np.float32)
    found = clusters(latent * lengths, 3)
    assert len({(a, b) for a, b in zip(found.tolist(), label.tolist(), strict=True)}) == 3


def test_near_latents_are_near_in_the_plane() -> None:
    latent, label = groups(50.0)
    points = tsne(latent)
    assert points.shape == (120, 2)
    assert np.array_equal(points, tsne(latent))
    assert tsne(latent[:, :1]).shape == (120, 2)
    centres = np.stack([points[label == k].mean(0) for k in range(3)])
    nearest = np.linalg.norm(points[:, None] - centres, axis=2).argmin(1)
    assert np.array_equal(nearest, label)
