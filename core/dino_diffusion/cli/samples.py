"""`dino-diffusion samples`: the radiographs that travel with the project, made again.

They are generated from nothing but a bundle's token prior, so no patient is in them.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dino_diffusion.cli import options
from dino_diffusion.cli.console import Output
from dino_diffusion.cli.generate import sample
from dino_diffusion.cli.loading import load_bundle
from dino_diffusion.cli.segment import check_folder

if TYPE_CHECKING:
    import numpy as np
    from pydicom.dataset import Dataset

    from dino_diffusion.generation.variants import Synthetic

DETECTOR_MM = 350.0
"""A usual detector's width: a synthetic chest has no true size, but DICOM DX wants a pixel spacing."""

DICOM_BITS = 12


def samples(
    output: options.OutputFolder,
    count: Annotated[
        int, typer.Option("-n", "--count", min=1, max=20, help="How many; the last is DICOM.")
    ] = 3,
    seed: options.Seed = 0,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    bundle: options.Bundle = None,
    device: options.Device = None,
    quiet: options.Quiet = False,
) -> None:
    """Make the sample radiographs: 8-bit PNG and one DICOM DX, marked synthetic in their metadata."""
    console = Output(quiet)
    check_folder(output)
    loaded = load_bundle(bundle, device, console)
    made = sample(loaded, console, count, None, seed, steps, guidance)
    for number, item in enumerate(made, start=1):
        write = write_dicom if number == count else write_png
        console.say(str(write(item, output, f"synthetic-{number}")))


def write_png(item: Synthetic, folder: Path, name: str) -> Path:
    """8 bits, the recipe in the metadata."""
    from dino_diffusion.files.write_image import write_image
    from dino_diffusion.pictures import to_uint8
    from dino_diffusion.radiograph import Radiograph

    radiograph = Radiograph.from_array(to_uint8(item.pixels), name=name)
    return write_image(radiograph, radiograph.stored, folder / f"{name}.png", asdict(item.recipe))


def write_dicom(item: Synthetic, folder: Path, name: str) -> Path:
    """12-bit DX for presentation; patient and study are made up by the writer of derived images."""
    import numpy as np

    from dino_diffusion.files.write_image import write_image
    from dino_diffusion.radiograph import Radiograph

    highest = 2**DICOM_BITS - 1
    stored = np.rint(np.clip(item.pixels, 0, 1) * highest).astype(np.uint16)
    radiograph = Radiograph.from_array(stored, name=name)
    source = replace(radiograph.source, format="dicom", dataset=picture_attributes(stored))
    radiograph = replace(radiograph, source=source)
    return write_image(radiograph, stored, folder / f"{name}.dcm", asdict(item.recipe))


def picture_attributes(stored: np.ndarray) -> Dataset:
    """What a DX header says of a frontal chest picture `(H, W)` of 12 bits."""
    from pydicom.dataset import Dataset
    from pydicom.uid import DigitalXRayImageStorageForPresentation

    attributes = Dataset()
    attributes.SOPClassUID, attributes.Modality = DigitalXRayImageStorageForPresentation, "DX"
    attributes.BodyPartExamined, attributes.ViewPosition = "CHEST", "PA"
    attributes.PatientOrientation, attributes.ImageLaterality = ["L", "F"], "U"
    attributes.ImagerPixelSpacing = [round(DETECTOR_MM / stored.shape[1], 6)] * 2
    attributes.PixelIntensityRelationship, attributes.PixelIntensityRelationshipSign = "LOG", -1
    attributes.RescaleIntercept, attributes.RescaleSlope, attributes.RescaleType = 0, 1, "US"
    attributes.WindowCenter, attributes.WindowWidth = 2 ** (DICOM_BITS - 1), 2**DICOM_BITS
    attributes.PresentationLUTShape, attributes.PresentationIntentType = "IDENTITY", "FOR PRESENTATION"
    attributes.BurnedInAnnotation, attributes.LossyImageCompression = "NO", "00"
    attributes.BitsAllocated, attributes.BitsStored, attributes.HighBit = 16, DICOM_BITS, DICOM_BITS - 1
    attributes.PixelRepresentation, attributes.PhotometricInterpretation = 0, "MONOCHROME2"
    return attributes
