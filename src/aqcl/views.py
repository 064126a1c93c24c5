"""Augmentations: `Embedded` in, `Embedded` out.

Reference: arXiv 2109.13921, section 4.1: some clicks of the history are masked, then some bits of
the embeddings are set to zero as dropout does.
"""

import dataclasses
from typing import Annotated

import torch
from pydantic import Field as Bounds
from torch import Generator, Tensor

from aqcl.batch import Embedded
from aqcl.config import settings
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
