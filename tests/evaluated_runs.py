"""Made predictions that the tests of evaluation and of comparison share."""

from typing import Any

import numpy as np

from aqcl.predictions import Predictions

THRESHOLDS = (3, 8)
N_USERS = 600


def _rows(n_users: int = N_USERS) -> dict[str, Any]:
    """A positive and a negative for each user; every group has at least 100 users."""
    rng = np.random.default_rng(0)
    activity = rng.integers(0, 12, n_users)
    return {
        "user": np.repeat(np.arange(n_users), 2),
        "item": rng.integers(0, 50, 2 * n_users),
        "label": np.tile([1, 0], n_users),
        "activity": np.repeat(activity, 2),
    }


def made_run(gain: float, seed: int, noise: float = 0.3, n_users: int = N_USERS) -> Predictions:
    """Scores that share most of their noise with every other run, as models on one log do."""
    rows = _rows(n_users)
    shared = np.random.default_rng(1).normal(size=2 * n_users)
    own = np.random.default_rng([2, seed]).normal(size=2 * n_users)
    logit = shared + noise * own + gain * rows["label"]
    return Predictions(**rows, score=1 / (1 + np.exp(-logit)))
