"""A server that speaks the HTTP contract without a model, and misbehaves on request.

Its results follow from the image by rules that a test can check: lungs are the dark pixels, right in the
left half
of the picture; painting adds 100 inside the mask and nothing outside. `python -m tests.slicer.fake_server`
runs it
as a process of its own and prints its port.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Generator
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

LIBRARY = Path(__file__).resolve().parents[2] / "slicer_extension" / "DiNODiffusion"
sys.path.insert(0, str(LIBRARY))

from DiNODiffusionLib.codec import files as image_files
from DiNODiffusionLib.codec import nrrd, png
from DiNODiffusionLib.codec.geometry import Image

TOKEN = "correct-token"
CODES = {
    1: ("right lung", "39607008", "Lung", [86, 180, 233]),
    2: ("left lung", "39607008", "Lung", [245, 166, 35]),
}
Fault = Callable[["Handler"], bool]


def finish(steps: Generator[None, None, bytes]) -> bytes:
    """Runs a codec's generator to its end."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


def lungs_of(image: Image) -> np.ndarray:
    """1 and 2 where the picture is darker than its mean, in its left and right half."""
    dark = image.array < image.array.mean()
    half = image.array.shape[2] // 2
    return np.where(dark, np.where(np.arange(image.array.shape[2]) < half, 1, 2), 0).astype(np.uint8)


def learnt_of(image: Image) -> np.ndarray:
    """16 on the brightest tenth of the picture."""
    return np.where(image.array >= np.quantile(image.array, 0.9), 16, 0).astype(np.uint8)


class Job:
    """One job: its steps take `seconds`, its result is computed when they are over."""

    def __init__(self, state: State, asked: dict, files: dict[str, bytes], seconds: float) -> None:
        self.asked, self.begun, self.seconds = asked, time.monotonic(), seconds
        self.cancelled, self.state = False, state
        self.files: dict[str, bytes] = {}
        self.params: dict = {}
        self.error = ""
        self._uploads = files
        self._computed = False

    def tell(self, name: str) -> dict:
        done = min(1.0, (time.monotonic() - self.begun) / max(self.seconds, 1e-6))
        if done >= 1 and not self._computed and not self.cancelled:
            self._computed = True
            try:
                self._compute()
            except Exception as error:
                self.error = str(error)
        phase = (
            "cancelled" if self.cancelled else "failed" if self.error else "done" if done >= 1 else "running"
        )
        return {
            "id": name, "kind": self.asked["kind"], "model": self.asked["model"], "state": phase,
            "progress": done, "message": "Step", "position": 0, "created": "now",
            "eta_seconds": round(self.seconds * (1 - done), 1),
            "error": self.error or None, "params": self.params,
            "files": [{"name": n, "media_type": "application/octet-stream", "bytes": len(b)}
                      for n, b in self.files.items()],
        }  # fmt: skip

    def _source(self) -> Image:
        if self.asked.get("session_id"):
            return image_files.decode(self.state.sessions[self.asked["session_id"]])
        return image_files.decode(self.state.images[self.asked["image"]])

    def _compute(self) -> None:
        model, params = self.asked["model"], self.asked["params"]
        if self.asked["kind"] == "train":
            labels = [tag for tags in self.state.labels.values() for tag in tags]
            if not labels:
                raise ValueError("No label was submitted yet: hand in one first.")
            self.state.embeddings[params["name"]] = {
                "name": params["name"], "value": 16, "active": 1, "versions": [{"version": 1}],
            }  # fmt: skip
            self.params = {"version": "1", "activated": True}
            return
        image = self._source()
        if model in ("lungs", "regions"):
            self._label(image, model, params)
        elif model == "inpaint":
            self._inpaint(image, params)
        elif model in ("variant", "twin", "strip"):
            self._candidates(
                image, [image.array + 1 + i for i in range(int(params.get("candidates", 1)))], None
            )
        else:
            raise ValueError(f"There is no model {model}.")

    def _label(self, image: Image, model: str, params: dict) -> None:
        if model == "regions":
            step = max(8, int(image.array.shape[1] * (0.5 - 0.4 * float(params.get("granularity", 0.5)))))
            rows, columns = np.indices(image.array.shape[1:])
            array = (1 + rows // step * 100 + columns // step)[None].astype(np.uint16)
            labels = []
        else:
            array = lungs_of(image)
            labels = [{"name": n, "value": v, "code": c, "scheme": "SCT", "meaning": m, "colour": colour,
                       "laterality": {"code": "24028007" if v == 1 else "7771000", "scheme": "SCT",
                                      "meaning": "Right" if v == 1 else "Left"}}
                      for v, (n, c, m, colour) in CODES.items()]  # fmt: skip
            for name in params.get("embeddings") or []:
                found = learnt_of(image)
                array = np.where(found > 0, found, array)
                labels.append({"name": name, "value": 16, "code": "123037004", "scheme": "SCT",
                               "meaning": "Anatomical Structure", "colour": [0, 190, 140]})  # fmt: skip
        self.files = {"label.nrrd": finish(nrrd.encode(Image(array, image.ijk_to_ras)))}
        self.params = {"label_names": {entry["name"]: entry["value"] for entry in labels}, "labels": labels,
                       "uncertainty": 0.25, "warnings": []}  # fmt: skip

    def _inpaint(self, image: Image, params: dict) -> None:
        if "label" not in self._uploads:
            raise ValueError("Painting needs an edit mask: send it as the part `label`.")
        mask = image_files.decode(self._uploads["label"]).array > 0
        if not mask.any():
            raise ValueError("The edit mask is empty: paint where something shall change.")
        made = [
            np.where(mask, image.array + 100 + i, image.array)
            for i in range(int(params.get("candidates", 1)))
        ]
        self._candidates(image, made, mask)

    def _candidates(self, image: Image, arrays: list[np.ndarray], mask: np.ndarray | None) -> None:
        told = []
        for number, array in enumerate(arrays, start=1):
            name = f"candidate-{number}.nrrd"
            self.files[name] = finish(nrrd.encode(Image(array.astype(image.array.dtype), image.ijk_to_ras)))
            entry: dict[str, Any] = {"id": name, "recipe": {"seed": number, "model": "fake"}}
            if mask is not None:
                entry["mask_id"] = f"mask-{number}.nrrd"
                self.files[entry["mask_id"]] = finish(
                    nrrd.encode(Image(mask.astype(np.uint8), image.ijk_to_ras))
                )
            told.append(entry)
        self.params = {"candidates": told, "warnings": []}


class State:
    """All that the server holds, open to the test."""

    def __init__(self) -> None:
        self.images: dict[str, bytes] = {}
        self.labels: dict[str, dict[str, bytes]] = {}
        self.sessions: dict[str, bytes] = {}
        self.jobs: dict[str, Job] = {}
        self.embeddings: dict[str, dict] = {}
        self.skipped: dict[str, str] = {}
        self.given: list[str] = []
        self.seen: list[tuple[str, str]] = []
        self.cancelled: list[str] = []
        self.label_params: list[dict] = []
        self.job_seconds = 0.0
        self.stock = False
        self.fault: Fault | None = None
        self.connections = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: State

    def setup(self) -> None:
        super().setup()
        self.state.connections += 1

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, content: object, status: int = 200, kind: str = "application/json") -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def form(self, body: bytes) -> dict[str, bytes]:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        parsed = BytesParser(policy=HTTP).parsebytes(head + body)
        return {
            str(part.get_param("name", header="content-disposition")): part.get_payload(decode=True)
            for part in parsed.iter_parts()
        }

    def handle_any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        split = urllib.parse.urlsplit(self.path)
        path = split.path
        query = dict(urllib.parse.parse_qsl(split.query))
        self.state.seen.append((self.command, path))
        if self.state.fault is not None and self.state.fault(self):
            return
        if path == "/health":
            self.answer({"status": "ok"})
            return
        if path == "/auth/token":
            given = dict(urllib.parse.parse_qsl(body.decode()))
            right = given == {"username": "ann", "password": "secret"}
            told = {"access_token": TOKEN, "token_type": "bearer"} if right else {"detail": "Wrong password"}
            self.answer(told, 200 if right else 401)
            return
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.answer({"detail": "Wrong token"}, 401)
            return
        try:
            self.route(path, query, body)
        except KeyError as error:
            self.answer({"detail": f"There is no {error}."}, 404)

    do_GET = do_POST = do_PUT = do_DELETE = handle_any

    def route(self, path: str, query: dict[str, str], body: bytes) -> None:
        state, method = self.state, self.command
        found = re.fullmatch(r"/jobs/([^/]+)(?:/(preview|files/(.+)))?", path)
        if path == "/info/":
            names = ("lungs", "regions", "inpaint", "variant", "twin")
            self.answer({
                "name": "Fake", "device": "CPU, 2 threads",
                "models": {name: {"type": "others"} for name in names},
                "strategies": {"uncertainty": {}, "random": {}}, "labels": ["right lung", "left lung"],
            })  # fmt: skip
        elif state.stock and path.startswith("/infer/"):
            self.stock_infer(query)
        elif path == "/session/":
            name = f"s{len(state.sessions) + 1}"
            state.sessions[name] = self.form(body)["files"]
            self.answer({"session_id": name})
        elif path == "/datastore/image" and method == "GET":
            self.answer(state.images[query["image"]], kind="application/octet-stream")
        elif path == "/datastore/image" and query["image"] in state.labels:
            self.answer({"detail": "This image has labels already; give the new one another name."}, 409)
        elif path == "/datastore/image":
            state.images[query["image"]] = self.form(body)["file"]
            self.answer({"image": query["image"]})
        elif path == "/datastore/label" and method == "PUT":
            if query["image"] not in state.images:
                raise KeyError(query["image"])
            form = self.form(body)
            state.labels.setdefault(query["image"], {})[query["tag"]] = form["label"]
            state.label_params.append(json.loads(form["params"]))
            self.answer({"image": query["image"]})
        elif path == "/datastore/label":
            self.answer(state.labels[query["label"]][query["tag"]], kind="application/octet-stream")
        elif path == "/datastore/skip":
            state.skipped[query["image"]] = json.loads(body)["reason"]
            self.answer({})
        elif path.startswith("/activelearning/"):
            rest = [
                n
                for n in state.images
                if n not in state.labels and n not in state.skipped and n not in state.given
            ]
            state.given += rest[:1]
            self.answer({"id": rest[0]} if rest else {})
        elif state.stock:
            self.answer({"detail": "Not Found"}, 404)
        elif path == "/worklist":
            self.answer([{"image": n, "uncertainty": 0.1,
                          "status": "labelled" if n in state.labels else "new",
                          "labels": list(state.labels.get(n, {}))} for n in state.images])  # fmt: skip
        elif path == "/concepts":
            self.answer([{"name": "effusion", "title": "Pleural effusion", "licence": "research"},
                         {"name": "healthy", "title": "Healthy", "licence": "research"}])  # fmt: skip
        elif path == "/embeddings":
            self.answer(list(state.embeddings.values()))
        elif path.startswith("/embeddings/"):
            state.embeddings[path.split("/")[2]]["active"] = json.loads(body)["version"]
            self.answer({})
        elif path == "/jobs" and method == "POST":
            form = self.form(body)
            session = json.loads(form["request"]).get("session_id")
            if session and session not in state.sessions:
                raise KeyError(f"session {session}")
            name = f"j{len(state.jobs) + 1}"
            state.jobs[name] = Job(state, json.loads(form["request"]), form, state.job_seconds)
            self.answer({"id": name, "state": "queued", "position": 0}, 202)
        elif path == "/jobs":
            self.answer([job.tell(name) for name, job in state.jobs.items()])
        elif found:
            self.job(found[1], found[2], found[3])
        else:
            raise KeyError(path)

    def job(self, name: str, part: str | None, file: str | None) -> None:
        job = self.state.jobs[name]
        if self.command == "DELETE":
            if job.tell(name)["state"] == "running":
                job.cancelled = True
                self.state.cancelled.append(name)
            self.answer({})
        elif part == "preview":
            self.answer(png.encode(np.full((40, 30), 128, np.uint8)), kind="image/png")
        elif file:
            self.answer(job.files[urllib.parse.unquote(file)], kind="application/octet-stream")
        else:
            self.answer(job.tell(name))

    def stock_infer(self, query: dict[str, str]) -> None:
        time.sleep(self.state.job_seconds)
        data = self.state.sessions.get(query.get("session_id", "")) or self.state.images[query["image"]]
        image = image_files.decode(data)
        label = finish(nrrd.encode(Image(lungs_of(image), image.ijk_to_ras)))
        told = json.dumps({"label_names": {"right lung": 1, "left lung": 2}}).encode()
        body = (
            b'--b\r\nContent-Disposition: form-data; name="params"\r\n\r\n' + told + b"\r\n--b\r\n"
            b'Content-Disposition: form-data; name="image"; filename="label.nrrd"\r\n\r\n'
            + label
            + b"\r\n--b--\r\n"
        )
        self.answer(body, kind="multipart/form-data; boundary=b")


class QuietServer(ThreadingHTTPServer):
    """Clients that went away are no news here."""

    daemon_threads = True

    def handle_error(self, request: object, address: object) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, address)


class FakeServer:
    """Runs the handler in threads of this process; `state` is open."""

    def __init__(self, port: int = 0) -> None:
        self.state = State()
        handler = type("BoundHandler", (Handler,), {"state": self.state})
        self._server = QuietServer(("127.0.0.1", port), handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _speed(handler: Handler) -> bool:
    """For the test of the pump: /slow?seconds=S waits, /big?bytes=N&seconds=S streams N bytes."""
    split = urllib.parse.urlsplit(handler.path)
    asked = {key: float(value) for key, value in urllib.parse.parse_qsl(split.query)}
    if split.path == "/slow":
        time.sleep(asked["seconds"])
        handler.answer({"ok": True})
        return True
    if split.path == "/big":
        total, pieces = int(asked["bytes"]), 40
        handler.send_response(200)
        handler.send_header("Content-Length", str(total))
        handler.end_headers()
        for piece in range(pieces):
            handler.wfile.write(b"x" * (total * (piece + 1) // pieces - total * piece // pieces))
            time.sleep(asked["seconds"] / pieces)
        return True
    return False


if __name__ == "__main__":
    server = FakeServer()
    server.state.fault = _speed
    print(server.port, flush=True)
    # Ends with the process that started it, whose end closes this pipe.
    sys.stdin.read()
