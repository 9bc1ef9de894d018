"""Against Orthanc: images come from the archive, labels go there as DICOM SEG, nothing synthetic unasked."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
import requests
import SimpleITK as sitk

from dino_diffusion.errors import DinoDiffusionError
from dino_diffusion.files.write_image import write_image
from dino_diffusion.radiograph import Radiograph
from monailabel_app.lib.errors import RequestError
from monailabel_app.server.dicomweb import LISTING_SECONDS, ArchiveError, DicomwebDatastore, open_archive
from tests.core.radiograph.phantom import PATIENT_ID, chest, dicom, lungs
from tests.server.conftest import TOKEN
from tests.server.orthanc import Orthanc, missing
from tests.server.process import ours

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
]
NAMES = {"label_names": {"right lung": 1, "left lung": 2}}


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Orthanc]:
    with Orthanc(tmp_path) as running:
        yield running


@pytest.fixture
def images(archive: Orthanc, tmp_path: Path) -> dict[str, str]:
    """By what they are: the ids under which they have to be listed."""
    added = {}
    for name, attributes in {
        "cr": {},
        "dx": {"Modality": "DX"},
        "ct": {"Modality": "CT"},
        "first of two": {"SeriesInstanceUID": "1.2.3.4"},
        "second of two": {"SeriesInstanceUID": "1.2.3.4", "StudyInstanceUID": "1.2.3"},
    }.items():
        if name == "first of two":
            attributes["StudyInstanceUID"] = "1.2.3"
        dataset = dicom(tmp_path / "x.dcm", chest(), **attributes)
        archive.add(tmp_path / "x.dcm")
        added[name] = str(dataset.SOPInstanceUID if "two" in name else dataset.SeriesInstanceUID)
    return added


@pytest.fixture
def store(archive: Orthanc, images: dict[str, str], tmp_path: Path) -> DicomwebDatastore:
    return open_archive(archive.address, tmp_path / "state", store_synthetic=False)


def label_file(folder: Path, image: str) -> Path:
    """The drawn lungs on the grid of a DICOM file, as Slicer sends them."""
    reference = sitk.ReadImage(image)
    label = sitk.GetImageFromArray(lungs()[np.newaxis])
    label.CopyInformation(reference)
    sitk.WriteImage(label, str(folder / "label.nrrd"))
    return folder / "label.nrrd"


def segmentations(archive: Orthanc) -> list[pydicom.Dataset]:
    found = [pydicom.dcmread(io.BytesIO(file)) for file in archive.files()]
    return [dataset for dataset in found if dataset.Modality == "SEG"]


def test_radiographs_are_listed_and_fetched_when_wanted(
    store: DicomwebDatastore, images: dict[str, str], tmp_path: Path
) -> None:
    assert set(store.list_images()) == set(images.values()) - {images["ct"]}
    assert not list((tmp_path / "state").rglob("*.dcm"))
    path = store.get_image_uri(images["dx"])
    assert Radiograph.read(path).stored.shape == chest().shape
    assert np.array_equal(pydicom.dcmread(path).pixel_array, chest())
    one = pydicom.dcmread(store.get_image_uri(images["second of two"]))
    assert str(one.SOPInstanceUID) == images["second of two"]
    assert store.get_image_uri("1.2.3.4.5") == ""


def test_a_submitted_label_goes_back_as_dicom_seg(
    archive: Orthanc, store: DicomwebDatastore, images: dict[str, str], tmp_path: Path
) -> None:
    label = label_file(tmp_path, store.get_image_uri(images["cr"]))
    store.save_label(images["cr"], str(label), "original", dict(NAMES))
    assert segmentations(archive) == []
    store.save_label(images["cr"], str(label), "final", dict(NAMES))
    (segmentation,) = segmentations(archive)
    assert [segment.SegmentLabel for segment in segmentation.SegmentSequence] == ["right lung", "left lung"]
    assert {segment.SegmentAlgorithmType for segment in segmentation.SegmentSequence} == {"SEMIAUTOMATIC"}
    reference = segmentation.ReferencedSeriesSequence[0]
    assert str(reference.SeriesInstanceUID) == images["cr"] and segmentation.PatientID == PATIENT_ID
    assert [int(frame.sum()) for frame in segmentation.pixel_array] == [(lungs() == n).sum() for n in (1, 2)]
    told = store.get_label_info(images["cr"], "final")["archive"]
    assert told == {"state": "stored", "SeriesInstanceUID": str(segmentation.SeriesInstanceUID)}
    assert store.get_labeled_images() == [images["cr"]]
    assert images["cr"] not in store.get_unlabeled_images()


def test_a_label_waits_while_the_archive_is_away(
    archive: Orthanc, store: DicomwebDatastore, images: dict[str, str], tmp_path: Path
) -> None:
    label = label_file(tmp_path, store.get_image_uri(images["cr"]))
    archive.stop()
    store._listed = 0.0
    assert images["cr"] in store.list_images()
    store.save_label(images["cr"], str(label), "final", dict(NAMES))
    assert store.get_label_info(images["cr"], "final")["archive"] == {"state": "pending"}
    assert Path(store.get_label_uri(images["cr"], "final")).is_file()
    with pytest.raises(ArchiveError, match="does not answer"):
        store.get_image_uri(images["dx"])
    with pytest.raises(DinoDiffusionError, match="does not answer"):
        open_archive(archive.address, tmp_path / "new", store_synthetic=False)
    archive.start_again()
    again = open_archive(archive.address, tmp_path / "state", store_synthetic=False)
    assert again.get_label_info(images["cr"], "final")["archive"]["state"] == "stored"
    assert len(segmentations(archive)) == 1


def test_an_old_listing_is_given_while_a_new_one_is_asked_for(
    archive: Orthanc, store: DicomwebDatastore, images: dict[str, str], tmp_path: Path
) -> None:
    added = dicom(tmp_path / "new.dcm", chest())
    archive.add(tmp_path / "new.dcm")
    store._listed -= LISTING_SECONDS + 1
    assert str(added.SeriesInstanceUID) not in store.list_images()
    end = time.monotonic() + 30
    while str(added.SeriesInstanceUID) not in store.list_images() and time.monotonic() < end:
        time.sleep(0.05)
    assert str(added.SeriesInstanceUID) in store.list_images()


def synthetic_file(folder: Path, source: str) -> Path:
    radiograph = Radiograph.read(source)
    return write_image(radiograph, radiograph.stored, folder / "made.dcm", synthetic={"operation": "test"})


def test_synthetic_images_go_there_only_when_asked_and_name_no_patient(
    archive: Orthanc, store: DicomwebDatastore, images: dict[str, str], tmp_path: Path
) -> None:
    made = synthetic_file(tmp_path, store.get_image_uri(images["cr"]))
    before = len(archive.files())
    with pytest.raises(RequestError, match="--store-synthetic"):
        store.add_image("", str(made), {})
    real = store.get_image_uri(images["cr"])
    allowed = open_archive(archive.address, tmp_path / "state", store_synthetic=True)
    for refused in (real, str(label_file(tmp_path, real))):
        with pytest.raises(RequestError):
            allowed.add_image("", refused, {})
    assert len(archive.files()) == before
    series = allowed.add_image("", str(made), {})
    stored = [pydicom.dcmread(io.BytesIO(file)) for file in archive.files()]
    (found,) = [dataset for dataset in stored if str(dataset.SeriesInstanceUID) == series]
    assert found.PatientName == "SYNTHETIC" and found.ImageType[0] == "DERIVED"
    source = pydicom.dcmread(real)
    for keyword in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        assert getattr(found, keyword) != getattr(source, keyword)
    assert PATIENT_ID not in str(found)
    with pytest.raises(RequestError, match="has its own"):
        allowed.add_image("", str(made), {})


def test_over_http_in_a_real_process(archive: Orthanc, images: dict[str, str], tmp_path: Path) -> None:
    state = tmp_path / "served"
    with ours(archive.address, state, TOKEN, conf={"state": str(state)}) as server:
        listed = {entry["image"] for entry in server.call("GET", "/worklist").json()}
        assert listed == set(images.values()) - {images["ct"]}
        sample = server.call("POST", "/activelearning/first", json={}).json()
        assert sample["id"] in listed
        answer = server.call("POST", f"/infer/segment?image={images['cr']}&output=json")
        assert answer.status_code == 200, answer.text
        source = server.call("GET", f"/datastore/image?image={images['cr']}").content
        (tmp_path / "source.dcm").write_bytes(source)
        label = label_file(tmp_path, str(tmp_path / "source.dcm")).read_bytes()
        saved = server.call(
            "PUT",
            f"/datastore/label?image={images['cr']}",
            files={"label": ("label.nrrd", label)},
            data={"params": '{"label_names": {"right lung": 1, "left lung": 2}}'},
        )
        assert saved.json()["archive"] == "stored", saved.text
        archive.stop()
        elsewhere = (listed - {sample["id"], images["cr"]}).pop()
        away = server.call("POST", f"/infer/segment?image={elsewhere}&output=json")
        assert away.status_code == 502 and "archive" in away.json()["detail"]
        assert server.call("GET", "/worklist").status_code == 200
        assert requests.get(server.address + "/health", timeout=10).ok
