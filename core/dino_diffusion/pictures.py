"""Pictures for people: labelmap over radiograph, contact sheet, difference map. RGB arrays `(H, W, 3)` uint8.

None of these is data: they are scaled, tinted and lettered. Labelmaps and images are written elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import distance_transform_edt, gaussian_filter
from skimage.segmentation import find_boundaries

from dino_diffusion.codes import Segment, segment_of
from dino_diffusion.files.atomic import atomic_path

Colour = tuple[int, int, int]

BACKGROUND: Colour = (18, 20, 24)
TEXT: Colour = (232, 234, 237)
QUIET: Colour = (150, 155, 163)
LINE: Colour = (255, 205, 60)
FILL = 0.22
"""Opacity of the fill: low enough to read the lung markings through it."""


def overlay(
    radiograph: np.ndarray,
    labels: np.ndarray,
    longest_side: int | None = 1024,
    names: dict[int, str] | None = None,
    legend: bool = True,
    reference: np.ndarray | None = None,
    segments: dict[int, Segment] | None = None,
) -> np.ndarray:
    """Radiograph with every label as a translucent area in an outline, and a legend below.

    Args:
        radiograph: `(H, W)` in [0, 1].
        labels: `(H, W)` labels.
        longest_side: of the result in pixels; None keeps the radiograph's own size.
        names: of learnt segments (labels from 16).
        legend: add a strip below the picture that names the labels, so that no pixel is hidden.
        reference: `(H, W)` other labels, whose outlines are drawn in white, as thin lines above the rest.
        segments: what labels stand for where that is not the package's own meaning.

    Raises:
        ValueError: the shapes differ.
    """
    for grid in (labels, *([] if reference is None else [reference])):
        if radiograph.shape != grid.shape:
            raise ValueError(
                f"labels {grid.shape} do not lie on the grid of the radiograph {radiograph.shape}"
            )
    size = _fitted(radiograph.shape, longest_side)
    picture = np.repeat(_resized(radiograph, size)[..., None], 3, axis=2)
    width = max(1.5, max(size) / 420)  # of the outline
    present = _present(labels)
    own, named = segments or {}, names or {}
    described = {label: own.get(label) or segment_of(label, named.get(label)) for label in present}
    outlines = []
    for label in present:
        depth = _depth(labels, label, size)
        tint = np.array(described[label].colour) / 255
        picture = _blend(picture, tint, FILL * np.clip(depth + 0.5, 0, 1))
        outlines.append((tint, _line(depth, width)))
    if reference is not None:
        depths = [_depth(reference, label, size) for label in _present(reference)]
        outlines += [(np.ones(3), _line(depth, width / 2)) for depth in depths]
    for tint, opacity in outlines:  # above every fill
        picture = _blend(picture, tint, 0.95 * opacity)
    drawn = to_uint8(picture)
    if not legend or not present:
        return drawn
    strip = _legend(size[1], list(described.values()))
    return np.concatenate([drawn, strip])


def _present(labels: np.ndarray) -> list[int]:
    return [int(label) for label in np.unique(labels) if label]


def _line(depth: np.ndarray, width: float) -> np.ndarray:
    """Opacity of an outline of `width` pixels that lies inside the mask."""
    return np.clip(width / 2 + 0.5 - np.abs(depth - width / 2), 0, 1)


def _depth(labels: np.ndarray, label: int, size: tuple[int, int]) -> np.ndarray:
    """Signed distance to a label's edge at `size`, in pixels, positive inside; smoothed against stairs."""
    mask = _resized(np.asarray(labels == label, dtype=np.float32), size) > 0.5
    if not mask.any():
        return np.full(mask.shape, -np.inf)
    if mask.all():
        return np.full(mask.shape, np.inf)
    inside = np.asarray(distance_transform_edt(mask))
    outside = np.asarray(distance_transform_edt(~mask))
    depth = np.where(mask, inside - 0.5, 0.5 - outside)
    return np.asarray(gaussian_filter(depth, max(mask.shape) / 700))


def _blend(picture: np.ndarray, tint: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    return picture + opacity[..., None] * (tint - picture)


def _legend(width: int, entries: list[Segment]) -> np.ndarray:
    """A strip of swatches, marks and names, in as many rows as they need; `(h, width, 3)`."""
    unit = max(11, width // 46)
    font, row = _font(unit), round(unit * 1.8)
    lengths = [unit * 1.6 + font.getlength(f"{entry.mark}  {entry.name}") for entry in entries]
    columns = max(1, min(len(entries), int((width - unit) // (max(lengths) + 2 * unit))))
    rows = math.ceil(len(entries) / columns)
    columns = math.ceil(len(entries) / rows)  # even rows
    pitch = max(lengths) + 2 * unit
    left = (width - columns * pitch + 2 * unit) / 2
    strip = Image.new("RGB", (width, row * rows + unit), BACKGROUND)
    draw = ImageDraw.Draw(strip)
    for index, entry in enumerate(entries):
        x, middle = left + index // rows * pitch, (unit + row) / 2 + index % rows * row
        box = (x, middle - unit / 2, x + unit, middle + unit / 2)
        fill = tuple(round(FILL * 1.5 * channel) for channel in entry.colour)
        draw.rounded_rectangle(
            box, radius=unit * 0.25, fill=fill, outline=entry.colour, width=max(1, unit // 8)
        )
        draw.text((x + unit * 1.6, middle), entry.mark, font=font, fill=entry.colour, anchor="lm")
        after_mark = x + unit * 1.6 + font.getlength(f"{entry.mark}  ")
        draw.text((after_mark, middle), entry.name, font=font, fill=TEXT, anchor="lm")
    return np.asarray(strip)


def borders(radiograph: np.ndarray, labels: np.ndarray, longest_side: int = 1024) -> np.ndarray:
    """Radiograph with a line wherever two labels meet, for more of them than colours can tell apart.

    Args:
        radiograph: `(H, W)` in [0, 1].
        labels: `(H, W)` labels.
        longest_side: of the result in pixels.

    Raises:
        ValueError: the shapes differ.
    """
    if radiograph.shape != labels.shape:
        raise ValueError(f"labels {labels.shape} do not lie on the grid of the radiograph {radiograph.shape}")
    size = _fitted(radiograph.shape, longest_side)
    rows, columns = (np.arange(n) * full // n for n, full in zip(size, labels.shape, strict=True))
    line = find_boundaries(labels[np.ix_(rows, columns)], mode="thick")
    picture = np.repeat(_resized(radiograph, size)[..., None], 3, axis=2)
    return to_uint8(_blend(picture, np.array(LINE) / 255, 0.9 * line))


def contact_sheet(
    pictures: Sequence[np.ndarray],
    captions: Sequence[str] = (),
    columns: int | None = None,
    tile: int = 256,
    title: str = "",
) -> np.ndarray:
    """Pictures in a grid, a caption under each.

    Args:
        pictures: `(H, W)` in [0, 1] or `(H, W, 3)` uint8, of any sizes; each is fitted into its tile.
        captions: one a picture, or none at all; long ones are shortened.
        columns: by default as near to a square as the count allows, wider than high.
        tile: side of a tile in pixels.
        title: a line above.

    Raises:
        ValueError: no picture, or another number of captions than pictures.
    """
    if not pictures or (captions and len(captions) != len(pictures)):
        raise ValueError(f"{len(pictures)} pictures and {len(captions)} captions make no contact sheet")
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    gap = max(6, tile // 24)
    font, title_font = _font(max(10, tile // 17)), _font(max(13, tile // 12))
    caption_height = max(14, tile // 10) if captions else 0
    head = round(title_font.size * 2) if title else 0
    width = gap + columns * (tile + gap)
    sheet = Image.new("RGB", (width, head + gap + rows * (tile + caption_height + gap)), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    if title:
        line = _shortened(title, title_font, width - 2 * gap)
        draw.text((gap, gap + title_font.size * 0.8), line, font=title_font, fill=TEXT, anchor="lm")
    for index, picture in enumerate(pictures):
        x = gap + index % columns * (tile + gap)
        y = head + gap + index // columns * (tile + caption_height + gap)
        fitted = _fitted_picture(picture, tile)
        draw.rectangle((x, y, x + tile - 1, y + tile - 1), fill=(0, 0, 0))
        sheet.paste(fitted, (x + (tile - fitted.width) // 2, y + (tile - fitted.height) // 2))
        if captions:
            line = _shortened(captions[index], font, tile)
            draw.text(
                (x + tile / 2, y + tile + caption_height * 0.55), line, font=font, fill=QUIET, anchor="mm"
            )
    return np.asarray(sheet)


def difference_map(before: np.ndarray, after: np.ndarray, longest_side: int | None = 1024) -> np.ndarray:
    """What changed, over a dimmed `before`: red where `after` is brighter, blue where it is darker.

    The opacity follows the difference over its 99.9th percentile (at least 0.02), which the scale below the
    picture names.

    Args:
        before: `(H, W)` in [0, 1].
        after: `(H, W)` in [0, 1].
        longest_side: of the picture in pixels; None keeps its size.

    Raises:
        ValueError: the shapes differ.
    """
    if before.shape != after.shape:
        raise ValueError(f"pictures of shapes {before.shape} and {after.shape} cannot be compared")
    change = np.asarray(after, dtype=np.float32) - before
    limit = max(0.02, float(np.percentile(np.abs(change), 99.9)))
    size = _fitted(before.shape, longest_side)
    base = np.repeat(_resized(before, size)[..., None] * 0.55, 3, axis=2)
    picture = _tinted(base, _resized(change, size, signed=True) / limit)
    return np.concatenate([to_uint8(picture), _change_scale(picture.shape[1], limit)])


def _tinted(base: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Blend towards red for positive, towards blue for negative `change` in [-1, 1]."""
    strength = 0.85 * np.clip(np.abs(change), 0, 1) ** 0.8
    red, blue = np.array([1.0, 0.28, 0.22]), np.array([0.25, 0.56, 1.0])
    return base + strength[..., None] * (np.where(change[..., None] > 0, red, blue) - base)


def _change_scale(width: int, limit: float) -> np.ndarray:
    unit = max(11, width // 44)
    strip = Image.new("RGB", (width, round(unit * 2.6)), BACKGROUND)
    draw, font = ImageDraw.Draw(strip), _font(unit)
    ramp = np.linspace(-1, 1, max(32, width // 3))
    bar = to_uint8(
        _tinted(np.full((round(unit * 0.7), len(ramp), 3), 0.12), np.tile(ramp, (round(unit * 0.7), 1)))
    )
    left, middle = (width - len(ramp)) // 2, strip.height / 2
    strip.paste(Image.fromarray(bar), (left, round(middle - bar.shape[0] / 2)))
    draw.text((left - unit * 0.6, middle), f"darker  -{limit:.2f}", font=font, fill=TEXT, anchor="rm")
    draw.text(
        (left + len(ramp) + unit * 0.6, middle), f"+{limit:.2f}  brighter", font=font, fill=TEXT, anchor="lm"
    )
    return np.asarray(strip)


def to_uint8(picture: np.ndarray) -> np.ndarray:
    """[0, 1] to 0..255, rounded and clipped."""
    return (np.clip(np.nan_to_num(picture), 0, 1) * 255 + 0.5).astype(np.uint8)


def save_png(picture: np.ndarray, path: Path) -> Path:
    """Write `(H, W)` in [0, 1] or `(H, W[, 3])` uint8 as PNG; a failed write leaves nothing behind.

    Raises:
        RadiographError: the place cannot be written to.
    """
    image = Image.fromarray(picture if picture.dtype == np.uint8 else to_uint8(picture))
    with atomic_path(Path(path)) as temporary:
        image.save(temporary, format="PNG")
    return Path(path)


def _font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own typeface, the same on every machine."""
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _shortened(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """`text`, its middle left out where it would be wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    kept = len(text)
    while kept > 2 and font.getlength(_without_middle(text, kept)) > width:
        kept -= 1
    return _without_middle(text, kept)


def _without_middle(text: str, kept: int) -> str:
    return text[: (kept + 1) // 2] + "…" + text[len(text) - kept // 2 :]


def _fitted(shape: tuple[int, ...], longest_side: int | None) -> tuple[int, int]:
    """Height and width scaled to `longest_side`."""
    scale = 1.0 if longest_side is None else longest_side / max(shape[:2])
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _resized(values: np.ndarray, size: tuple[int, int], signed: bool = False) -> np.ndarray:
    """`(H, W)` to `size` as float32, clipped to [0, 1], or to [-1, 1] where `signed`."""
    height, width = size
    picture = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    resized = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))
    return np.clip(np.nan_to_num(resized), -1 if signed else 0, 1)


def _fitted_picture(picture: np.ndarray, tile: int) -> Image.Image:
    height, width = _fitted(picture.shape, tile)
    image = Image.fromarray(picture if picture.dtype == np.uint8 else to_uint8(picture)).convert("RGB")
    return image.resize((width, height), Image.Resampling.LANCZOS)
