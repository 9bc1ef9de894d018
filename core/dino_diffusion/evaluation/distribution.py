"""Distances between a real and a synthetic image set, on feature arrays `(N, D)` in float64.

FID falls with the number of images, so it is given beside a floor: two disjoint halves of the real set,
measured with exactly as many images. KID has no such bias and comes with a confidence interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from dino_diffusion.evaluation import EvaluationError

MIN_IMAGES = 10
"""Fewer images than this on either side of a comparison say nothing."""


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Frechet distance of two feature sets taken as Gaussians (Heusel 2017, eq. 6).

    With `A`, `B` the centred features over sqrt(n - 1), trace(sqrt(cov_a cov_b)) is the sum of the singular
    values of `A B^T`. That is exact where there are fewer images than features; the matrix square root that
    `monai.metrics.FIDMetric` takes is not, and fails for some such sets.
    """
    mean_gap = a.mean(axis=0) - b.mean(axis=0)
    root_a, root_b = _covariance_root(a), _covariance_root(b)
    cross = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    distance = mean_gap @ mean_gap + (root_a**2).sum() + (root_b**2).sum() - 2 * cross
    return max(float(distance), 0.0)


def _covariance_root(features: np.ndarray) -> np.ndarray:
    """`R` with `R^T R` the covariance; at most `(D, D)`."""
    centred = (features - features.mean(axis=0)) / math.sqrt(len(features) - 1)
    if len(centred) <= centred.shape[1]:
        return centred
    return np.asarray(np.linalg.qr(centred, mode="r"))


@dataclass(frozen=True)
class KernelDistance:
    """Squared maximum mean discrepancy and its 95 % confidence interval; may be negative."""

    value: float
    low: float
    high: float


def kernel_distance(a: np.ndarray, b: np.ndarray, subsets: int = 200, seed: int = 0) -> KernelDistance:
    """KID: unbiased squared MMD with the kernel (x.y / D + 1)^3 (Binkowski 2018, eq. 4).

    The customary mean over random subsets tends to the estimate on all images as subsets grow in number; that
    limit is what is returned. The subsets serve for the interval: half of each set, drawn without
    replacement, is the delete-half jackknife, whose spread is the standard error (Shao and Wu 1989); it is
    too wide, never too narrow, where the two distributions are the same. (`monai.metrics.MMDMetric` has a
    linear kernel and wants sets of equal size.)

    Raises:
        EvaluationError: fewer than four images on a side, so that half of them has no pair.
    """
    return _with_interval(_kernel_estimates(a, b, subsets, seed))


def kernel_difference(
    real: np.ndarray, a: np.ndarray, b: np.ndarray, subsets: int = 200, seed: int = 0
) -> KernelDistance:
    """KID of `a` less that of `b`, both against `real`, for sets that are pairs: row k of both comes from
    the same noise. Its interval leaves out the same images on both sides, and so is narrower than that of
    either KID, most of whose spread the two share.

    Raises:
        EvaluationError: sets of different numbers, or fewer than four images.
    """
    if len(a) != len(b):
        raise EvaluationError(f"{len(a)} and {len(b)} images are no pairs: draw as many of each.")
    return _with_interval(
        _kernel_estimates(real, a, subsets, seed) - _kernel_estimates(real, b, subsets, seed)
    )


def _with_interval(estimates: np.ndarray) -> KernelDistance:
    value, spread = float(estimates[0]), 1.96 * float(estimates[1:].std(ddof=1))
    return KernelDistance(value, value - spread, value + spread)


def _kernel_estimates(a: np.ndarray, b: np.ndarray, subsets: int, seed: int) -> np.ndarray:
    """`(1 + subsets,)`: on all images, then on halves of each set."""
    if min(len(a), len(b)) < 4:
        raise EvaluationError(f"{min(len(a), len(b))} images are too few for a KID: give at least 4.")
    rng = np.random.default_rng(seed)
    halves_a, halves_b = _halves(len(a), subsets, rng), _halves(len(b), subsets, rng)
    within_a, within_b = _kernel_sums(a, a, halves_a, halves_a), _kernel_sums(b, b, halves_b, halves_b)
    between = _kernel_sums(a, b, halves_a, halves_b)
    n, m = halves_a.sum(axis=0), halves_b.sum(axis=0)
    return within_a / (n * (n - 1)) + within_b / (m * (m - 1)) - 2 * between / (n * m)


def _halves(count: int, subsets: int, rng: np.random.Generator) -> np.ndarray:
    """`(count, 1 + subsets)` of 0 and 1: the first column is the whole set, the others random halves."""
    chosen = np.zeros((count, 1 + subsets))
    chosen[:, 0] = 1
    for column in range(1, 1 + subsets):
        chosen[rng.permutation(count)[: count // 2], column] = 1
    return chosen


def _kernel_sums(a: np.ndarray, b: np.ndarray, chosen_a: np.ndarray, chosen_b: np.ndarray) -> np.ndarray:
    """Sum of the kernel over each pair of subsets, `(subsets,)`; without the diagonal where `a` is `b`.

    Works on blocks of rows: the whole kernel of 10,000 images would be 800 MB.
    """
    sums = np.zeros(chosen_a.shape[1])
    for start in range(0, len(a), 1024):
        rows = slice(start, start + 1024)
        kernel = (a[rows] @ b.T / a.shape[1] + 1) ** 3
        if a is b:
            kernel[np.arange(len(kernel)), np.arange(start, start + len(kernel))] = 0
        sums += np.einsum("is,is->s", chosen_a[rows], kernel @ chosen_b)
    return sums


def precision_recall(real: np.ndarray, synthetic: np.ndarray, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi 2019, eq. 1-3).

    Precision: share of synthetic features within the manifold of the real ones, which is the union of balls
    around each, as wide as the distance to its `k`-th neighbour. Recall: the same with the roles exchanged.
    Both depend on the number of images: compare at equal `N`.
    """
    distances = cdist(real, synthetic)
    precision = (distances <= _manifold_radii(real, k)[:, None]).any(axis=0).mean()
    recall = (distances <= _manifold_radii(synthetic, k)[None, :]).any(axis=1).mean()
    return float(precision), float(recall)


def _manifold_radii(features: np.ndarray, k: int) -> np.ndarray:
    """Distance of each feature to its `k`-th nearest other one, `(N,)`."""
    return np.partition(cdist(features, features), k, axis=1)[:, k]  # the nearest, at 0, is itself


def evaluate_generation(
    real_features: np.ndarray,
    synthetic_features: np.ndarray,
    net: str,
    k: int = 3,
    splits: int = 3,
    seed: int = 0,
) -> dict[str, Any]:
    """Everything there is to say about a synthetic set through one feature network, ready for JSON.

    Args:
        real_features: `(N, D)`, held-out real images.
        synthetic_features: `(M, D)`.
        net: name of the feature network.
        k: neighbours for precision and recall.
        splits: random splits of the real set that the values at equal `N` are averaged over.
        seed: of splits and subsets.

    Returns:
        `net`; `n_real`, `n_synthetic`: images handed in; `dimensions`: D;
        `n_equal`: images on each side of FID, precision and recall, min(n_synthetic, n_real / 2);
        `fid`, `fid_sd`: mean and spread over the splits; `fid_floor`, `fid_floor_sd`: the same for one half
        of the real set against the other; `fid_over_floor`: their ratio, 1 is perfect, null for a floor of 0;
        `kid`, `kid_ci` ([low, high], 95 %): on all images;
        `precision`, `recall`, and `precision_real`, `recall_real`: what real images reach against real ones.

    Raises:
        EvaluationError: too few images, or arrays that do not fit together.
    """
    real, synthetic = _features(real_features, "real"), _features(synthetic_features, "synthetic")
    if real.shape[1] != synthetic.shape[1]:
        raise EvaluationError(
            f"Real and synthetic features have {real.shape[1]} and {synthetic.shape[1]} values an image: "
            "compute both with the same network."
        )
    if len(real) < 2 * MIN_IMAGES or len(synthetic) < MIN_IMAGES:
        raise EvaluationError(
            f"{len(real)} real and {len(synthetic)} synthetic images are too few to compare: give at least "
            f"{2 * MIN_IMAGES} real and {MIN_IMAGES} synthetic ones (some hundreds for a FID worth quoting)."
        )
    rng = np.random.default_rng(seed)
    n = min(len(synthetic), len(real) // 2)
    rows = []
    for _ in range(splits):
        order = rng.permutation(len(real))
        half, other = real[order[:n]], real[order[n : 2 * n]]
        sample = synthetic[rng.permutation(len(synthetic))[:n]]
        rows.append(
            [
                frechet_distance(half, sample),
                frechet_distance(half, other),
                *precision_recall(half, sample, k),
                *precision_recall(half, other, k),
            ]
        )
    fid, floor, precision, recall, precision_real, recall_real = np.mean(rows, axis=0).tolist()
    fid_sd, floor_sd = np.std(rows, axis=0)[:2].tolist()
    kid = kernel_distance(real, synthetic, seed=seed)
    return {
        "net": net,
        "n_real": len(real),
        "n_synthetic": len(synthetic),
        "dimensions": real.shape[1],
        "n_equal": n,
        "fid": fid,
        "fid_sd": fid_sd,
        "fid_floor": floor,
        "fid_floor_sd": floor_sd,
        "fid_over_floor": fid / floor if floor > 0 else None,
        "kid": kid.value,
        "kid_ci": [kid.low, kid.high],
        "precision": precision,
        "recall": recall,
        "precision_real": precision_real,
        "recall_real": recall_real,
    }


def _features(features: np.ndarray, which: str) -> np.ndarray:
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or not np.isfinite(features).all():
        raise EvaluationError(
            f"The {which} features (shape {features.shape}) are not finite vectors, one an image: "
            "compute them again."
        )
    return features
