"""MONAI Label's folder datastore, made so that nothing acknowledged is ever lost.

Upstream rewrites its index in place and copies labels over their predecessors: a crash in between leaves an
index that no longer opens, or half a label. Here every file appears whole (written beside, flushed to disk,
renamed), a label's predecessors are kept under `label_versions/TAG/IMAGE/`, an index that cannot be read is
set aside and made anew from the files, and threads take turns.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore, LocalDatastoreModel
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException

INDEX = "datastore_v2.json"
VERSIONS = "label_versions"
SUFFIXES = (
    ".nii.gz",
    ".nii",
    ".nrrd",
    ".mha",
    ".png",
    ".jpg",
    ".jpeg",
    ".tif",
    ".tiff",
    ".webp",
    ".dcm",
    ".dicom",
)
PATTERNS = tuple(f"*{form}" for suffix in SUFFIXES for form in (suffix, suffix.upper()))

READS = (
    "datalist", "get_image_uri", "get_image_info", "get_label_uri", "get_labels_by_image_id",
    "get_label_info",
    "get_labeled_images", "get_unlabeled_images", "list_images", "status", "json", "get_dataset_archive",
)  # fmt: skip
WRITES = ("refresh", "update_image_info", "update_label_info", "_init_from_datastore_file")


class DurableDatastore(LocalDatastore):
    """A folder of radiographs, its labels under `labels/TAG/`. Thread-safe."""

    def __init__(self, folder: str | Path, read_only: bool = False) -> None:
        self._turn = threading.RLock()
        set_aside_broken_index(Path(folder))
        super().__init__(str(folder), extensions=list(PATTERNS), auto_reload=True, read_only=read_only)

    def _to_id(self, file: str) -> tuple[str, str]:
        for suffix in SUFFIXES:
            if file.lower().endswith(suffix):
                return file[: -len(suffix)], file[-len(suffix) :]
        stem, dot, ending = file.rpartition(".")
        return (stem, dot + ending) if stem else (file, "")

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        with self._turn:
            found, suffix = self._to_id(os.path.basename(image_filename))
            image_id = image_id or found
            name = self._filename(image_id, suffix)
            place(Path(image_filename), Path(self._datastore.image_path()) / name)
            info = {**(image_info or {}), "ts": int(time.time()), "name": name}
            old = self._datastore.objects.get(image_id)
            self._datastore.objects[image_id] = ImageLabelModel(
                image=DataModel(info=info, ext=suffix), labels=old.labels if old else {}
            )
            self._update_datastore_file()
            if old and old.image.ext != suffix:
                (Path(self._datastore.image_path()) / self._filename(image_id, old.image.ext)).unlink(
                    missing_ok=True
                )
            return image_id

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]
    ) -> str:
        """On disk, with its predecessor kept, when this returns."""
        with self._turn:
            image = self._datastore.objects.get(image_id)
            if not image:
                raise ImageNotFoundException("There is no such image in the datastore.")
            _, suffix = self._to_id(os.path.basename(label_filename))
            folder = Path(self._datastore.label_path(label_tag))
            name = self._filename(image_id, suffix)
            old = image.labels.get(label_tag)
            old_path = folder / self._filename(image_id, old.ext) if old else None
            if old_path:
                self._keep_version(old_path, image_id, label_tag)
            place(Path(label_filename), folder / name)
            info = {**(label_info or {}), "ts": int(time.time()), "name": name}
            image.labels[label_tag] = DataModel(info=info, ext=suffix)
            self._update_datastore_file()
            if old_path and old_path.name != name:
                old_path.unlink(missing_ok=True)
            return image_id

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Out of the datastore; the file moves to the versions."""
        with self._turn:
            image = self._datastore.objects.get(label_id)
            label = image.labels.pop(label_tag, None) if image else None
            if label is None:
                raise LabelNotFoundException("There is no such label in the datastore.")
            path = Path(self._datastore.label_path(label_tag)) / self._filename(label_id, label.ext)
            self._keep_version(path, label_id, label_tag)
            path.unlink(missing_ok=True)
            self._update_datastore_file()

    def remove_image(self, image_id: str) -> None:
        """The image goes; its labels stay among the versions."""
        with self._turn:
            image = self._datastore.objects.get(image_id)
            if not image:
                raise ImageNotFoundException("There is no such image in the datastore.")
            for tag in list(image.labels):
                self.remove_label(image_id, tag)
            del self._datastore.objects[image_id]
            (Path(self._datastore.image_path()) / self._filename(image_id, image.image.ext)).unlink(
                missing_ok=True
            )
            self._update_datastore_file()

    def label_versions(self, image_id: str, tag: str) -> list[Path]:
        """A label's predecessors, oldest first."""
        folder = Path(self._datastore_path) / VERSIONS / tag / image_id
        # What was being copied when the server was killed lies there under a hidden name.
        return sorted(path for path in folder.glob("*") if not path.name.startswith("."))

    def _keep_version(self, path: Path, image_id: str, tag: str) -> None:
        if path.is_file():
            _, suffix = self._to_id(path.name)
            stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime()) + f"_{time.time_ns() % 10**9:09d}"
            place(path, Path(self._datastore_path) / VERSIONS / tag / image_id / f"{stamp}{suffix}")

    def _reconcile_datastore(self) -> None:
        with self._turn:
            super()._reconcile_datastore()

    def _update_datastore_file(self, lock: bool = True) -> None:
        with self._turn:
            text = json.dumps(self._datastore.model_dump(exclude={"base_path"}), indent=2, default=str)
            path = Path(self._datastore_config_path)
            # The watcher need not read back what was just written.
            self._ignore_event_config = True
            write_durably(path, text.encode())
            self._config_ts = path.stat().st_mtime


def _taking_turns(name: str) -> Any:
    upstream = getattr(LocalDatastore, name)

    @functools.wraps(upstream)
    def method(self: DurableDatastore, *given: Any, **named: Any) -> Any:
        with self._turn:
            return upstream(self, *given, **named)

    return method


for _name in (*READS, *WRITES):
    setattr(DurableDatastore, _name, _taking_turns(_name))


def set_aside_broken_index(folder: Path) -> Path | None:
    """An index that cannot be read is renamed, so that the datastore opens; its new name, or None."""
    index = folder / INDEX
    if not index.is_file():
        return None
    try:
        LocalDatastoreModel.model_validate_json(index.read_bytes())
    except ValueError:
        aside = index.with_name(f"{INDEX}.broken-{int(time.time())}")
        index.rename(aside)
        return aside
    return None


def place(source: Path, target: Path) -> None:
    """A copy of `source` at `target`: whole, and on the disk, or not there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{uuid.uuid4().hex}")
    try:
        with source.open("rb") as read, temporary.open("xb") as write:
            shutil.copyfileobj(read, write, 1 << 20)
            _flush(write)
        _into_place(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def write_durably(target: Path, content: bytes) -> None:
    """As `place`, from memory."""
    temporary = target.with_name(f".{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as write:
            write.write(content)
            _flush(write)
        _into_place(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _into_place(temporary: Path, target: Path) -> None:
    os.replace(temporary, target)
    if os.name == "posix":  # the new name itself must reach the disk too
        descriptor = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
