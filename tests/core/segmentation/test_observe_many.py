"""Several radiographs at once are seen as each is alone, a negative among them as its negative."""

import pytest
import torch

from dino_diffusion.radiograph import Radiograph
from dino_diffusion.segmentation import observe
from dino_diffusion.segmentation.observation import observe_many
from dino_diffusion.view_report import ViewReport
from tests.tiny import smooth_picture, tiny_bundle

SHAPES = ((64, 64), (90, 50), (40, 300))


def test_each_is_seen_as_it_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tiny_bundle()
    films = [Radiograph.from_array(smooth_picture(seed, *shape)) for seed, shape in enumerate(SHAPES)]
    dark = bundle.encoder(films[1].model_view(bundle.size).pixels).cls
    monkeypatch.setattr(
        ViewReport,
        "of",
        lambda checks, tokens: [
            ViewReport(negative=torch.allclose(cls, dark[0], atol=1e-3)) for cls in tokens.cls
        ],
    )
    pictures = [(film, film.model_view(bundle.size)) for film in films]
    for film, together in zip(films, observe_many(bundle, pictures, seed=3), strict=True):
        alone = observe(bundle, film, seed=3)
        assert together.radiograph is film and together.report == alone.report
        assert together.report.negative == (film is films[1])
        assert torch.equal(together.view.pixels, alone.view.pixels) and together.widths == alone.widths
        assert torch.allclose(together.features, alone.features, atol=1e-4)
        assert torch.allclose(together.encoded.latents, alone.encoded.latents, atol=1e-4)
