"""The contrastive losses as pure functions on tensors; usable without the rest of the package.

Letters, as in the paper (arXiv 2109.13921): z a projected latent, q a codeword, Q the codebook
of T codewords, B the batch size, t a temperature, K the number of positive codewords. Everything
is computed in log space.
"""

import itertools
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from aqcl.errors import ConfigError
from aqcl.precision import in_autocast
from aqcl.products import MULTIPLE, dot

Denominator = Literal["joint", "decoupled"]
Pool = Literal["sum", "mean"]

NORM_FLOOR = 1e-8
"""Shorter vectors are divided by this instead of their length; keeps a zero vector zero."""
MASS_FLOOR = 1e-30
"""Smallest row or column sum that Sinkhorn divides by; a codeword opposite to every sample has
less than 1e-17 and still must get its share."""


def unit(x: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """Vectors scaled to length one, in fp32 or better: dot products are cosine similarities."""
    return F.normalize(precise(x), dim=-1, eps=NORM_FLOOR)


def similarities(x: Float[Tensor, "N D"], y: Float[Tensor, "M D"]) -> Float[Tensor, "N M"]:
    """Dot products in the precision of the vectors, under autocast too.

    For what is chosen by them: the cosines of latents that lie close together are near 1, where
    half precision has a handful of values, and rounding would choose.
    """
    with torch.autocast(x.device.type, enabled=False):
        return x @ y.T


def check_views(latent: Tensor, view: Tensor, width: int) -> None:
    """Make sure that there are samples, that their latents are as wide, and that each has a view.

    Raises:
        ConfigError: a shape that does not fit.
    """
    if latent.dim() != 2 or latent.shape[1] != width or len(latent) == 0:
        raise ConfigError(
            f"latent: expected shape (B, {width}) of one sample or more, got {tuple(latent.shape)}"
        )
    if latent.shape != view.shape:
        raise ConfigError(
            f"view: expected the shape of latent, {tuple(latent.shape)}, got {tuple(view.shape)}"
        )


def info_nce(
    z: Float[Tensor, "B D"],
    view: Float[Tensor, "B D"],
    *,
    temperature: float,
    symmetric: bool = False,
    ignore: Bool[Tensor, "B B"] | None = None,
) -> Float[Tensor, " B"]:
    """Instance-instance contrast: each z must find its own view among the views of the batch.

    Args:
        z: projected latents of the samples; any length, they are normalised here.
        view: projected latents of their augmented views.
        temperature: t of equation 2.
        symmetric: average both directions, each with 2B - 2 negatives, as SimCLR does.
        ignore: true at (i, j) where sample j is no negative of sample i; the diagonal is not read.

    Reference: arXiv 2109.13921, equation 2; arXiv 2002.05709 for the symmetric form.
    """
    z, view = unit(z), unit(view)
    own = (z * view).sum(1) / temperature
    if not symmetric:
        return _instance_mass(z, view, temperature, ignore, siblings=False) - own
    forth = _instance_mass(z, view, temperature, ignore, siblings=True)
    back = _instance_mass(view, z, temperature, ignore, siblings=True)
    return (forth + back) / 2 - own


def aqcl(  # noqa: PLR0913 - the constants of one equation, by keyword
    z: Float[Tensor, "B D"],
    view: Float[Tensor, "B D"],
    codebook: Float[Tensor, "T D"],
    alpha: Float[Tensor, " B"],
    *,
    top_k: int,
    instance_temperature: float,
    cluster_temperature: float,
    denominator: Denominator = "joint",
    pool: Pool = "sum",
    symmetric: bool = False,
    ignore: Bool[Tensor, "B B"] | None = None,
) -> Float[Tensor, " B"]:
    """Auto-quantized contrastive loss of each sample.

    With P the softmax over all views of the batch and all codewords together, this is
    -(1 - alpha) log P(own view) - alpha log P(the K nearest codewords): a cross-entropy with mass
    1 - alpha on the own view and alpha on the nearest interests.

    Args:
        z: projected latents of the samples.
        view: projected latents of their augmented views.
        codebook: Q; pass it detached unless the loss shall train it.
        alpha: weight of the clusters for each sample, in [0, 1].
        top_k: K, the number of nearest codewords that are positive; at most all count.
        instance_temperature: t1.
        cluster_temperature: t2.
        denominator: `joint`, the paper's, or `decoupled`: instances and clusters have their own.
        pool: `sum` over the K positive codewords, the paper's, or their `mean`.
        symmetric: average over both views as anchors, each with 2B - 2 instance negatives.
        ignore: true at (i, j) where sample j is no negative of sample i; the diagonal is not read.

    Reference: arXiv 2109.13921, equation 3.
    """
    z, view, codebook = unit(z), unit(view), unit(codebook)
    alpha = alpha.to(z.dtype)
    top_k = min(top_k, len(codebook))
    if denominator == "joint" and pool == "sum" and not symmetric and ignore is None:
        # Their number, or which they are: products of half precision are too coarse to tell.
        nearest: int | Tensor = top_k
        if torch.is_autocast_enabled(z.device.type):
            with torch.no_grad():
                nearest = similarities(z, codebook).topk(top_k, dim=1, sorted=False).indices

        def joint(z: Tensor, views: Tensor, codewords: Tensor) -> Tensor:
            loss: Tensor = _JointContrast.apply(z, views, codewords, alpha, nearest)  # type: ignore[no-untyped-call]
            return loss

        return in_autocast(joint, z, view / instance_temperature, codebook / cluster_temperature)
    own = (z * view).sum(1) / instance_temperature
    anchors = [(z, view), (view, z)] if symmetric else [(z, view)]
    losses = []
    for anchor, other in anchors:
        instances = _instance_mass(anchor, other, instance_temperature, ignore, siblings=symmetric)
        similarity = similarities(anchor, codebook) / cluster_temperature
        clusters = similarity.logsumexp(1)
        positive = similarity.topk(top_k, dim=1, sorted=False).values.logsumexp(1)
        if pool == "mean":
            positive = positive - torch.log(positive.new_tensor(top_k))
        if denominator == "joint":
            total = torch.logaddexp(instances, clusters)
        else:
            total = torch.lerp(instances, clusters, alpha)
        losses.append(total - torch.lerp(own, positive, alpha))
    return torch.stack(losses).mean(0)


def _instance_mass(
    anchor: Tensor, other: Tensor, temperature: float, ignore: Tensor | None, *, siblings: bool
) -> Float[Tensor, " B"]:
    """Log-sum-exp of an anchor's similarities to all of `other` (and to its own siblings)."""
    # Dividing the B x D side and not the B x B product saves two passes over the latter.
    scaled = anchor / temperature
    if not siblings and ignore is None:
        return log_sum_exp_of_products(scaled, other)
    itself = torch.eye(len(anchor), dtype=torch.bool, device=anchor.device)
    across = precise(scaled @ other.T)
    if ignore is not None:
        across = across.masked_fill(ignore & ~itself, -torch.inf)
    if not siblings:
        return across.logsumexp(1)
    hidden = itself if ignore is None else ignore | itself
    among = precise(scaled @ anchor.T).masked_fill(hidden, -torch.inf)
    return torch.cat([across, among], dim=1).logsumexp(1)


def blocks(n_samples: int, size: int | None) -> list[slice]:
    """The fewest runs of at most `size` neighbours, all of nearly one length; None makes one."""
    n_blocks = 1 if size is None else max(-(-n_samples // size), 1)
    cuts = [n_samples * number // n_blocks for number in range(n_blocks + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(cuts)]


def same_group(groups: Int[Tensor, " B"]) -> Bool[Tensor, "B B"]:
    """Which samples share a user, an item or an intent: no true negatives of each other.

    Reference: github.com/salesforce/ICLRec, `NCELoss` in src/modules.py.
    """
    return groups[:, None] == groups


def log_sum_exp_of_products(
    queries: Float[Tensor, "N D"], keys: Float[Tensor, "M D"]
) -> Float[Tensor, " N"]:
    """(queries @ keys.T).logsumexp(1) with fewer passes over the N x M matrix.

    That matrix is most of the cost of a contrastive loss; here it is made once, exponentiated in
    place, and used by both products of the backward pass as it is. Not twice differentiable.
    """
    return in_autocast(_LogSumExpOfProducts.apply, queries, keys)


class _LogSumExpOfProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, queries: Tensor, keys: Tensor) -> Tensor:
        padded = _aligned(keys)
        logits = _logits(queries, padded, len(keys))
        largest = logits[: len(queries)].amax(1)
        # In place, as below; what aligns the matrix has no share.
        share = torch.softmax(logits, 1, out=logits)
        ctx.save_for_backward(queries, padded, share)
        ctx.n_keys = len(keys)  # type: ignore[attr-defined]
        return _log_sum_exp(largest, share[: len(queries)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        queries, keys, share = ctx.saved_tensors
        to_queries, to_keys = _gradients(queries, keys, share, gradient[:, None])
        return to_queries, to_keys[: ctx.n_keys]


class _JointContrast(torch.autograd.Function):
    """`aqcl` in the paper's form: one product with views and codewords stacked, and one softmax.

    The loss's gradient by the logits is that softmax less the mass of the positives.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        z: Tensor,
        views: Tensor,
        codewords: Tensor,
        alpha: Tensor,
        nearest: int | Tensor,
    ) -> Tensor:
        n_samples, n_keys = len(z), len(views) + len(codewords)
        keys = _aligned(torch.cat([views, codewords]))
        logits = _logits(z, keys, n_keys)
        rows = logits[:n_samples]
        own = precise(rows.diagonal().clone())
        to_codewords = rows[:, n_samples:n_keys]
        if isinstance(nearest, Tensor):
            top, places = to_codewords.gather(1, nearest), nearest
        else:
            top, places = to_codewords.topk(nearest, dim=1, sorted=False)
        positive = precise(top).logsumexp(1)
        largest = rows.amax(1)
        # In place: the matrix is the largest of a step, and a second one would cost as much again.
        pulls = torch.softmax(logits, 1, out=logits)
        loss = _log_sum_exp(largest, rows) - torch.lerp(own, positive, alpha)
        rows.diagonal().sub_(1.0 - alpha)
        on_nearest = precise(top).softmax(1) * -alpha[:, None]
        to_codewords.scatter_add_(1, places, on_nearest.to(pulls.dtype))
        ctx.save_for_backward(z, keys, pulls, own - positive)
        ctx.n_keys = n_keys  # type: ignore[attr-defined]
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        z, keys, pulls, by_alpha = ctx.saved_tensors
        _, _, of_codewords, of_alpha, _ = ctx.needs_input_grad
        to_z, to_keys = _gradients(z, keys, pulls, gradient[:, None])
        to_codewords = to_keys[len(z) : ctx.n_keys] if of_codewords else None
        to_alpha = gradient * by_alpha if of_alpha else None
        return to_z, to_keys[: len(z)], to_codewords, to_alpha, None


def _aligned(x: Float[Tensor, "N D"]) -> Float[Tensor, "rows D"]:
    """With zeros behind up to a multiple, as `dot` is faster on; BLAS, too, likes aligned rows."""
    n_more = -len(x) % MULTIPLE
    return F.pad(x, (0, 0, 0, n_more)) if n_more else x


def _logits(
    queries: Float[Tensor, "N D"], keys: Float[Tensor, "columns D"], n_keys: int
) -> Float[Tensor, "rows columns"]:
    """Dot products, minus infinity with what is no key, and rows of no meaning behind."""
    logits = dot(_aligned(queries), keys)
    logits[:, n_keys:] = -torch.inf
    return logits


def _gradients(
    queries: Float[Tensor, "N D"],
    keys: Float[Tensor, "columns D"],
    by_logits: Float[Tensor, "rows columns"],
    of_row: Float[Tensor, "N 1"],
) -> tuple[Float[Tensor, "N D"], Float[Tensor, "columns D"]]:
    """By the queries and by the keys, from each row's gradient by the logits."""
    to_queries = of_row * dot(by_logits, keys.T)[: len(queries)]
    # Zeros where a row is of no query. The product is this way round as it is faster so.
    weighted = _aligned((of_row * queries).to(by_logits.dtype))
    return to_queries, dot(weighted.T, by_logits.T).T


def _log_sum_exp(largest: Float[Tensor, " N"], share: Float[Tensor, "N M"]) -> Float[Tensor, " N"]:
    """Log-sum-exp of rows by their largest element and their softmax, which is exact there."""
    return precise(largest) - precise(share.amax(1)).log()


@torch.no_grad()
def sinkhorn(
    scores: Float[Tensor, "B T"], *, epsilon: float, iterations: int
) -> Float[Tensor, "B T"]:
    """Balanced soft assignment of B samples to T codewords: rows sum to 1/B, columns to about 1/T.

    Runs in the precision of `scores` but at least fp32, under autocast too, with the largest score
    taken out first.

    Args:
        scores: similarities of samples to codewords.
        epsilon: weight of the entropy; smaller is harder.
        iterations: pairs of normalisations, codewords first, samples last.

    Reference: arXiv 2109.13921, equation 4, its second constraint read as A^T 1_T = 1_B / B;
    arXiv 2006.09882, section 3.1.
    """
    scores = precise(scores)
    n_samples, n_codewords = scores.shape
    # NOTE[DIFF]: equation 4 prints its second constraint as Q^T 1_T; read as A^T 1_T = 1_B / B.
    logits = scores / epsilon
    top = logits.amax(dim=1, keepdim=True)
    # The kernel is scaled by its largest entry in each row, which the row's factor takes back.
    kernel = (logits - top).exp()
    by_sample = (top - top.max()).exp().squeeze(1)
    with torch.autocast(scores.device.type, enabled=False):
        for _ in range(iterations):
            by_codeword = 1.0 / (n_codewords * (by_sample @ kernel).clamp(min=MASS_FLOOR))
            by_sample = 1.0 / (n_samples * (kernel @ by_codeword).clamp(min=MASS_FLOOR))
    return kernel * by_codeword * by_sample[:, None]


def codebook_loss(
    similarity: Float[Tensor, "B T"], codes: Int[Tensor, " B"], *, temperature: float
) -> Float[Tensor, ""]:
    """Cross-entropy that draws each codeword to the samples assigned to it.

    Args:
        similarity: cosines of sg(z) and the codewords; made of detached z, so that only the
            codebook learns.
        codes: index of the codeword that each sample is assigned to.
        temperature: t3.

    Reference: arXiv 2109.13921, equation 5, averaged over the batch.
    """
    return F.cross_entropy(similarity / temperature, codes)


@torch.no_grad()
def uniformity(z: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Log E exp(-2 |z - z'|^2) over pairs of unit vectors: 0 if all are equal, lower is better.

    Reference: arXiv 2005.10242, section 4.1.2.
    """
    z = unit(z)
    squared = (2.0 - 2.0 * similarities(z, z)).clamp(min=0.0)
    apart = ~torch.eye(len(z), dtype=torch.bool, device=z.device)
    return (-2.0 * squared[apart]).exp().mean().log()


def precise(x: Tensor) -> Tensor:
    """A number of half precision in fp32: sums of many must not be rounded to a few digits."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
