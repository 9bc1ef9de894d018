"""Listens, starts, says how to reach it, ends in order."""

from __future__ import annotations

import os
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from diffusers.utils.logging import disable_progress_bar
from filelock import FileLock, Timeout
from monailabel.interfaces.app import MONAILabelApp

from dino_diffusion.cli.console import hush_libraries
from dino_diffusion.errors import ConfigurationError
from monailabel_app.server.app import create_app, load_instance
from monailabel_app.server.log import open_log
from monailabel_app.server.settings import ServerSettings

GRACE_SECONDS = 10


@dataclass(frozen=True)
class Listen:
    """Where the server is reached."""

    host: str
    port: int
    root_path: str = ""
    certificate: Path | None = None
    key: Path | None = None


def run(
    settings: ServerSettings,
    listen: Listen,
    load: Callable[[ServerSettings], MONAILabelApp] = load_instance,
) -> None:
    """Until Ctrl-C or SIGTERM. Raises DinoDiffusionError where it cannot start."""
    listening = open_socket(listen.host, listen.port)
    check_certificate(listen)
    with held(settings.state):
        open_log(settings.log)
        hush_libraries()
        disable_progress_bar()
        # MONAI Label takes an image's id for a path where one of that name exists: nothing does here.
        empty = settings.state / "empty"
        empty.mkdir(exist_ok=True)
        os.chdir(empty)
        # Loaded before the event loop starts, so that what is wrong is said in a sentence.
        _serve(settings, listen, listening, load(settings))


def _serve(
    settings: ServerSettings, listen: Listen, listening: socket.socket, instance: MONAILabelApp
) -> None:
    config = uvicorn.Config(
        create_app(settings, instance),
        log_config=None,
        access_log=False,
        server_header=False,
        root_path=listen.root_path,
        ssl_certfile=listen.certificate and str(listen.certificate),
        ssl_keyfile=listen.key and str(listen.key),
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    port = listening.getsockname()[1]
    scheme = "https" if listen.certificate else "http"
    address = f"{scheme}://{_in_address(listen.host)}:{port}"
    server = Announced(config, announcement(settings, instance, address))
    with suppress(KeyboardInterrupt):
        server.run(sockets=[listening])
    if server.failed:
        raise ConfigurationError(f"The server could not start; {settings.log} says why.")


@contextmanager
def held(state: Path) -> Iterator[None]:
    """The state folder, made where it is missing, for one server. Raises ConfigurationError."""
    try:
        state.mkdir(parents=True, exist_ok=True)
        # Jobs and sessions hold radiographs.
        state.chmod(0o700)
        lock = FileLock(state / "lock", timeout=0)
        lock.acquire()
    except Timeout as error:
        raise ConfigurationError(
            f"{state}: another server uses this folder; choose another --state."
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"{state}: cannot be written ({error.strerror}); choose another --state."
        ) from error
    with lock:
        yield


def check_certificate(listen: Listen) -> None:
    """Raises ConfigurationError for files that are no certificate with its key."""
    if listen.certificate is None:
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(listen.certificate, listen.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"{listen.certificate} and {listen.key} are no certificate and its key in PEM "
            f"({error.strerror or error})."
        ) from error


class Announced(uvicorn.Server):
    """Says that it is ready when it is."""

    def __init__(self, config: uvicorn.Config, text: str) -> None:
        super().__init__(config)
        self.text = text

    @property
    def failed(self) -> bool:
        """Whether it ended before it was ready."""
        return not self.started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(self.text, flush=True)


def announcement(settings: ServerSettings, instance: MONAILabelApp, address: str) -> str:
    """What a person has to know, one thing a line."""
    info = instance.info()
    lines = [
        f"Address: {address}",
        f"Token: {settings.token}"
        if settings.token
        else "Token: none (--no-auth): every program here gets in",
        f"Studies: {settings.studies} ({info['datastore']['total']} images)",
        f"Models: {', '.join(info['models'])}",
        f"Device: {info['device']}" if "device" in info else "",
        f"3D Slicer: DiNO-Diffusion module, Connect, {address} and the token; the stock MONAI Label module: "
        "the same address, any user name, the token as password.",
        "Ctrl-C ends it.",
    ]
    return "\n".join(filter(None, lines))


def open_socket(host: str, port: int) -> socket.socket:
    """Raises ConfigurationError for an address that is taken or not this machine's."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        if sys.platform != "win32":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(where)
    except OSError as error:
        raise ConfigurationError(
            f"{host}:{port} cannot be used ({error.strerror or error}); choose another --port or --host."
        ) from error
    listening.set_inheritable(True)
    return listening


def _in_address(host: str) -> str:
    if host in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host
