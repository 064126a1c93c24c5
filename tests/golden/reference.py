"""The losses as slow loops over NumPy float64, written from the paper's equations.

Reference: arXiv 2109.13921, equations 2 to 6; arXiv 2002.05709 for both directions of equation 2;
arXiv 2006.09882 for Sinkhorn; arXiv 1711.00937, appendix A.1, for moving averages. Nothing here is
shared with the package.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def sim(a: Array, b: Array) -> float:
    """Cosine similarity."""
    dot = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(float(x) ** 2 for x in a)) / math.sqrt(sum(float(y) ** 2 for y in b))


def info_nce(
    z: Array,
    view: Array,
    temperature: float,
    symmetric: bool = False,
    groups: Sequence[int] | None = None,
) -> Array:
    """Equation 2; `symmetric` averages both directions over 2B - 2 negatives each.

    Samples of one group are no negatives of each other.
    """
    losses = []
    for j in range(len(z)):
        pairs = [(z, view), (view, z)] if symmetric else [(z, view)]
        directions = []
        for anchors, others in pairs:
            positive = math.exp(sim(anchors[j], others[j]) / temperature)
            total = instance_total(anchors, others, j, temperature, symmetric, groups)
            directions.append(-math.log(positive / total))
        losses.append(sum(directions) / len(directions))
    return np.array(losses)


def instance_total(
    anchors: Array,
    others: Array,
    j: int,
    temperature: float,
    symmetric: bool,
    groups: Sequence[int] | None,
) -> float:
    """The sum over z+ and Z- in the denominator of equations 2 and 3."""
    total = 0.0
    for i in range(len(others)):
        if groups is not None and i != j and groups[i] == groups[j]:
            continue
        total += math.exp(sim(anchors[j], others[i]) / temperature)
        if symmetric and i != j:
            total += math.exp(sim(anchors[j], anchors[i]) / temperature)
    return total


def aqcl(
    z: Array,
    view: Array,
    codebook: Array,
    alpha: Array,
    *,
    top_k: int,
    instance_temperature: float,
    cluster_temperature: float,
    denominator: str = "joint",
    pool: str = "sum",
    symmetric: bool = False,
    groups: Sequence[int] | None = None,
) -> Array:
    """Equation 3, its numerator and denominator as they are printed."""
    losses = []
    for j in range(len(z)):
        pairs = [(z, view), (view, z)] if symmetric else [(z, view)]
        directions = []
        for anchors, others in pairs:
            d1 = math.exp(sim(anchors[j], others[j]) / instance_temperature)
            d2 = [math.exp(sim(anchors[j], q) / cluster_temperature) for q in codebook]
            nearest = sorted(d2, reverse=True)[:top_k]
            positive = sum(nearest) / (len(nearest) if pool == "mean" else 1)
            instances = instance_total(anchors, others, j, instance_temperature, symmetric, groups)
            a = float(alpha[j])
            if denominator == "joint":
                ratio = d1 ** (1 - a) * positive**a / (instances + sum(d2))
                directions.append(-math.log(ratio))
            else:
                of_instances, of_clusters = -math.log(d1 / instances), -math.log(positive / sum(d2))
                directions.append((1 - a) * of_instances + a * of_clusters)
        losses.append(sum(directions) / len(directions))
    return np.array(losses)


def swav_sinkhorn(scores: Array, epsilon: float, iterations: int) -> Array:
    """Equation 4 by SwAV's loop: codewords (rows) first, then samples (columns)."""
    top = scores.max()
    plan = np.array([[math.exp((s - top) / epsilon) for s in row] for row in scores.T])
    n_codewords, n_samples = plan.shape
    plan /= plan.sum()
    for _ in range(iterations):
        for t in range(n_codewords):
            plan[t] /= plan[t].sum() * n_codewords
        for b in range(n_samples):
            plan[:, b] /= plan[:, b].sum() * n_samples
    return plan.T


def codebook_loss(z: Array, codebook: Array, codes: list[int], temperature: float) -> float:
    """Equation 5 with one-hot codes, averaged over the batch."""
    losses = []
    for b in range(len(z)):
        raised = [math.exp(sim(z[b], q) / temperature) for q in codebook]
        losses.append(-math.log(raised[codes[b]] / sum(raised)))
    return sum(losses) / len(losses)


def alpha(activity: list[float], mean_activity: float, w1: float, w2: float) -> Array:
    """Equation 6."""
    return np.array([math.exp(-w1 * (clicks / mean_activity) ** w2) for clicks in activity])


def spherical_k_means(
    codebook: Array, steps: list[tuple[Array, list[int]]], decay: float
) -> tuple[Array, Array]:
    """Codewords and counts after some steps of moving averages, each with its latents and codes.

    Sums and counts are those of VQ-VAE, with zeros at the start; a codeword without any count
    stays.
    """
    counts, sums = np.zeros(len(codebook)), np.zeros(codebook.shape)
    for z, codes in steps:
        for t in range(len(codebook)):
            own = [
                row / np.linalg.norm(row) for row, code in zip(z, codes, strict=True) if code == t
            ]
            counts[t] = decay * counts[t] + (1 - decay) * len(own)
            sums[t] = decay * sums[t] + (1 - decay) * sum(own, np.zeros(z.shape[1]))
    means = [s / n if n > 0 else q for s, n, q in zip(sums, counts, codebook, strict=True)]
    return np.array([mean / np.linalg.norm(mean) for mean in means]), counts


def readout(z: Array, codebook: Array, alpha: Array, top_k: int, temperature: float) -> Array:
    """alpha * sum over Q+ of softmax(sim(z, q) / t2) q, with codewords of length one."""
    rows = []
    for j in range(len(z)):
        nearest = sorted(codebook, key=lambda q: sim(z[j], q), reverse=True)[:top_k]
        raised = [math.exp(sim(z[j], q) / temperature) for q in nearest]
        total = np.zeros(z.shape[1])
        for weight, q in zip(raised, nearest, strict=True):
            total += weight / sum(raised) * q / np.linalg.norm(q)
        rows.append(alpha[j] * total)
    return np.array(rows)
