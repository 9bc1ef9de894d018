"""A DICOMweb archive as datastore: images come from it, submitted labels go to it as DICOM SEG.

Labels lie in a folder of the server first, as those of any datastore, so none depends on the archive: one
that could not be sent waits and is sent with the next. Nothing is downloaded at the start, no tools either.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from dicomweb_client.session_utils import create_session_from_user_pass
from monailabel.config import settings as monailabel_settings
from monailabel.datastore.dicom import DICOMwebClientX
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from requests.adapters import HTTPAdapter

from dino_diffusion.errors import DinoDiffusionError
from dino_diffusion.files.dicom_seg import write_dicom_seg
from dino_diffusion.files.read_labels import read_labels
from dino_diffusion.radiograph import Labelmap, Radiograph
from monailabel_app.lib.errors import NotFound, RequestError
from monailabel_app.lib.labels import names_of
from monailabel_app.server.datastore import DurableDatastore
from monailabel_app.server.errors import UpstreamError

logger = logging.getLogger(__name__)

MODALITIES = ("CR", "DX", "RG")
"""Of radiographs."""
TIMEOUT = (5.0, 60.0)
"""Seconds to connect, and between two pieces of an answer."""
LISTING_SECONDS = 20.0
PAGE = 500
FINAL = "final"
STORED, PENDING, EMPTY = "stored", "pending", "empty"
ORIGINAL_SYNTAX = (("application/dicom", "*"),)
SYNTHETIC_PATIENT = "SYNTHETIC"


class ArchiveError(UpstreamError):
    """The archive does not answer, or not as it should."""


class ArchiveAway(ArchiveError):
    """It does not answer at all, so asking for something else is of no use."""


class InTime(HTTPAdapter):
    """An archive that accepts a connection and then says nothing must not hold the server."""

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]
        return super().send(request, **{**options, "timeout": options.get("timeout") or TIMEOUT})


@dataclass(frozen=True)
class Place:
    """Where an image lies in the archive. `instance` is None for the only one of its series."""

    study: str
    series: str
    instance: str | None
    modality: str


class DicomwebDatastore(DurableDatastore):
    """Images by SeriesInstanceUID; by SOPInstanceUID where a series has several."""

    def __init__(self, client: Any, folder: Path, store_synthetic: bool = False) -> None:
        self._client, self._store_synthetic = client, store_synthetic
        self._places: dict[str, Place] = {}
        self._listed = 0.0
        self._listing = threading.Lock()
        self._fetching, self._sending = threading.RLock(), threading.RLock()
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder)

    def name(self) -> str:
        return str(self._client.base_url)

    def list_images(self) -> list[str]:
        """Raises ArchiveError where the archive has never answered; later its last answer holds.

        A listing that has grown old is still given while a new one is asked for.
        """
        if not self._listed:
            self._list_anew()
        elif time.monotonic() - self._listed > LISTING_SECONDS and self._listing.acquire(blocking=False):
            self._listing.release()
            threading.Thread(target=self._list_anew, daemon=True).start()
        return list(self._places)

    def _list_anew(self) -> None:
        with self._listing:
            if self._listed and time.monotonic() - self._listed <= LISTING_SECONDS:
                return
            try:
                self._places = self._ask()
            except ArchiveError:
                if not self._places:
                    raise
                logger.warning("the archive does not answer; its last listing is used")
            self._listed = time.monotonic()

    def get_labeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        own = set(super().get_labeled_images())
        return [image for image in self.list_images() if image in own]

    def get_unlabeled_images(
        self, label_tag: str | None = None, labels: list[str] | None = None
    ) -> list[str]:
        own = set(super().get_labeled_images())
        return [image for image in self.list_images() if image not in own]

    def get_image_uri(self, image_id: str) -> str:
        """Fetched where it is not here yet. Raises ArchiveError."""
        if image_id not in self.list_images():
            return ""
        with self._fetching:
            if not (uri := super().get_image_uri(image_id)) or not Path(uri).is_file():
                self._fetch(image_id)
            return super().get_image_uri(image_id)

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]
    ) -> str:
        """On this server's disk when this returns, and in the archive if that answers."""
        self.get_image_uri(image_id)
        final = label_tag == FINAL
        info = {**label_info, "archive": {"state": PENDING}} if final else label_info
        label_id = super().save_label(image_id, label_filename, label_tag, info)
        if final:
            self.send_pending()
        return label_id

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Sends a synthetic image to the archive, if that is allowed. Raises RequestError, ArchiveError."""
        try:
            image = dcmread(image_filename)
        except (InvalidDicomError, OSError) as error:
            raise RequestError(
                "An archive takes DICOM; ask for the result with result_extension .dcm."
            ) from error
        if not is_synthetic(image_filename):
            raise RequestError(
                "Real images go to the archive by its own ways; this server adds synthetic ones only."
            )
        if not self._store_synthetic:
            raise RequestError(
                "Synthetic images stay out of the archive; the server's --store-synthetic allows them."
            )
        image.PatientName = SYNTHETIC_PATIENT
        self._guarded("search", lambda: self._refuse_known_study(image))
        self._guarded("store", lambda: self._client.store_instances([image]))
        self._listed = 0.0
        return str(image.SeriesInstanceUID)

    def remove_image(self, image_id: str) -> None:
        raise RequestError("The images are the archive's; remove them there.")

    def send_pending(self) -> None:
        """Labels that the archive does not have yet. One that it refuses waits, and holds up no other."""
        with self._sending:
            for image_id, label in list(self.json()["objects"].items()):
                info = label["labels"].get(FINAL, {}).get("info", {})
                if info.get("archive", {}).get("state") != PENDING:
                    continue
                try:
                    state = self._send(image_id, info)
                except ArchiveAway:
                    logger.warning("labels wait for the archive, which does not answer")
                    return
                except DinoDiffusionError as error:
                    logger.warning("a label waits for the archive: %s", type(error).__name__)
                else:
                    self.update_label_info(image_id, FINAL, {"archive": state})

    def _send(self, image_id: str, info: Mapping[str, Any]) -> dict[str, str]:
        radiograph = Radiograph.read(self.get_image_uri(image_id))
        labels = read_labels(self.get_label_uri(image_id, FINAL), radiograph).astype("uint8")
        if not labels.any():
            return {"state": EMPTY}
        names = {value: name for name, value in names_of(info).items() if 0 < value < 256}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "seg.dcm"
            write_dicom_seg(path, Labelmap(labels, radiograph, names))
            segmentation = dcmread(path)
        for segment in segmentation.SegmentSequence:
            # A person has seen and sent it.
            segment.SegmentAlgorithmType = "SEMIAUTOMATIC"
        segmentation.ContentDescription = "Submitted by an annotator"
        self._guarded("store", lambda: self._client.store_instances([segmentation]))
        return {"state": STORED, "SeriesInstanceUID": str(segmentation.SeriesInstanceUID)}

    def _ask(self) -> dict[str, Place]:
        """Every series of a radiograph modality."""
        places: dict[str, Place] = {}
        for modality in MODALITIES:
            for series in self._pages(self._client.search_for_series, {"Modality": modality}):
                study, uid = str(series.StudyInstanceUID), str(series.SeriesInstanceUID)
                if str(series.get("Modality", modality)) != modality:
                    continue
                if int(series.get("NumberOfSeriesRelatedInstances", 1) or 1) == 1:
                    places[uid] = Place(study, uid, None, modality)
                    continue
                found = self._pages(
                    lambda search_filters, _study=study, _series=uid, **page: (
                        self._client.search_for_instances(
                            _study, _series, search_filters=search_filters, **page
                        )
                    ),
                    {},
                )
                for instance in found:
                    sop = str(instance.SOPInstanceUID)
                    places[sop] = Place(study, uid, sop, modality)
        return places

    def _pages(self, search: Any, filters: dict[str, str]) -> list[Dataset]:
        found: list[Dataset] = []
        while True:
            page = self._guarded(
                "search", lambda: search(search_filters=filters, limit=PAGE, offset=len(found))
            )
            found.extend(Dataset.from_json(item) for item in page)
            if len(page) < PAGE:
                return found

    def _fetch(self, image_id: str) -> None:
        place = self._places.get(image_id)
        if place is None:
            raise NotFound("The image is not in the archive any more.")
        instances = self._guarded("fetch", lambda: self._retrieve(place))
        if len(instances) != 1:
            raise NotFound("The image is not in the archive any more.")
        with tempfile.TemporaryDirectory(dir=self._datastore_path) as folder:
            path = Path(folder) / f"{image_id}.dcm"
            instances[0].save_as(path, write_like_original=False)
            info = {
                "StudyInstanceUID": place.study,
                "SeriesInstanceUID": place.series,
                "Modality": place.modality,
            }
            super().add_image(image_id, str(path), info)

    def _retrieve(self, place: Place) -> list[Dataset]:
        if place.instance is None:
            return list(self._client.retrieve_series(place.study, place.series, media_types=ORIGINAL_SYNTAX))
        return [
            self._client.retrieve_instance(
                place.study, place.series, place.instance, media_types=ORIGINAL_SYNTAX
            )
        ]

    def _refuse_known_study(self, image: Dataset) -> None:
        if self._client.search_for_studies(search_filters={"StudyInstanceUID": str(image.StudyInstanceUID)}):
            raise RequestError("The image names a study that the archive has; a synthetic one has its own.")

    def _guarded(self, what: str, call: Any) -> Any:
        try:
            return call()
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else "no"
            raise ArchiveError(f"The DICOMweb archive refused a {what} (status {status}).") from error
        except requests.RequestException as error:
            raise ArchiveAway(
                "The DICOMweb archive does not answer; check its address and whether it runs."
            ) from error


def is_synthetic(path: str | Path) -> bool:
    """Whether the file says that this package made it."""
    return Radiograph.read(path).source.synthetic is not None


def open_archive(url: str, state: Path, store_synthetic: bool) -> DicomwebDatastore:
    """Of the address; credentials and prefixes come from MONAI Label's settings (MONAI_LABEL_DICOMWEB_...).

    Raises ArchiveError where nothing answers there.
    """
    given = monailabel_settings
    user, password = given.MONAI_LABEL_DICOMWEB_USERNAME, given.MONAI_LABEL_DICOMWEB_PASSWORD
    session = create_session_from_user_pass(user, password) if user and password else requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, InTime())
    client = DICOMwebClientX(
        url=url,
        session=session,
        qido_url_prefix=given.MONAI_LABEL_QIDO_PREFIX,
        wado_url_prefix=given.MONAI_LABEL_WADO_PREFIX,
        stow_url_prefix=given.MONAI_LABEL_STOW_PREFIX,
    )
    # It would try again for a minute, while an annotator waits.
    client.set_http_retry_params(retry=False)
    folder = state / "archives" / hashlib.sha256(url.encode()).hexdigest()[:16]
    store = DicomwebDatastore(client, folder, store_synthetic)
    store.list_images()
    store.send_pending()
    return store
