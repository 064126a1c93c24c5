"""Augmentations: `Embedded` in, `Embedded` out.

Reference: arXiv 2109.13921, section 4.1: some clicks of the history are masked, then some bits of
the embeddings are set to zero as dropout does. Views of the history alone: arXiv 2010.14395.
"""

import dataclasses
from typing import Annotated

import torch
from jaxtyping import Bool
from pydantic import Field as Bounds
from torch import Generator, Tensor

from aqcl.batch import Embedded
from aqcl.config import settings
from aqcl.jagged import positions
from aqcl.layers import dropout_mask


def mask_history(embedded: Embedded, rate: float, generator: Generator) -> Embedded:
    """Mask each click with probability `rate`, but never all clicks of a row.

    A row that would lose all its clicks keeps one of them, picked at random. The candidate is
    never masked and `activity` stays the unmasked length.
    """
    if rate == 0:
        return embedded
    embedded = embedded.without_masked()
    segment, offsets = embedded.segment, embedded.offsets
    lengths = offsets.diff()
    draw = torch.rand(segment.shape, generator=generator, device=segment.device)
    pick = torch.rand(lengths.shape, generator=generator, device=segment.device)
    keep = draw >= rate
    emptied = (torch.bincount(segment[keep], minlength=len(lengths)) == 0) & (lengths > 0)
    keep[(offsets[:-1] + (pick * lengths).long())[emptied]] = True
    return dataclasses.replace(embedded, keep=keep)


def drop_bits(embedded: Embedded, rate: float, generator: Generator) -> Embedded:
    """Inverted dropout of single coordinates of every embedding vector (user, item, history...)."""
    if rate == 0:
        return embedded

    def dropped(vectors: Tensor) -> Tensor:
        return vectors * dropout_mask(vectors, rate, generator)

    return dataclasses.replace(
        embedded,
        user=dropped(embedded.user),
        item=dropped(embedded.item),
        context=dropped(embedded.context),
        history=dropped(embedded.history),
    )


@settings
class ViewOptions:
    """How the second view of a sample is made."""

    mask_rate: Annotated[float, Bounds(ge=0, lt=1)] = 0.3
    """Probability that the view masks a click."""
    bit_rate: Annotated[float, Bounds(ge=0, lt=1)] = 0.1
    """Probability that the view zeroes a coordinate of an embedding."""
    share_attention: bool = True
    """Whether a click weighs in the view what it weighs in the sample. Otherwise attention is
    computed anew from the perturbed vectors, which costs a second attention pass."""


def augment(embedded: Embedded, options: ViewOptions, generator: Generator) -> Embedded:
    """The second view of the paper: masked clicks, then zeroed embedding bits."""
    # NOTE[DIFF]: by default the attention scores of the view are those of the sample.
    masked = mask_history(embedded, options.mask_rate, generator).without_masked()
    view = drop_bits(masked, options.bit_rate, generator)
    return view if options.share_attention else dataclasses.replace(view, scores=None)


def crop_history(embedded: Embedded, share: float, generator: Generator) -> Embedded:
    """Keep a block of neighbouring clicks of each row, anywhere in it; the rest is masked.

    Args:
        embedded: samples; what an earlier view masked is taken out first.
        share: the block has floor(share * length) clicks, but at least one.
        generator: draws where the blocks begin.

    Reference: arXiv 2010.14395, section 3 (item crop, ratio eta).
    """
    embedded = embedded.without_masked()
    return dataclasses.replace(embedded, keep=_blocks(embedded, share, generator, at_least=1))


def _blocks(
    embedded: Embedded, share: float, generator: Generator, *, at_least: int
) -> Bool[Tensor, " S"]:
    """One random block of neighbours in each row, as the clicks that are inside."""
    segment, offsets = embedded.segment, embedded.offsets
    lengths = offsets.diff()
    draw = torch.rand(lengths.shape, generator=generator, device=segment.device)
    sizes = (lengths.double() * share).long().clamp(min=at_least).minimum(lengths)
    begins = (draw * (lengths - sizes + 1)).long()
    place = positions(segment, offsets)
    return (place >= begins[segment]) & (place < (begins + sizes)[segment])


def _shuffle(embedded: Embedded, inside: Bool[Tensor, " S"], generator: Generator) -> Embedded:
    """The same samples with the clicks `inside` of each row in random order among themselves."""
    places = inside.nonzero().squeeze(1)
    rows = embedded.segment[places]
    drawn = torch.rand(rows.shape, generator=generator, device=rows.device).argsort()
    # Random within a row, rows in their old order.
    order = drawn[rows[drawn].argsort(stable=True)]
    source = torch.arange(len(inside), device=inside.device)
    source[places] = places[order]
    scores = embedded.scores
    return dataclasses.replace(
        embedded,
        history=embedded.history.index_select(0, source),
        scores=None if scores is None else scores.index_select(0, source),
    )


@settings
class HistoryViewOptions:
    """How a view of the history alone is made."""

    crop_share: Annotated[float, Bounds(gt=0, le=1)] = 0.6
    """Share of the clicks that a crop keeps."""
    mask_rate: Annotated[float, Bounds(gt=0, lt=1)] = 0.3
    """Probability that a mask takes a click out."""
    reorder_share: Annotated[float, Bounds(gt=0, le=1)] = 0.6
    """Share of the clicks that a reordering shuffles."""


def augment_history(
    embedded: Embedded, options: HistoryViewOptions, generator: Generator
) -> Embedded:
    """Crop, mask or reorder the history of each row, whichever the row draws.

    Reference: arXiv 2010.14395, section 3 (data augmentation operators).
    """
    # NOTE[DIFF]: CL4SRec masks a fixed share of the clicks with a mask token; here each click is
    # taken out with that probability, and one of a row always stays. A crop keeps a click too.
    embedded = embedded.without_masked()
    segment = embedded.segment
    drawn = torch.randint(
        3, (len(embedded.offsets) - 1,), generator=generator, device=segment.device
    )
    operation = drawn[segment]
    cropped = crop_history(embedded, options.crop_share, generator).keep
    masked = mask_history(embedded, options.mask_rate, generator).keep
    assert cropped is not None
    assert masked is not None
    keep = ((operation != 0) | cropped) & ((operation != 1) | masked)
    # NOTE[DIFF]: CL4SRec has a model that reads the clicks in their order; of the backbones here
    # only the latents of `dien`, `dmr` and `sasrec` know it, and for the others a reordering does
    # nothing.
    block = _blocks(embedded, options.reorder_share, generator, at_least=0)
    view = _shuffle(embedded, (operation == 2) & block, generator)
    return dataclasses.replace(view, keep=keep).without_masked()


def history_alone(embedded: Embedded) -> Embedded:
    """The same clicks without the user, the candidate and the context, and unweighted by them.

    The user's activity is 0, too: gates that read it would tell which views are of one sample.
    """
    output = embedded.item_output
    return dataclasses.replace(
        embedded,
        user=torch.zeros_like(embedded.user),
        item=torch.zeros_like(embedded.item),
        context=torch.zeros_like(embedded.context),
        item_output=None if output is None else torch.zeros_like(output),
        activity=torch.zeros_like(embedded.activity),
        scores=None,
    )
