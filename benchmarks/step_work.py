"""What a training step of DIN and of DIN+AQCL has to do, counted from its shapes.

Letters: B rows of the batch, S clicks in it, d width of a click, H sizes of layers, T codewords.
Passes count floats read or written by elementwise operations, forward and backward; what a matrix
product reads is part of its measured time.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

FLOAT = 4
"""Bytes."""
FLOATS_PER_WORD = 4
"""Dropout draws 16 bits a number."""
ADAM_PASSES = 7
"""Weight, gradient and two moments read; weight and two moments written."""
DICE_FORWARD, DICE_BACKWARD = 9, 21
"""Statistics 2 and normalising 2; slope + (1 - slope) p: 2; times x: 3. Backward: product 6,
slope 7, sigmoid 3 and normalising 5."""
DROPOUT_PASSES = 10
"""Comparing 2, scaling 2, multiplying 3; backward 3."""
SINKHORN_PASSES = 2
"""Of an iteration over the kernel: a vector from each side."""


class Linear(NamedTuple):
    """A linear layer (n_rows, n_in) to (n_rows, n_out): one product forward, two backward."""

    n_rows: int
    n_in: int
    n_out: int
    n_products: int = 3
    """2 where one of the gradients is not needed."""

    @property
    def flops(self) -> int:
        """Of all products."""
        return 2 * self.n_products * self.n_rows * self.n_in * self.n_out


@dataclass(frozen=True)
class Work:
    """What one item of a step does."""

    linears: tuple[Linear, ...] = ()
    passes: float = 0.0
    """Floats moved by elementwise operations."""
    sigmoids: float = 0.0
    exponentials: float = 0.0
    words: float = 0.0
    """Random 64-bit words."""
    uniforms: float = 0.0
    """Random floats."""
    gathered: float = 0.0
    """Floats of rows looked up."""
    scattered: float = 0.0
    """Floats of rows added to a gradient."""
    streamed: float = 0.0
    """Floats of whole tables read or written."""

    @property
    def flops(self) -> int:
        """Of the matrix products."""
        return sum(layer.flops for layer in self.linears)

    @property
    def bytes(self) -> float:
        """Moved outside the matrix products."""
        return FLOAT * (self.passes + 2 * self.gathered + 3 * self.scattered + self.streamed)


@dataclass(frozen=True)
class Shape:
    """The sizes that a step depends on; clicks are those of the actual batches."""

    rows: int
    clicks: float
    """Mean number of clicks in a batch, as truncated."""
    width: int
    """Of a click or candidate."""
    inputs: int
    """Width of the top network's input."""
    attention: tuple[int, ...]
    top: tuple[int, ...]
    users: int
    items: int
    dense: int
    """Parameters outside the tables."""
    kept: float = 0.7
    """Share of the clicks that a view keeps."""
    projector: tuple[int, ...] = ()
    codewords: int = 0
    iterations: int = 3

    @property
    def contrastive(self) -> bool:
        """Whether AQCL takes part."""
        return self.codewords > 0


def step_work(shape: Shape) -> Mapping[str, Work]:
    """The items of a step by name, in the order in which they run."""
    items = {
        "look-up and its gradient": look_up(shape),
        "attention unit": attention_unit(shape),
        "pooling": pooling(shape, shape.clicks),
        "top: products": Work(_layers(shape.rows, (shape.inputs, *shape.top))),
        "top: Dice": dice(shape),
        "top: dropout": dropout(shape),
        "head and logloss": Work((Linear(shape.rows, shape.top[-1], 1),), passes=12 * shape.rows),
        "penalty": Work(streamed=3 * _table_floats(shape)),
        "Adam": Work(streamed=ADAM_PASSES * (_table_floats(shape) + shape.dense)),
    }
    if not shape.contrastive:
        return items
    kept = shape.clicks * shape.kept
    doubled = ("top: products", "top: Dice", "top: dropout")
    items |= {name: twice(items[name]) for name in doubled}
    items["pooling"] = plus(items["pooling"], pooling(shape, kept))
    return items | {
        "view": view(shape, kept),
        "projector": Work(
            _layers(2 * shape.rows, (shape.top[-1], *shape.projector)),
            passes=6 * 2 * shape.rows * sum(shape.projector[:-1]),
        ),
        "contrast": contrast(shape),
        "assignment": assignment(shape),
        "codebook": codebook(shape),
    }


def look_up(shape: Shape) -> Work:
    """Rows of both tables; backward a dense gradient of zeros that rows are added to."""
    n_ids = 2 * shape.rows + shape.clicks
    return Work(
        # Comparing and replacing unknown and dropped ids: 64-bit numbers.
        passes=12 * n_ids,
        uniforms=n_ids,
        gathered=n_ids * shape.width,
        scattered=n_ids * shape.width,
        streamed=_table_floats(shape),
    )


def attention_unit(shape: Shape) -> Work:
    """DIN's unit with sigmoids in its factored form."""
    rows, clicks, width = shape.rows, round(shape.clicks), shape.width
    first, hidden = shape.attention[0], sum(shape.attention)
    linears = (
        Linear(rows, width, first),
        *_layers(clicks, (2 * width, *shape.attention, 1)),
    )
    # Forward: candidates repeated 2d, inputs put together 4d and multiplied 3d, first layer's
    # candidate part repeated 2 H1. Backward: biases and sigmoids 4 H, sums by row H1, products 8d.
    passes = clicks * (17 * width + 3 * first + 4 * hidden)
    return Work(linears, passes=passes, sigmoids=clicks * hidden)


def pooling(shape: Shape, clicks: float) -> Work:
    """Clicks weighted and summed by row; backward of weights and clicks."""
    return Work(passes=clicks * shape.width * 8)


def dice(shape: Shape) -> Work:
    """Both hidden layers of the top network."""
    n = shape.rows * sum(shape.top)
    return Work(passes=n * (DICE_FORWARD + DICE_BACKWARD), sigmoids=n)


def dropout(shape: Shape) -> Work:
    """The same layers."""
    n = shape.rows * sum(shape.top)
    return Work(passes=n * DROPOUT_PASSES, words=n / FLOATS_PER_WORD)


def view(shape: Shape, kept: float) -> Work:
    """Masked clicks taken out, bits of all vectors dropped; backward the way back."""
    n = kept * shape.width + 2 * shape.rows * shape.width
    return Work(
        # Masking compares and compresses a few numbers a click; the backward adds two gradients.
        passes=DROPOUT_PASSES * n + 12 * shape.clicks + 3 * shape.clicks * shape.width,
        words=n / FLOATS_PER_WORD,
        uniforms=shape.clicks + shape.rows,
        gathered=kept * shape.width,
        scattered=kept * shape.width,
        streamed=shape.clicks * shape.width,
    )


def contrast(shape: Shape) -> Work:
    """One product with views and codewords, its softmax, products back.

    That by the codewords, which are constant, is made too: a part of the matrix would have to be
    copied first.
    """
    n_keys, dim = shape.rows + shape.codewords, shape.projector[-1]
    return Work(
        (Linear(shape.rows, dim, n_keys),),
        # Largest elements twice, K nearest codewords, unit vectors and their gradients.
        passes=2 * shape.rows * n_keys + shape.rows * (2 * shape.codewords + 24 * dim),
        exponentials=shape.rows * n_keys,
    )


def assignment(shape: Shape) -> Work:
    """Sinkhorn: the kernel once, two products with vectors in each iteration, the plan."""
    n = shape.rows * shape.codewords
    return Work(passes=n * (SINKHORN_PASSES * shape.iterations + 8), exponentials=n)


def codebook(shape: Shape) -> Work:
    """Similarities of detached latents, cross-entropy, stored latents; no gradient to latents."""
    n, dim = shape.rows * shape.codewords, shape.projector[-1]
    return Work(
        (Linear(shape.rows, dim, shape.codewords, 2),),
        passes=n * 8 + shape.rows * dim * 6 + 4 * shape.codewords * dim * 3,
        exponentials=2 * n,
    )


def twice(work: Work) -> Work:
    """The same again."""
    return plus(work, work)


def plus(one: Work, other: Work) -> Work:
    """Both."""
    names = [name for name in vars(one) if name != "linears"]
    sums = {name: getattr(one, name) + getattr(other, name) for name in names}
    return Work(one.linears + other.linears, **sums)


def _layers(n_rows: int, sizes: tuple[int, ...]) -> tuple[Linear, ...]:
    return tuple(Linear(n_rows, a, b) for a, b in itertools.pairwise(sizes))


def _table_floats(shape: Shape) -> int:
    return (shape.users + shape.items) * shape.width
