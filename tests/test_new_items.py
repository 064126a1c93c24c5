"""Items that training never held are not put last by what is drawn for training."""

import itertools
from pathlib import Path

import numpy as np

from aqcl.train import train
from tests.click_logs import N_TIMES, SPLIT_SETTINGS, prepared
from tests.tiny_runs import tiny_experiment


def test_new_items_are_not_put_last(tmp_path: Path) -> None:
    """In a log of clicks whose items come and go, what is drawn tells nothing of unknown items."""
    rng = np.random.default_rng(0)
    born, kind = rng.uniform(-8, N_TIMES, 80), rng.integers(0, 4, 80)
    rows = []
    for time, user in itertools.product(range(N_TIMES), range(150)):
        alive = (born <= time) & (born > time - 7)
        liked = alive & (kind == user % 4) if rng.random() < 0.7 else alive
        item = rng.choice(np.flatnonzero(liked if liked.any() else alive))
        rows.append((f"u{user}", f"i{item}", time))

    def of_unknown(train_items: str) -> float:
        """Mean logit of unknown candidates; half of the training rows are clicks."""
        values = {
            "split": {"kind": "time", **SPLIT_SETTINGS["time"]},
            "negatives": {"train_items": train_items},
        }
        place = tmp_path / train_items
        dataset = prepared(place / "data", rows, values)
        run = train(tiny_experiment(dataset.path, "train.epochs=4", regularizer={}), place / "run")
        found = run.predictions("valid")
        unknown = found.item >= dataset.schema.n_items
        assert 0.2 < found.label[unknown].mean() < 0.8
        return float((np.log(found.score) - np.log1p(-found.score))[unknown].mean())

    assert of_unknown("all") < -2
    assert abs(of_unknown("clicked")) < 0.5
