from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dino_diffusion.crop import cut, frame_of
from dino_diffusion.training.corpus import CorpusItem
from dino_diffusion.training.denoiser import draw_present, draw_times, size_at
from dino_diffusion.training.distillation import draw_crops
from dino_diffusion.training.settings import DenoiserSettings, EncoderSettings, RunSettings
from dino_diffusion.training.views import MAX_ENLARGEMENT, draw_box, square


def ramp(height: int, width: int) -> np.ndarray:
    """Brighter to the right and, half as much, downward: any flip or turn shows."""
    return (np.linspace(0, 1, width)[None] + np.linspace(0, 0.5, height)[:, None]).astype(np.float32)


def rises(picture: torch.Tensor) -> bool:
    half = picture.shape[-1] // 2
    right = picture[..., half:].mean() > picture[..., :half].mean()
    return bool(right & (picture[..., half:, :].mean() > picture[..., :half, :].mean()))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), side=st.integers(60, 300), size=st.sampled_from([64, 128]))
def test_boxes_lie_inside_and_are_never_flipped_or_much_enlarged(seed: int, side: int, size: int) -> None:
    box = draw_box(np.random.default_rng(seed), side, size)
    assert 0 <= box.left <= box.left + box.side <= side and 0 <= box.top <= box.top + box.side <= side
    assert box.side * MAX_ENLARGEMENT >= min(size, side * MAX_ENLARGEMENT) - 1e-6
    assert rises(cut(square(ramp(side, side)), box, size))
    frame = frame_of(box, side, size)
    assert 0 <= frame.left < frame.right <= 1 and frame.source_side == box.side


@settings(max_examples=15, deadline=None)
@given(place=st.integers(0, 10**9))
def test_distillation_crops_are_never_flipped(place: int) -> None:
    class Ramp(CorpusItem):
        def read(self) -> np.ndarray:
            return ramp(224, 224)

    crops = draw_crops([Ramp("x", "s", Path("x"))], (56, 28), EncoderSettings(local_crops=3), place, 0)
    assert crops["globals"].shape == (2, 1, 56, 56) and crops["locals"].shape == (3, 1, 28, 28)
    assert all(rises(crop) for name in crops for crop in crops[name])


def test_a_picture_is_padded_with_air_in_the_middle() -> None:
    picture = square(np.ones((10, 4), np.float32) * np.linspace(0.2, 1, 10, dtype=np.float32)[:, None])
    assert picture.shape == (1, 1, 10, 10)
    assert (picture[..., :3] == 0).all() and (picture[..., 7:] == 0).all() and (picture[..., 3:7] > 0).all()


def test_present_tokens_drop_alone_in_rectangles_and_altogether() -> None:
    settings_ = DenoiserSettings(token_grid=4)
    present = draw_present(4000, settings_, torch.Generator().manual_seed(0))
    again = draw_present(4000, settings_, torch.Generator().manual_seed(0))
    assert present.shape == (4000, 17) and torch.equal(present, again)
    nothing, everything = ~present.any(1), present.all(1)
    assert 0.08 < nothing.float().mean() < 0.2 and everything.float().mean() > 0.2
    cls_only = present[:, 0] & ~present[:, 1:].any(1)
    patches_only = ~present[:, 0] & present[:, 1:].all(1)
    assert cls_only.any() and patches_only.any()


def test_lost_patches_form_a_rectangle_when_nothing_else_is_lost() -> None:
    drops = DenoiserSettings(token_grid=4, drop_all=0.0)
    lost = ~draw_present(3000, drops, torch.Generator().manual_seed(1))[:, 1:].view(-1, 4, 4)
    rectangles = 0
    for grid in lost[lost.flatten(1).any(1)]:
        rows, columns = grid.any(1), grid.any(0)
        rectangles += bool((grid == (rows[:, None] & columns[None])).all()) and 1 < grid.sum() < 16
    assert rectangles > 200


def test_cls_alone_has_no_patches_to_drop() -> None:
    assert draw_present(5, DenoiserSettings(token_grid=0), torch.Generator().manual_seed(0)).shape == (5, 1)


def test_times_lie_between_clean_and_noise_and_the_shift_moves_them_up() -> None:
    plain, shifted = (draw_times(5000, shift, torch.Generator().manual_seed(0)) for shift in (1.0, 3.0))
    assert plain.min() > 0 and shifted.max() < 1
    assert abs(plain.mean() - 0.5) < 0.02 and shifted.mean() > 0.65


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, (128, 8)), (0.69, (128, 8)), (0.71, (256, 4)), (1.0, (256, 4))]
)
def test_size_follows_progress(progress: float, expected: tuple[int, int]) -> None:
    assert size_at(progress, DenoiserSettings(run=RunSettings(batch=8))) == expected
