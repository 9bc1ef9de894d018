"""Rows of `segmentation.py` that read attention and features as the literature does, without a head."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from segmentation_bench import CLUSTERED_IMAGES, Bench, Segment

from dino_diffusion.device import inference
from dino_diffusion.evaluation.ablations import scaled
from dino_diffusion.evaluation.lungs import prediction_of
from dino_diffusion.evaluation.per_image import cut_regions, merged_attention, prior_shares, walked
from dino_diffusion.evaluation.segment_tokens import Queries, fit_tokens, queries_of
from dino_diffusion.evaluation.segmentation import Prediction
from dino_diffusion.radiograph import Radiograph
from dino_diffusion.segmentation.affinity import joint_attention, likeness
from dino_diffusion.segmentation.features import Encoded
from dino_diffusion.segmentation.lungs import FoundLungs
from dino_diffusion.segmentation.observation import Looked, Observation, look, observe
from dino_diffusion.training.pseudo_labels import border_of, cluster_maps, probabilities, shares_of

ALIKE, CUT = 0.02, 0.1
"""Divergence up to which maps are merged, and cost up to which a part is cut; chosen on dev masks."""

HALF = 0.5
"""A region of one picture is lung where more than so much of it lies inside the ellipses."""

SHARPNESS = 2
"""Power of mutual attention that a walk follows; chosen on dev masks."""

TOKEN_IMAGES = 160

Soft = Callable[[Observation], torch.Tensor]
"""A picture with its attention to a soft lung map `(1, 1, h, w)`."""


def merged_by_attention(bench: Bench) -> Segment:
    return _by_map(bench, lambda seen: prior_shares(merged_attention(attention_of(seen), ALIKE)), HALF)


def normalised_cut(bench: Bench) -> Segment:
    def soft(seen: Observation) -> torch.Tensor:
        features = seen.features[:, 0].mean(0).flatten(1).cpu()
        return prior_shares(cut_regions(likeness(features.split(seen.widths)) + 1e-6, CUT))

    return _by_map(bench, soft, HALF)


def attention_walk(bench: Bench) -> Segment:
    """What a value of its maps means, training images say."""

    def soft(seen: Observation) -> torch.Tensor:
        attention = attention_of(seen)
        mutual = attention + attention.T
        return walked((mutual / mutual.max()) ** SHARPNESS + 1e-9)

    images = bench.corpus(CLUSTERED_IMAGES)
    maps = [soft(observe(bench.bundle, image, attention=True)) for image in images]
    return _by_map(bench, soft, border_of(torch.cat(maps), bench.settings.lung_area))


def attention_of(seen: Observation) -> torch.Tensor:
    """`(cells, cells)` on the latent's grid, averaged over the noise levels."""
    height, width = seen.features.shape[-2:]
    return joint_attention(seen.attention, (height, width)).float().cpu()


def _by_map(bench: Bench, soft: Soft, border: float) -> Segment:
    def segment(path: Path) -> Prediction:
        radiograph = Radiograph.read(path.resolve())
        seen = observe(bench.bundle, radiograph, attention=True)
        shares = shares_of(probabilities(soft(seen), border))
        return _outlined(shares[None], seen, radiograph)

    return segment


def tokens(bench: Bench) -> Segment:
    """Pseudo-labels are those of clusters over the corpus, as in the training of the head, of whole views."""
    bundle, settings = bench.bundle, bench.settings
    times = bundle.readout.config.times

    def asked(encoded: Encoded, level: int) -> Queries:
        with inference(bundle.device):
            return queries_of(bundle.denoiser, encoded, times[level], torch.Generator().manual_seed(level))

    queries, features = [], []
    for number, radiograph in enumerate(bench.corpus(TOKEN_IMAGES)):
        seen, level = observe(bundle, radiograph), number % len(times)
        queries.append(asked(seen.encoded, level))
        features.append(seen.features[level].cpu())
    readout = copy.deepcopy(bundle.readout).cpu()
    readout.fit_reduction(torch.cat(features))
    soft = cluster_maps(scaled(readout, torch.cat(features)), settings.clusters, settings.run.seed)
    lung = probabilities(soft, border_of(soft, settings.lung_area))
    fitted = fit_tokens(bundle.denoiser, queries, shares_of(lung))
    grid = soft.shape[-2:]

    def segment(path: Path) -> Prediction:
        radiograph = Radiograph.read(path.resolve())
        seen = look(bundle, radiograph)
        votes = [fitted(asked(seen.encoded, level), grid).softmax(1) for level in range(len(times))]
        return _outlined(torch.stack(votes), seen, radiograph)

    return segment


def _outlined(votes: torch.Tensor, seen: Observation | Looked, radiograph: Radiograph) -> Prediction:
    """`votes` (times, 1, 3, h, w)."""
    return prediction_of(FoundLungs(votes.cpu().numpy(), seen.report).outlined(radiograph, seen.view))
