"""Side and view: learnt from altered copies, on tokens whose answer is known."""

import numpy as np
import torch

from dino_diffusion.models.encoder import EncoderOutput
from dino_diffusion.models.readout import LungReadout
from dino_diffusion.models.view_checks import PATCH_NUMBERS, ViewChecks, side_difference
from dino_diffusion.training.view_checks import fit_view_checks, logistic_regression, spoil
from dino_diffusion.view_report import ViewReport

SIZE = 48


def chests(count: int, seed: int = 0) -> torch.Tensor:
    """Two dark lungs, and a bright heart on the picture's right side, each a little elsewhere."""
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[:SIZE, :SIZE] / SIZE
    pictures = np.full((count, 1, SIZE, SIZE), 0.7, dtype=np.float32)
    for picture in pictures[:, 0]:
        (x, y), air = rng.uniform(-0.04, 0.04, 2), rng.uniform(0.1, 0.3)
        for centre in (0.28, 0.72):
            picture[((across - centre - x) / 0.16) ** 2 + ((down - 0.45 - y) / 0.33) ** 2 < 1] = air
        picture[((across - 0.6 - x) / 0.14) ** 2 + ((down - 0.6 - y) / 0.14) ** 2 < 1] = 0.9
    return torch.from_numpy(pictures + rng.normal(0, 0.02, pictures.shape).astype(np.float32))


def encode(pictures: torch.Tensor) -> EncoderOutput:
    """Patches are the picture itself, in coarse cells; CLS its mean and spread."""
    cells = torch.nn.functional.adaptive_avg_pool2d(pictures, 12)
    spread = torch.stack([pictures.mean((1, 2, 3)), pictures.std((1, 2, 3))], dim=1)
    return EncoderOutput(spread, torch.cat([cells, cells.square()], dim=1))


def test_mirrored_negative_and_foreign_pictures_are_noticed_and_others_are_not() -> None:
    checks = fit_view_checks(chests(120), encode, np.random.default_rng(0))
    fresh = chests(60, seed=1)
    plain, mirrored = encode(fresh), encode(fresh.flip(-1))
    assert (checks.mirrored(plain) > 0).float().mean() <= 0.1
    assert (checks.mirrored(mirrored) > 0).float().mean() >= 0.95
    assert (checks.foreign(plain) > 0).float().mean() <= 0.1
    assert (checks.foreign(mirrored) > 0).float().mean() <= 0.1
    assert (checks.foreign(encode(fresh.flip(-2))) > 0).float().mean() >= 0.95
    for picture in (fresh, fresh.flip(-1)):
        assert (checks.negative(encode(1 - picture)) > 0).float().mean() >= 0.95
        assert (checks.negative(encode(picture)) > 0).float().mean() <= 0.05
    noise = torch.rand(20, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    assert (checks.foreign(encode(noise)) > 0).all()


def test_of_long_tokens_the_leading_numbers_are_read() -> None:
    def wide(pictures: torch.Tensor) -> EncoderOutput:
        known = encode(pictures)
        noise = torch.randn(len(pictures), PATCH_NUMBERS, 12, 12)
        return EncoderOutput(known.cls, torch.cat([known.patches, noise], dim=1))

    checks = fit_view_checks(chests(40), wide, np.random.default_rng(0))
    fresh = encode(chests(4, seed=1))
    padded = torch.zeros(4, PATCH_NUMBERS - 2, 12, 12)
    short = EncoderOutput(fresh.cls, torch.cat([fresh.patches, padded], dim=1))
    more = torch.cat([short.patches, torch.randn(4, 3, 12, 12)], dim=1)
    assert torch.equal(checks.foreign(short), checks.foreign(EncoderOutput(fresh.cls, more)))
    assert torch.equal(checks.mirrored(short), checks.mirrored(EncoderOutput(fresh.cls, more)))


def test_what_is_alike_on_both_sides_says_nothing_about_the_side() -> None:
    patches = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    tokens = EncoderOutput(torch.zeros(2, 4), patches)
    flipped = EncoderOutput(torch.zeros(2, 4), patches.flip(-1))
    even = EncoderOutput(torch.zeros(2, 4), patches + patches.flip(-1))
    torch.testing.assert_close(side_difference(flipped), -side_difference(tokens))
    torch.testing.assert_close(side_difference(even), torch.zeros_like(side_difference(even)))


def test_a_spoilt_picture_is_never_the_picture_itself() -> None:
    picture, rng = chests(1), np.random.default_rng(0)
    for _ in range(30):
        spoilt = spoil(picture, rng)
        assert spoilt.shape == picture.shape
        assert not torch.equal(spoilt, picture)


def test_logistic_regression_finds_the_border_of_shifted_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(400, 3, generator=generator) * torch.tensor([1.0, 10.0, 0.1])
    shift = torch.tensor([4.0, 0.0, 0.0])
    weight, bias = logistic_regression(rows[:200] + shift, rows[200:] - shift, decay=1e-3)
    assert ((rows[:200] + shift) @ weight + bias > 0).float().mean() > 0.99
    assert ((rows[200:] - shift) @ weight + bias < 0).float().mean() > 0.99


def test_checks_travel_with_the_readout_and_a_head_without_them_loads(tmp_path) -> None:
    for name, checked in (("with", (24, 12)), ("without", None)):
        LungReadout(width=8, kept=4, hidden=4, checked=checked).save_pretrained(tmp_path / name)
        loaded = LungReadout.from_pretrained(tmp_path / name)
        assert (loaded.checks is not None) == (checked is not None)


def test_each_picture_of_a_batch_gets_its_own_report() -> None:
    checks = ViewChecks(4, 4)
    for weight in (checks.sides.weight, checks.view.weight, checks.view.bias):
        torch.nn.init.zeros_(weight)
    checks.polarity.weight.data[0, 0] = 1  # the first number of CLS alone tells a negative
    checks.borders.copy_(torch.tensor([0.5, 0.5, 100.0]))
    tokens = EncoderOutput(torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]]), torch.zeros(2, 4, 12, 12))
    assert ViewReport.of(checks, tokens) == [ViewReport(negative=True), ViewReport()]
    assert ViewReport.of(None, tokens) == [ViewReport()] * 2
