"""Alpha and the health of codebooks, as parts of a report."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from aqcl.dataset import Dataset
from aqcl.experiment import Experiment
from aqcl.report.page import Cell, figure, number, table
from aqcl.runs import Run
from aqcl.search.conclusion import alpha_pictures
from aqcl.search.summary import shapes_of, with_learned_alpha

CODEBOOK = (
    "nearest_perplexity",
    "perplexity",
    "dead_codewords",
    "view_similarity",
    "interest_similarity",
    "uniformity",
)
"""What AQCL logs of its codebook and latents."""


def alpha_body(
    dataset: Dataset, runs: Mapping[str, Sequence[Run]], figures: dict[str, Figure]
) -> str:
    """Alpha of each method that has one, of each seed where it was learned, and the codebooks.

    Args:
        dataset: of the runs.
        runs: by method.
        figures: the pictures are added.
    """
    parts = []
    for k, (name, found) in enumerate(runs.items()):
        if "alpha" not in found[0].manifest.content:
            parts.append(drawn_alpha(name, f"alpha-{k}", found[0].experiment, dataset, figures))
            continue
        for run in found:
            seed = run.experiment.seed
            title, key = f"{name}, seed {seed}, as learned", f"alpha-{k}-seed-{seed}"
            learned = with_learned_alpha(run.experiment, run.path)
            parts.append(drawn_alpha(title, key, learned, dataset, figures))
    return "".join(parts) + _codebooks(runs)


def drawn_alpha(
    title: str, key: str, experiment: Experiment, dataset: Dataset, figures: dict[str, Figure]
) -> str:
    """Alpha of each regularizer that has one, over the activity of the training users.

    Args:
        title: whose alpha it is.
        key: of the figure; those of further regularizers have a number behind it.
        experiment: whose options say what alpha is.
        dataset: of the users.
        figures: the pictures are added.
    """
    parts, shapes = [], shapes_of(experiment)
    for n, (owner, drawn) in enumerate(alpha_pictures(experiment, dataset).items()):
        name = key if n == 0 else f"{key}-{n}"
        figures[name] = drawn
        values = ", ".join(f"{k} = {value:.3g}" for k, value in shapes[owner].named().items())
        over = "over the training clicks of the users who have any"
        caption = f"{title}: alpha of {owner} {over}; {values}"
        parts.append(figure(drawn, name, caption, caption))
    return "".join(parts)


def _codebooks(runs: Mapping[str, Sequence[Run]]) -> str:
    """The health of each codebook at the last evaluation; nothing where there is none."""
    rows: list[list[Cell]] = []
    for name, found in runs.items():
        for run in found:
            for line in run.log()[-1:]:
                owners = {k.rpartition("/")[0] for k in line if k.endswith("/perplexity")}
                rows += [
                    [Cell(name), Cell(str(run.experiment.seed), run.experiment.seed)]
                    + [number(line.get(f"{owner}/{key}"), 2) for key in CODEBOOK]
                    for owner in sorted(owners)
                ]
    if not rows:
        return ""
    headings = [
        "Method",
        "#Seed",
        "#Perplexity, nearest",
        "#Perplexity, balanced",
        "#Dead codewords",
        "#Similarity of views",
        "#Similarity to interests",
        "#Uniformity",
    ]
    caption = (
        "Health of the codebook at the last evaluation. Perplexity of the nearest: over how "
        "many codewords the samples of a training batch lie evenly, each at its nearest, with "
        "dropout, which spreads them; few of all say that the codebook has collapsed, and more "
        "than rows in a batch it cannot be. Without dropout it may be far less: see the interests "
        "below. Balanced perplexity and dead codewords are of the assignment that spreads samples "
        "over all codewords by construction: they tell nothing of a collapse"
    )
    return table(headings, rows, caption)
