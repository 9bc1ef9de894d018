"""What a concept is worth: does it fit unseen images of its class, do pictures made of it show the class?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dino_diffusion.device import inference
from dino_diffusion.evaluation.features import (
    CallableFeatures,
    EfficientNetLite0Features,
    FeatureExtractor,
    extract,
)
from dino_diffusion.evaluation.probe import Probe, auc, cross_validated
from dino_diffusion.generation.composition import generate_concept
from dino_diffusion.generation.concept import Concept
from dino_diffusion.generation.inversion import concept_loss
from dino_diffusion.generation.invert import Picture
from dino_diffusion.models import ModelBundle
from dino_diffusion.training.latents import LatentCache, list_views, load_cache, prepare

BATCH = 8


def prepared(bundle: ModelBundle, paths: Sequence[Path], folder: Path, views: int = 1) -> LatentCache:
    """Latents and tokens of radiographs, made once: the whole of each, and `views - 1` crops."""
    pictures = [Picture.of(path) for path in paths]
    listed = list_views(pictures, views, np.arange(len(pictures)))
    sizes = (bundle.size,)
    prepare(folder, pictures, listed, sizes, bundle.encoder, bundle.autoencoder, 0, bundle.device, quiet=True)
    return load_cache(folder, sizes)


@dataclass(frozen=True)
class ClassProbes:
    """A probe for one class a feature network, and the AUC (five folds by patient) of each on real images.

    Real images pass through the autoencoder first, as every synthetic one does: else a probe might tell them
    by their grain.
    """

    extractors: Mapping[str, FeatureExtractor]
    probes: Mapping[str, Probe]
    aucs: Mapping[str, float]

    @classmethod
    def fit(
        cls, bundle: ModelBundle, latents: torch.Tensor, labels: np.ndarray, patients: Sequence[str]
    ) -> ClassProbes:
        """From latents `(N, C, h, w)` of whole images, and `(N,)` labels, true for the class.

        Raises EvaluationError without the extra `evaluation`, or where a class is missing.
        """
        networks: list[FeatureExtractor] = [
            CallableFeatures("DINO CLS", lambda batch: bundle.encoder(batch.to(bundle.device)).cls),
            EfficientNetLite0Features(bundle.device),
        ]
        extractors = {network.name: network for network in networks}
        features = {name: extract(network, restored(bundle, latents)) for name, network in extractors.items()}
        probes = {name: Probe.fit(values, labels) for name, values in features.items()}
        aucs = {name: auc(labels, cross_validated(v, labels, patients)) for name, v in features.items()}
        return cls(extractors, probes, aucs)

    def logits(self, pictures: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Of square pictures `(S, S)` in [0, 1]: `(N,)` by network, above 0 for the class."""
        stacked = torch.from_numpy(np.stack(pictures))[:, None]
        return {
            name: self.probes[name].logits(extract(network, stacked.split(BATCH)))
            for name, network in self.extractors.items()
        }


def restored(bundle: ModelBundle, latents: torch.Tensor) -> Iterator[torch.Tensor]:
    """Decoded pictures in batches, `(B, 1, S, S)`."""
    for part in latents.split(BATCH):
        with inference(bundle.device):
            yield bundle.autoencoder.decode(part.to(bundle.device).float()).float().cpu()


def losses(bundle: ModelBundle, cache: LatentCache, concept: Concept | None) -> np.ndarray:
    """Flow loss `(N,)` of each prepared view with the concept alone (None: no condition), paired noise."""
    vectors = None if concept is None else concept.vectors
    return concept_loss(bundle, cache, torch.arange(len(cache)), vectors).mean(1).numpy()


def pictures_of(bundle: ModelBundle, concept: Concept, count: int, seed: int = 1) -> list[np.ndarray]:
    """Whole pictures of a concept; picture k of two concepts starts from the same noise."""
    return [item.pixels for item in generate_concept(bundle, [(concept, 1.0)], count, seed)]
