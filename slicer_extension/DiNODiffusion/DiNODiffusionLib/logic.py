"""Everything the panels and effects can ask for, as steps for a `Task`: server and scene, no widgets.

Each method looks its nodes up by id, again after every wait: a node may be deleted and a scene closed
meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import slicer

from .codec import nifti, nrrd
from .codec.geometry import Image
from .net import client
from .net.address import Address, tls_context
from .net.client import Result, ServerInfo, Source
from .net.errors import BadAnswer, Refused, ServerError, Unreachable
from .net.messages import Part
from .net.pump import Pump
from .net.tasks import Progress, Steps, Task
from .net.transport import Transport
from .outbox import PICTURE, Outbox
from .scene import generated, segments, volumes
from .scene.labels import Label, labels_of
from .scene.nodes import node_of

FINAL = "final"
NRRD = {"result_extension": ".nrrd"}


@dataclass
class Labelled:
    """A labelling that came back: an array on the volume's grid and what its values mean."""

    array: np.ndarray
    labels: list[Label]
    uncertainty: float | None = None
    warnings: list[str] = field(default_factory=list)


@dataclass
class Arrived:
    """An image of the server, with its labels where it was labelled ahead."""

    image: str
    content: bytes = field(repr=False)
    filename: str = ""
    result: Result | None = None


@dataclass
class Submitted:
    """`waiting` says how many labels lie in the outbox because the server was not there."""

    image: str
    layers: int
    waiting: int = 0


class Logic:
    """One connection, its uploads and its running tasks."""

    def __init__(self, pump: Pump, outbox_folder: Path) -> None:
        self.pump = pump
        self.outbox = Outbox(outbox_folder)
        self.transport: Transport | None = None
        self.info: ServerInfo | None = None
        self._sessions: dict[tuple[str, str, int], str] = {}

    # The connection

    @property
    def server(self) -> str:
        """The address, empty when not connected."""
        return str(self.transport.address) if self.transport is not None and self.info is not None else ""

    def connect(self, address: str, token: str, ca_file: str = "") -> Task:
        """`token` may be `name:password` for a server with accounts. A task that ends with the server's
        `ServerInfo`; the caller starts it with `start`.

        Raises:
            ServerError: address or certificate file cannot be used.
        """
        parsed = Address.parse(address)
        transport = Transport(parsed, "" if ":" in token else token, tls_context(parsed, ca_file))

        def steps() -> Steps:
            user, colon, password = token.partition(":")
            if colon:
                # A stock server with accounts; our own tokens hold no colon.
                transport.token = yield from client.login(user, password)
            info = yield from client.describe()
            self.disconnect()
            self.transport, self.info = transport, info
            return info

        return Task(steps(), transport)

    def disconnect(self) -> None:
        if self.transport is not None:
            self.transport.close()
        self.transport = self.info = None
        self._sessions.clear()

    def start(
        self,
        steps: Steps,
        on_done: Callable,
        on_error: Callable[[Exception], None],
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Task:
        """Runs steps against the connected server.

        Raises:
            ServerError: there is none.
        """
        if self.transport is None:
            steps.close()
            raise ServerError(
                "Connect to a server first: its address and token belong into the first section."
            )
        return self.pump.start(
            Task(steps, self.transport, on_done, on_error, on_progress or (lambda progress: None))
        )

    def refresh(self) -> Steps:
        """The server's description anew, as after learning a segment."""
        self.info = yield from client.describe()
        return self.info

    # The image

    def source(self, volume_id: str) -> Steps:
        """Where the server has the volume: its own image, or a session it is uploaded to once."""
        volume = node_of(volume_id, "radiograph")
        own = volumes.server_image(volume, self.server)
        if own:
            return Source(image=own)
        key = (self.server, volume_id, volume.GetImageData().GetMTime() if volume.GetImageData() else 0)
        if key not in self._sessions:
            content, filename = yield from self._encoded(volumes.image_of(volume))
            yield Progress(None, "Sending the image")
            self._sessions[key] = yield from client.upload_session(content, filename)
        return Source(session=self._sessions[key])

    def _encoded(self, image: Image) -> Steps:
        """Content and name of a file: NRRD is exact in every digit; stock servers are surer of NIfTI."""
        if self.info is not None and not self.info.own:
            return (yield from nifti.encode(image)), "image.nii.gz"
        return (yield from nrrd.encode(image)), "image.nrrd"

    def infer(self, model: str, volume_id: str, params: dict, label: Image | None = None) -> Steps:
        """One inference on a volume, as a job where the server has jobs."""
        try:
            return (yield from self._infer(model, volume_id, params, label))
        except Refused as error:
            if error.status != 404 or not self._forget_session(volume_id):
                raise
        # Servers drop sessions after a while: the image is sent once more.
        return (yield from self._infer(model, volume_id, params, label))

    def _forget_session(self, volume_id: str) -> bool:
        """Whether the image had been uploaded to a session, which is forgotten."""
        known = [key for key in self._sessions if key[1] == volume_id]
        for key in known:
            del self._sessions[key]
        return bool(known)

    def _infer(self, model: str, volume_id: str, params: dict, label: Image | None) -> Steps:
        source = yield from self.source(volume_id)
        content = b""
        if label is not None:
            content, _ = yield from self._encoded(label)
        if self.info is None or not self.info.own:
            return (yield from client.stock_infer(model, source, params, content))
        parts = [Part("label", content, "mask.nrrd")] if content else []
        return (yield from client.job(model, source, {**NRRD, **params}, files=parts))

    # Labels

    def prelabel(self, volume_id: str, model: str, zones: bool, embeddings: list[str]) -> Steps:
        """`Labelled` lungs or zones, with learnt segments."""
        params: dict = {}
        if self.info is not None and self.info.own:
            params = {"zones": zones, "embeddings": embeddings}
        return self.labelled(volume_id, (yield from self.infer(model, volume_id, params)))

    def labelled(self, volume_id: str, result: Result) -> Labelled:
        """A result as it lies on the volume."""
        volume = node_of(volume_id, "radiograph")
        name = next(iter(result.files), "")
        array = volumes.onto(volume, volumes.read_image(result.first, name))
        uncertainty = result.params.get("uncertainty")
        return Labelled(
            array,
            labels_of(result.params, array),
            float(uncertainty) if isinstance(uncertainty, (int, float)) else None,
            [str(warning) for warning in result.params.get("warnings") or []],
        )

    def regions(self, volume_id: str, granularity: float) -> Steps:
        """Regions of the picture as an array of region numbers, for hovering and clicking."""
        result = yield from self.infer("regions", volume_id, {"granularity": granularity})
        return self.labelled(volume_id, result).array

    def learn(
        self, volume_id: str, segmentation_id: str, segment_id: str, name: str, absent: bool = False
    ) -> Steps:
        """Hands in the labels of this image and teaches the segment, or with `absent` that the image shows
        none of it; gives the training's result."""
        segmentation = node_of(segmentation_id, "segmentation")
        if segmentation.GetSegmentation().GetSegment(segment_id) is None:
            raise ServerError("Select the segment that shall be learnt.")
        label = segments.name_of(segmentation, segment_id)
        drawn = segments.mask_of(segmentation, segment_id, node_of(volume_id, "radiograph")).any()
        if absent and drawn:
            raise ServerError(f"The segment {label} is not empty: erase it first, if this image shows none.")
        if not absent and not drawn:
            raise ServerError(f"The segment {label} is empty: draw it first.")
        if absent:
            segments.mark_absent(segmentation, segment_id)
        yield Progress(None, "Handing in the label")
        submitted = yield from self.submit(volume_id, segmentation_id)
        if submitted.waiting:
            raise Unreachable("The server is not there: the label was saved on this machine, learn it later.")
        params = {"label": label, "name": name or label}
        result = yield from client.job("learn_segment", Source(), params, kind="train", fetch=False)
        yield from self.refresh()
        return {"name": name or label, **result.params}

    def submit(self, volume_id: str, segmentation_id: str) -> Steps:
        """Hands in every segment, voxel for voxel; saved on this machine when no server is there."""
        volume = node_of(volume_id, "radiograph")
        segmentation = node_of(segmentation_id, "segmentation")
        found = segments.layers_of(segmentation, volume, segments.segment_ids(segmentation))
        absent = segments.absent(segmentation, volume)
        if absent and not found:
            found = [segments.empty_layer(volume)]
        if not found:
            raise ServerError("There is no segment with any pixel to hand in.")
        contents = []
        for number, layer in enumerate(found, start=1):
            content, _ = yield from self._encoded(layer.image)
            tag, lacking = (FINAL, absent) if number == 1 else (f"{FINAL}_{number}", ())
            contents.append((tag, content, layer.names, lacking))
        image, picture = volumes.server_image(volume, self.server), b""
        if not image:
            picture, _ = yield from self._encoded(volumes.image_of(volume))
        try:
            if not image:
                image = yield from self._add_image(volume.GetName(), picture)
                volumes.mark_server_image(node_of(volume_id, "radiograph"), self.server, image)
            yield from self._hand_in(image, contents)
        except (Unreachable, BadAnswer, Refused) as error:
            if isinstance(error, Refused) and error.status < 500:
                raise
            kept = self.outbox.put(self.server, image, volume.GetName(), contents, picture)
            return Submitted(image, len(contents), len(kept))
        return Submitted(image, len(contents))

    def _add_image(self, name: str, picture: bytes) -> Steps:
        """Adds an image to the server's store; its id there. Another image of that name is never replaced."""
        digest = hashlib.sha256(picture).hexdigest()[:8]
        name = f"{safe_name(name)}-{digest}"
        try:
            return (yield from client.upload_image(picture, name + suffix_of(picture)))
        except Refused as error:
            if error.status != 409:
                raise
            return name

    def _hand_in(self, image: str, contents: list) -> Steps:
        for tag, content, names, absent in contents:
            yield from client.save_label(image, content, "label" + suffix_of(content), tag, names, absent)

    def save_locally(self, volume_id: str, segmentation_id: str) -> Submitted:
        """Into the outbox without asking any server: while none is connected."""
        steps = self.submit(volume_id, segmentation_id)
        try:
            request = next(steps)
            while True:
                # What would go to the server cannot; packing goes on.
                request = steps.throw(Unreachable("No server.")) if request is not None else next(steps)
        except StopIteration as stop:
            return stop.value

    def hand_in_waiting(self) -> Steps:
        """Sends what waits in the outbox, the oldest first; gives how many arrived."""
        done = 0
        for entry in self.outbox.waiting(self.server):
            image, content = entry.image, entry.content()
            if not image:
                image = yield from self._add_image(entry.name, entry.content(PICTURE))
            yield from self._hand_in(image, [(entry.tag, content, entry.names, entry.absent)])
            entry.done()
            done += 1
        return done

    # The worklist

    def next_image(self, strategy: str, model: str, zones: bool, embeddings: list[str]) -> Steps:
        """The next image of the worklist with its labels, as `Arrived`; None when nothing is left."""
        image = yield from client.next_image(strategy)
        if not image:
            return None
        yield Progress(None, f"Fetching {image}")
        content, filename = yield from client.download_image(image)
        arrived = Arrived(image, content, filename)
        if model and self.info is not None and self.info.own:
            params = {**NRRD, "zones": zones, "embeddings": embeddings}
            arrived.result = yield from client.job(model, Source(image=image), params)
        return arrived

    def open_image(self, arrived: Arrived) -> slicer.vtkMRMLScalarVolumeNode:
        """An image that arrived, as a volume that knows where it came from."""
        volume = volumes.load_image(arrived.content, arrived.filename, arrived.image)
        volumes.mark_server_image(volume, self.server, arrived.image)
        return volume

    # Generation

    def generate(
        self, volume_id: str, model: str, params: dict, edit: np.ndarray | None, keep: np.ndarray | None
    ) -> Steps:
        """Candidates on the volume's grid. `edit` and `keep` are bool `(slices, rows, columns)`.

        What is to be kept is taken out of the edit mask here, so that it stays whatever the server does.
        """
        label = None
        if edit is not None:
            inside = edit & ~keep if keep is not None else edit
            if not inside.any():
                raise ServerError("There is nothing to paint in: the edit mask is empty, or wholly kept.")
            grid = volumes.grid_of(node_of(volume_id, "radiograph"))
            label = Image(inside.astype(np.uint8), grid.ijk_to_ras)
        result = yield from self.infer(model, volume_id, params, label)
        volume = node_of(volume_id, "radiograph")
        return generated.candidates_of(result, volume)


def safe_name(name: str) -> str:
    """A name that every server and file system takes."""
    kept = "".join(character if character.isalnum() or character in "-_" else "-" for character in name)
    return kept.strip("-")[:60] or "image"


def suffix_of(content: bytes) -> str:
    """The suffix of an image file that was made here."""
    return ".nrrd" if content.startswith(b"NRRD") else ".nii.gz"


def concept_text(weights: dict[str, float]) -> str:
    """`effusion:0.5+pneumonia:1` from weights; concepts of weight 0 are left out."""
    return "+".join(f"{name}:{weight:g}" for name, weight in weights.items() if weight)
