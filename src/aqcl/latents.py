"""Latents of a trained run, to be looked at: where samples lie, and which interest is nearest."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import nn

from aqcl.contracts import Predictor
from aqcl.contrastive import unit
from aqcl.dataset import Dataset, Split
from aqcl.errors import ConfigError
from aqcl.experiment import find_regularizer
from aqcl.regularizers.aqcl import AQCL
from aqcl.runs import Run
from aqcl.scoring import (
    SCORING_BATCH_SIZE,
    build_backbone,
    build_regularizer,
    facts_of,
    load_backbone,
)
from aqcl.streams import numpy_stream
from aqcl.warm_up import warming

NEIGHBOURS = 10
"""Nearest latents whose interests are compared with a latent's own."""


class NoCodebookError(ConfigError):
    """A run that has learned no interests: without AQCL, or not for long enough."""


@dataclass(frozen=True)
class Interests:
    """The projector and codebook of a trained AQCL."""

    regularizer: AQCL

    @torch.no_grad()
    def similarities(self, latent: Float[torch.Tensor, "N D"]) -> Float[torch.Tensor, "N T"]:
        """Cosines of projected latents and codewords."""
        z: torch.Tensor = unit(self.regularizer.projector(latent))
        return z @ unit(self.regularizer.codebook).T

    def nearest(self, latent: Float[np.ndarray, "N D"]) -> Int[np.ndarray, " N"]:
        """The codeword nearest to each latent."""
        found: npt.NDArray[np.int64] = self.similarities(torch.from_numpy(latent)).argmax(1).numpy()
        return found


def load_model(run: Run, dataset: Dataset) -> nn.Module:
    """The model of a run with its trained weights, ready to score."""
    experiment = run.experiment
    backbone = load_backbone(experiment, facts_of(dataset, experiment), run.weights())
    backbone.eval()
    return backbone


def load_interests(run: Run, dataset: Dataset) -> Interests:
    """The codebook that a run has learned.

    Raises:
        NoCodebookError: it was trained without AQCL, or its weights are from before the codebook
            was set.
    """
    experiment, weights = run.experiment, run.weights()
    facts = facts_of(dataset, experiment)
    backbone = build_backbone(experiment, facts)  # of which AQCL reads the width alone
    for number, name in enumerate(experiment.regularizer):
        if not issubclass(find_regularizer(name), AQCL):
            continue
        made = build_regularizer(experiment, name, facts, backbone)
        assert isinstance(made, AQCL)
        if made.weight == 0:
            continue
        prefix = f"regularizers.{number}."
        state = {k.removeprefix(prefix): w for k, w in weights.items() if k.startswith(prefix)}
        made.load_state_dict(state)
        made.eval()
        if name in warming(experiment, int(made.steps)):
            raise NoCodebookError(_without_codebook(run, name, made))
        return Interests(made)
    raise NoCodebookError(
        f"{run.path}: has no codebook; train with the regularizer aqcl, such as "
        "--set regularizer.aqcl.weight=0.05"
    )


def _without_codebook(run: Run, name: str, kept: AQCL) -> str:
    """Why the weights that a run kept have no codebook yet."""
    trained, warm_up = run.manifest.content["steps"], kept.options.warmup_steps
    if trained <= warm_up:
        return (
            f"{run.path}: was trained for {trained} steps, and its codebook is set after "
            f"{warm_up}; train longer or lower regularizer.{name}.warmup_steps"
        )
    best = int(kept.steps)
    return (
        f"{run.path}: the best weights are of step {best} of {trained}, within the warm-up of "
        f"{name} ({warm_up} steps), and have no codebook yet; set regularizer.{name}.warmup_steps "
        f"well below {best}"
    )


def choose_rows(rows: Int[np.ndarray, " N"], most: int, seed: int = 0) -> Int[np.ndarray, " M"]:
    """At most so many of the rows, chosen at random and in their order."""
    if len(rows) <= most:
        return rows
    chosen = numpy_stream(seed, "subset").choice(rows, most, replace=False)
    return np.asarray(np.sort(chosen))


@torch.no_grad()
def encode_rows(
    model: nn.Module, split: Split, rows: Int[np.ndarray, " N"], max_history: int
) -> Float[np.ndarray, "N D"]:
    """The latents h of some rows of a split."""
    assert isinstance(model, Predictor)
    parts = []
    for start in range(0, max(len(rows), 1), SCORING_BATCH_SIZE):  # no rows still have a width
        batch = split.batch(rows[start : start + SCORING_BATCH_SIZE], max_history)
        parts.append(model.encode(model.embed(batch)).float().numpy())
    return np.concatenate(parts)


def tsne(latent: Float[np.ndarray, "N D"], seed: int = 0) -> Float[np.ndarray, "N 2"]:
    """Points in the plane that keep near latents near.

    Reference: van der Maaten and Hinton, JMLR 9 (2008).
    """
    from sklearn.manifold import TSNE

    init = "pca" if latent.shape[1] > 1 else "random"
    made = TSNE(2, random_state=seed, init=init, perplexity=min(30.0, (len(latent) - 1) / 3))
    points = made.fit_transform(latent.astype(np.float64))
    return np.asarray(points, dtype=np.float64)


def clusters(latent: Float[np.ndarray, "N D"], count: int, seed: int = 0) -> Int[np.ndarray, " N"]:
    """Clusters by direction, for latents that no codebook comes with: spherical k-means."""
    from sklearn.cluster import MiniBatchKMeans

    length = np.maximum(np.linalg.norm(latent, axis=1, keepdims=True), 1e-12)
    made = MiniBatchKMeans(count, random_state=seed, n_init=3, batch_size=1024)
    return np.asarray(made.fit_predict(latent / length), dtype=np.int64)


@dataclass(frozen=True)
class Separation:
    """How well interests separate latents."""

    silhouette: float
    """Mean silhouette by cosine distance: 1 for tight groups far apart, 0 for none."""
    purity: float
    """Share of a latent's nearest others that have the same interest."""
    chance: float
    """What the share would be if the interests of these latents were dealt out at random."""


def separation(latent: Float[np.ndarray, "N D"], interest: Int[np.ndarray, " N"]) -> Separation:
    """Measure how well interests separate latents, so that a picture is not all there is.

    Raises:
        ConfigError: fewer than two interests, or one latent each.
    """
    from sklearn.metrics import silhouette_score
    from sklearn.neighbors import NearestNeighbors

    counts = np.bincount(interest)
    if not 1 < np.count_nonzero(counts) < len(latent):
        raise ConfigError(
            f"{np.count_nonzero(counts)} interests among {len(latent)} latents: expected two or "
            "more, and fewer than latents; take more rows"
        )
    among = min(NEIGHBOURS, len(latent) - 1)
    search = NearestNeighbors(n_neighbors=among, metric="cosine").fit(latent)
    others = search.kneighbors(return_distance=False)
    return Separation(
        silhouette=float(silhouette_score(latent, interest, metric="cosine")),
        purity=float((interest[others] == interest[:, None]).mean()),
        chance=float((counts * (counts - 1)).sum() / (len(interest) * (len(interest) - 1))),
    )
