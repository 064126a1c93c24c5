"""Codewords beside the losses: stored latents, how they start, move, are read and are judged.

Letters as in `aqcl.contrastive`: z a projected latent, T codewords, B the batch size.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from aqcl.contrastive import NORM_FLOOR, similarities, sinkhorn, uniformity, unit

DEAD_SHARE = 0.1
"""A codeword used less than this part of its fair share 1/T counts as dead."""
DIAGNOSED_SAMPLES = 256
"""Samples of the batch that the uniformity diagnostic looks at."""


@torch.no_grad()
def push(stored: Float[Tensor, "N D"], latents: Float[Tensor, "B D"]) -> None:
    """Put latents behind those stored, in place; the first of all fall out."""
    kept = latents.detach()[-len(stored) :].to(stored.dtype)
    stored.copy_(torch.cat([stored[len(kept) :], kept]))


def filled(stored: Float[Tensor, "N D"]) -> Float[Tensor, "M D"]:
    """Those vectors of a store that have been put there; before, it has zeros."""
    return stored[stored.abs().sum(1) > 0]


@torch.no_grad()
def balanced(
    scores: Float[Tensor, "B T"],
    stored: Float[Tensor, "N D"],
    codebook: Float[Tensor, "T D"],
    *,
    epsilon: float,
    iterations: int,
) -> Float[Tensor, "M T"]:
    """Balanced assignment of the samples, and behind them of the stored latents, if these joined.

    They join where the samples are fewer than the store can hold.

    Args:
        scores: cosines of samples and codewords.
        stored: latents of any length, and zeros where none has been stored yet.
        codebook: codewords of length one.
        epsilon: as in `contrastive.sinkhorn`.
        iterations: likewise.
    """
    if len(scores) < len(stored):
        scores = torch.cat([scores, similarities(unit(filled(stored)), codebook)])
    return sinkhorn(scores, epsilon=epsilon, iterations=iterations)


@torch.no_grad()
def spread(stored: Float[Tensor, "N D"], count: int) -> Float[Tensor, "M D"]:
    """At most `count` distinct vectors of those stored, spread over all; zeros are none."""
    distinct: Tensor = torch.unique(filled(stored), dim=0)
    count = min(len(distinct), count)
    # `unique` sorts, so equal steps through it spread the choice.
    last = max(len(distinct) - 1, 0)
    chosen = torch.linspace(0, last, count, device=distinct.device).long()
    return distinct.index_select(0, chosen)


@torch.no_grad()
def moved_codebook(
    codebook: Float[Tensor, "T D"],
    sums: Float[Tensor, "T D"],
    z: Float[Tensor, "B D"],
    codes: Int[Tensor, " B"],
    *,
    decay: float,
) -> tuple[Float[Tensor, "T D"], Float[Tensor, "T D"]]:
    """Codewords and sums after a step of spherical k-means with moving averages.

    A codeword points where the moving sum of the unit latents assigned to it points; one that
    nothing was assigned to, ever or for very long, stays where it is.

    Args:
        codebook: codewords of length one.
        sums: moving sums of the assigned latents, zeros at the start. Only their directions count,
            so the factor 1 - decay, the counts and a correction of the start all cancel.
        z: projected latents.
        codes: index of the codeword that each of them is assigned to.
        decay: how much of the old sums stays.

    Reference: arXiv 1711.00937, appendix A.1, with codewords of length one.
    """
    assigned = torch.zeros_like(sums).index_add(0, codes, unit(z).to(sums.dtype))
    sums = decay * sums + assigned
    known = sums.norm(dim=1, keepdim=True) > NORM_FLOOR
    return torch.where(known, unit(sums).to(codebook.dtype), codebook), sums


def interest_readout(
    z: Float[Tensor, "B D"], codebook: Float[Tensor, "T D"], top_k: int, temperature: float
) -> Float[Tensor, "B D"]:
    """The K nearest codewords of each z, averaged by the softmax of their similarities.

    Args:
        z: projected latents.
        codebook: Q.
        top_k: K; at most all codewords count.
        temperature: t2.

    Reference: after the enhancement vectors of arXiv 2405.13238.
    """
    z, codebook = unit(z), unit(codebook)
    nearest = (similarities(z, codebook) / temperature).topk(min(top_k, len(codebook)), dim=1)
    return (nearest.values.softmax(1)[:, :, None] * codebook[nearest.indices]).sum(1)


@torch.no_grad()
def diagnostics(
    z: Float[Tensor, "B D"],
    view: Float[Tensor, "B D"],
    codebook: Float[Tensor, "T D"],
    codes: Int[Tensor, " B"],
    usage: Float[Tensor, " T"],
    top_k: int,
) -> dict[str, Tensor]:
    """Numbers that tell whether codewords and latents are in order.

    `nearest_perplexity` is over how many codewords the samples of this batch lie evenly, each at
    its nearest: 1 if all lie at one, and at most the smaller of B and T. Dropout in the latents
    spreads them. `perplexity`, `batch_perplexity` and `dead_codewords` are of the balanced
    assignment, which spreads samples over all codewords wherever they lie, and so tell nothing of
    a collapse. `uniformity` is of pairs of samples, and left out where there is one sample alone.

    Args:
        z: projected latents of the samples.
        view: projected latents of their views.
        codebook: codewords of length one.
        codes: index of the codeword that each sample is assigned to.
        usage: moving share of the samples assigned to each codeword; 1/T each at the start.
        top_k: K, the number of nearest codewords that are positive.
    """
    z, view = unit(z), unit(view)
    share = usage / usage.sum()
    batch_share = torch.bincount(codes, minlength=len(share)) / len(codes)
    nearest = similarities(z, codebook).topk(min(top_k, len(codebook)), dim=1)
    nearest_share = torch.bincount(nearest.indices[:, 0], minlength=len(share)) / len(codes)
    found = {
        "view_similarity": (z * view).sum(1).mean(),
        "interest_similarity": nearest.values.mean(),
        "nearest_perplexity": torch.special.entr(nearest_share).sum().exp(),
        "perplexity": torch.special.entr(share).sum().exp(),
        "batch_perplexity": torch.special.entr(batch_share).sum().exp(),
        "dead_codewords": (share < DEAD_SHARE / len(share)).float().mean(),
    }
    if len(z) > 1:
        found["uniformity"] = uniformity(z[:DIAGNOSED_SAMPLES])
    return found
