"""What can be asked of the server, each as a generator for a `Task` (see `tasks`).

The routes are those of MONAI Label and of this project's server around it (docs/server.md).
"""

from __future__ import annotations

import contextlib
import json
import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .errors import BadAnswer, Cancelled, JobFailed, Refused, ServerError
from .messages import Part, Request, Response, decode_form, encode_form
from .tasks import Pause, Progress, Steps

POLLS = (0.02, 0.05, 0.1, 0.15)
"""Pauses before the first looks at a job; what answers from a cache shall be seen at once."""

POLL_SECONDS = 0.25
QUEUE_TRIES, QUEUE_SECONDS = 4, 30.0
CLEAN_UP_SILENCE = 5.0
STOCK_SILENCE = 900.0
"""A stock MONAI Label server is silent while it computes; the user can cancel meanwhile."""

SMALL = 16 << 20
PREVIEW_LIMIT = 8 << 20


@dataclass
class ServerInfo:
    """What the server said of itself; `own` tells this project's server from a stock MONAI Label."""

    name: str
    models: dict[str, dict]
    own: bool
    strategies: list[str] = field(default_factory=list)
    device: str = ""
    concepts: list[dict] = field(default_factory=list)
    embeddings: list[dict] = field(default_factory=list)

    def has(self, model: str) -> bool:
        return model in self.models


@dataclass
class Result:
    """A finished job: its parameters, and its files as they were sent."""

    params: dict
    files: dict[str, bytes] = field(repr=False)

    @property
    def first(self) -> bytes:
        """The main file.

        Raises:
            BadAnswer: there is none.
        """
        for content in self.files.values():
            return content
        raise BadAnswer("The server finished the work without a result file.")


@dataclass(frozen=True)
class Source:
    """The image to work on: one of the server's own by `image`, or one uploaded once as `session`."""

    image: str = ""
    session: str = ""


def quoted(text: str) -> str:
    return urllib.parse.quote(str(text), safe="")


def _query(path: str, **values: object) -> str:
    given = {key: str(value) for key, value in values.items() if value not in ("", None)}
    return path + ("?" + urllib.parse.urlencode(given) if given else "")


def ask_json(request: Request) -> Steps:
    """Sends a request whose answer is JSON."""
    response = yield request
    return response.json()


def _expect(value: Any, kind: type, what: str) -> Any:
    if not isinstance(value, kind):
        raise BadAnswer(f"The server's {what} is not what was expected: is this a MONAI Label server?")
    return value


def login(user: str, password: str) -> Steps:
    """The access token of a stock server that asks for name and password."""
    body = urllib.parse.urlencode({"username": user, "password": password}).encode()
    headers = (("Content-Type", "application/x-www-form-urlencoded"),)
    told = yield from ask_json(Request("POST", "/auth/token", headers, body, limit=SMALL))
    return str(_expect(told, dict, "answer to the login").get("access_token", ""))


def describe() -> Steps:
    """What the server is and offers, as `ServerInfo`."""
    info = yield from ask_json(Request("GET", "/info/", limit=SMALL))
    models = _expect(_expect(info, dict, "description").get("models"), dict, "list of models")
    own = True
    try:
        yield Request("GET", "/jobs", limit=SMALL)
    except Refused as error:
        if error.status not in (404, 405):
            raise
        own = False
    described = ServerInfo(
        name=str(info.get("name", "MONAI Label server")),
        models={str(name): value for name, value in models.items() if isinstance(value, dict)},
        own=own,
        strategies=[str(name) for name in (info.get("strategies") or {})],
        device=str(info.get("device") or ""),
    )
    if own:
        described.concepts = yield from _list("/concepts")
        described.embeddings = yield from _list("/embeddings")
    return described


def _list(path: str) -> Steps:
    answer = yield from ask_json(Request("GET", path, limit=SMALL))
    return [entry for entry in _expect(answer, list, "list") if isinstance(entry, dict)]


def embeddings() -> Steps:
    """The learnt segments with their versions."""
    return (yield from _list("/embeddings"))


def activate(name: str, version: str) -> Steps:
    """Goes back, or forward, to one version of a learnt segment."""
    return (yield from _post_json(f"/embeddings/{quoted(name)}/activate", {"version": version}))


def worklist() -> Steps:
    """The images of the server with their states."""
    return (yield from _list("/worklist"))


def _post_json(path: str, content: dict) -> Steps:
    headers = (("Content-Type", "application/json"),)
    return (yield from ask_json(Request("POST", path, headers, json.dumps(content).encode(), limit=SMALL)))


def next_image(strategy: str) -> Steps:
    """The id of the next image to label, empty when there is none left."""
    answer = yield from _post_json(f"/activelearning/{quoted(strategy)}", {})
    return str(_expect(answer, dict, "next image").get("id") or "")


def download_image(image: str) -> Steps:
    """An image of the server's store: its bytes and its file name."""
    response = yield Request("GET", _query("/datastore/image", image=image), silence=60.0)
    return response.body, _file_name(response, image)


def _file_name(response: Response, fallback: str) -> str:
    disposition = response.headers.get("content-disposition", "")
    for item in disposition.split(";"):
        name, _, value = item.strip().partition("=")
        if name.lower() == "filename" and value:
            return value.strip('"').replace("\\", "/").rpartition("/")[2]
    return fallback


def upload_session(content: bytes, filename: str) -> Steps:
    """Uploads an image for the time of a session; later work names the returned id."""
    headers, body = encode_form([Part("files", content, filename)])
    answer = yield from ask_json(Request("PUT", "/session/", headers, body, silence=120.0))
    session = _expect(answer, dict, "answer to the upload").get("session_id")
    if not session:
        raise BadAnswer("The server took the image and named no session: it may be an older version.")
    return str(session)


def upload_image(content: bytes, filename: str) -> Steps:
    """Adds an image to the server's store; gives its id there."""
    stem = filename.partition(".")[0]
    headers, body = encode_form([Part("file", content, filename)])
    path = _query("/datastore/image", image=stem)
    answer = yield from ask_json(Request("PUT", path, headers, body, silence=120.0))
    return str(_expect(answer, dict, "answer to the upload").get("image") or stem)


def save_label(image: str, content: bytes, filename: str, tag: str, names: dict[str, int],
               absent: Iterable[str] = ()) -> Steps:  # fmt: skip
    """Hands in a label; when this returns, the server has it on disk. `absent`: what the image lacks."""
    info = [{"name": name, "idx": value} for name, value in names.items()]
    params = json.dumps({"label_info": info, "label_names": names, "label_absent": list(absent)}).encode()
    headers, body = encode_form([Part("params", params), Part("label", content, filename)])
    yield Request("PUT", _query("/datastore/label", image=image, tag=tag), headers, body, silence=120.0)
    return image


def skip(image: str, reason: str) -> Steps:
    return (yield from _post_json(_query("/datastore/skip", image=image), {"reason": reason}))


def job(model: str, source: Source, params: dict, kind: str = "infer", files: Iterable[Part] = (),
        fetch: bool = True) -> Steps:  # fmt: skip
    """Runs a job to its end: `Result`. Cancel ends it on the server within one denoising step.

    Raises:
        JobFailed: with the server's sentence.
        Cancelled: the user, or somebody on the server, ended it.
    """
    asked = {
        "kind": kind,
        "model": model,
        "image": source.image or None,
        "session_id": source.session or None,
        "params": params,
    }
    headers, body = encode_form(
        [Part("request", json.dumps(asked).encode(), media_type="application/json"), *files]
    )
    state = _expect((yield from _queued(Request("POST", "/jobs", headers, body, silence=120.0))), dict, "job")
    if not state.get("id"):
        raise BadAnswer("The server accepted the job and did not name it.")
    here = "/jobs/" + quoted(state["id"])
    try:
        state = yield from _follow(here, state)
        if not fetch:
            return Result(_params(state), {})
        return (yield from _collect(here, state))
    except (Cancelled, ServerError):
        # Whatever went wrong here, the server need not go on computing, nor keep what nobody will fetch.
        with contextlib.suppress(ServerError):
            yield Request("DELETE", here, silence=CLEAN_UP_SILENCE, limit=SMALL)
        raise


def _queued(request: Request) -> Steps:
    """Asks again where the queue is full for a short time only; else the server's sentence is raised."""
    for attempt in range(QUEUE_TRIES):
        try:
            return (yield from ask_json(request))
        except Refused as error:
            wait = error.retry_after
            last = attempt == QUEUE_TRIES - 1
            if error.status != 429 or wait is None or wait > QUEUE_SECONDS or last:
                raise
        yield Progress(None, f"The server's queue is full; trying again in {wait:.0f} s")
        yield Pause(wait)


def _follow(here: str, state: dict) -> Steps:
    shown, pauses = -1.0, iter(POLLS)
    while state.get("state") in ("queued", "running"):
        yield Pause(next(pauses, POLL_SECONDS))
        state = _expect((yield from ask_json(Request("GET", here, limit=SMALL))), dict, "job")
        done = _number(state.get("progress"))
        preview = b""
        if state.get("state") == "running" and done > max(shown, 0.0) and state.get("preview", True):
            shown = done
            with contextlib.suppress(Refused):
                preview = (yield Request("GET", here + "/preview", limit=PREVIEW_LIMIT)).body
        yield Progress(done, _said(state), preview)
    if state.get("state") == "cancelled":
        raise Cancelled("The job was cancelled on the server.")
    if state.get("state") != "done":
        raise JobFailed(str(state.get("error") or "The server could not finish the work: its log says why."))
    return state


def _collect(here: str, state: dict) -> Steps:
    files = {}
    for entry in state.get("files") or []:
        name = str(_expect(entry, dict, "list of files").get("name", ""))
        response = yield Request("GET", f"{here}/files/{quoted(name)}", silence=60.0)
        files[name] = response.body
    yield Request("DELETE", here, limit=SMALL)
    return Result(_params(state), files)


def _params(state: dict) -> dict:
    params = state.get("params") or {}
    return _expect(params, dict, "result")


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def _said(state: dict) -> str:
    """The state in a few words, with the place in the queue or the time that is left."""
    if state.get("state") == "queued":
        position = state.get("position")
        return f"Waiting, {position} before this one" if position else "Waiting for the server"
    message = str(state.get("message") or "Computing")
    eta = state.get("eta_seconds")
    return f"{message}, about {max(1, round(eta))} s left" if isinstance(eta, (int, float)) else message


def stock_infer(model: str, source: Source, params: dict, label: bytes = b"") -> Steps:
    """One inference the way every MONAI Label server offers it: no progress, one answer."""
    parts = [Part("params", json.dumps({"result_extension": ".nii.gz", **params}).encode())]
    if label:
        parts.append(Part("label", label, "label.nii.gz"))
    headers, body = encode_form(parts)
    path = _query(f"/infer/{quoted(model)}", image=source.image, session_id=source.session, output="all")
    yield Progress(None, "Computing; this server does not tell how far it is")
    response = yield Request("POST", path, headers, body, silence=STOCK_SILENCE)
    found = decode_form(response)
    told: object = {}
    if "params" in found:
        told = Response(200, {"content-type": "application/json"}, found["params"].content).json()
    file = next((part for part in found.values() if part.filename or part.name in ("image", "file")), None)
    if file is None:
        raise BadAnswer("The server finished the work without a result file.")
    return Result(_expect(told, dict, "result"), {file.filename or "result.nii.gz": file.content})
