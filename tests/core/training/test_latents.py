from pathlib import Path

import numpy as np
import pytest
import torch

from dino_diffusion.errors import ConfigurationError
from dino_diffusion.models import Autoencoder, DinoEncoder
from dino_diffusion.training import latents
from dino_diffusion.training.corpus import CorpusItem, load_corpus
from dino_diffusion.training.latents import LatentCache, list_views, load_cache, prepare

SIZES = (32, 64)
CPU = torch.device("cpu")


@pytest.fixture
def encoder(backbone: Path) -> DinoEncoder:
    return DinoEncoder.from_backbone(backbone, 2, 28, 16, 8)


@pytest.fixture
def autoencoder() -> Autoencoder:
    torch.manual_seed(1)
    return Autoencoder(4, (16, 16, 16), 1, residual_encoder=False)


@pytest.fixture
def items(pictures: Path) -> list[CorpusItem]:
    return load_corpus(pictures, limit=5)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latents, "SHARD_VIEWS", 3)


def columns(cache: LatentCache) -> list[torch.Tensor]:
    return [
        *cache.latents.values(),
        *cache.frames.values(),
        *cache.fits.values(),
        cache.cls,
        cache.patches,
        cache.items,
    ]


def prepared(folder: Path, *parts: object, **options: int) -> None:
    items, encoder, autoencoder = parts
    views = list_views(items, 2, np.arange(len(items)))
    prepare(folder, items, views, SIZES, encoder, autoencoder, 7, CPU, quiet=True, **options)


def test_whole_views_hold_what_the_models_say(tmp_path, items, encoder, autoencoder) -> None:
    prepared(tmp_path, items, encoder, autoencoder)
    cache = load_cache(tmp_path, SIZES)
    assert (
        len(cache) == 10 and cache.latents[64].shape == (10, 4, 8, 8) and cache.patches.shape[1:] == (8, 2, 2)
    )
    assert cache.items.tolist() == [0, 1, 2, 3, 4] * 2
    assert all(fits.all() for fits in cache.fits.values())
    from dino_diffusion.crop import cut, whole
    from dino_diffusion.training.views import square

    picture = square(items[3].read())
    with torch.no_grad():
        latent = autoencoder.encode(cut(picture, whole(picture.shape[-1]), 64))
    torch.testing.assert_close(cache.latents[64][3].float(), latent[0], rtol=1e-2, atol=1e-2)
    assert cache.frames[64][3][:4].tolist() == [0, 0, 1, 1]


def test_an_interrupted_preparation_goes_on(tmp_path, items, encoder, autoencoder) -> None:
    prepared(tmp_path / "whole", items, encoder, autoencoder)
    prepared(tmp_path / "cut", items, encoder, autoencoder)
    shards = sorted((tmp_path / "cut").glob("views-*.safetensors"))
    assert len(shards) == 4
    kept = shards[0].stat().st_mtime_ns
    shards[2].unlink()
    prepared(tmp_path / "cut", items, encoder, autoencoder)
    assert shards[0].stat().st_mtime_ns == kept
    for one, other in zip(*(columns(load_cache(tmp_path / n, SIZES)) for n in ("whole", "cut")), strict=True):
        assert torch.equal(one, other)


def test_processes_share_the_work(tmp_path, items, encoder, autoencoder) -> None:
    prepared(tmp_path / "one", items, encoder, autoencoder)
    for rank in (0, 1):
        prepared(tmp_path / "two", items, encoder, autoencoder, rank=rank, processes=2)
    for one, other in zip(*(columns(load_cache(tmp_path / n, SIZES)) for n in ("one", "two")), strict=True):
        assert torch.equal(one, other)


def test_other_models_or_data_are_refused_but_a_better_decoder_is_not(
    tmp_path, items, encoder, autoencoder
) -> None:
    prepared(tmp_path, items, encoder, autoencoder)
    with torch.no_grad():
        autoencoder.synthesis.weight.add_(1)
        autoencoder.decoder.conv_out.weight.add_(1)
    prepared(tmp_path, items, encoder, autoencoder)
    with pytest.raises(ConfigurationError, match="made by other models"):
        prepared(tmp_path, items[:-1], encoder, autoencoder)
    with torch.no_grad():
        autoencoder.analysis.weight.add_(1)
    with pytest.raises(ConfigurationError, match="made by other models"):
        prepared(tmp_path, items, encoder, autoencoder)


def test_small_images_give_no_crops_and_do_not_fit_large_sizes(tmp_path, items, encoder, autoencoder) -> None:
    views = list_views(items, 2, np.arange(len(items)))
    sizes = (64, 256)  # the pictures have about 135 px
    prepare(tmp_path, items, views, sizes, encoder, autoencoder, 7, CPU, quiet=True)
    cache = load_cache(tmp_path, sizes)
    assert len(cache) == 5 and cache.fits[64].all() and not cache.fits[256].any()
    with pytest.raises(ConfigurationError, match="no prepared views"):
        load_cache(tmp_path / "nothing", sizes)


def test_latents_and_tokens_move_to_a_device_and_what_chooses_them_stays(
    tmp_path, items, encoder, autoencoder
) -> None:
    prepared(tmp_path, items, encoder, autoencoder)
    cache = load_cache(tmp_path, SIZES)
    moved = cache.to(torch.device("meta"))
    assert {moved.cls.device.type, moved.patches.device.type, moved.latents[64].device.type} == {"meta"}
    assert moved.frames[64].device.type == moved.items.device.type == "cpu"
    assert cache.bytes == sum(
        t.nbytes for t in (cache.latents[32], cache.latents[64], cache.cls, cache.patches)
    )
