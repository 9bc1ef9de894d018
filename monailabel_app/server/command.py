"""`dino-diffusion serve`: what a person types. The server itself is imported when it starts."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Annotated

import typer

from dino_diffusion.errors import ConfigurationError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(
    studies: Annotated[
        str,
        typer.Option(
            help="Folder of radiographs, or URL of a DICOMweb service; the sample radiographs if none."
        ),
    ] = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for all of this machine.")
    ] = "127.0.0.1",
    state: Annotated[
        Path | None, typer.Option(help="Folder for token, jobs, sessions, log.", show_default="per user")
    ] = None,
    bundle: Annotated[str, typer.Option(help="Model: folder or hub name; the default one if none.")] = "",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps; the best one if none.")] = "",
    no_auth: Annotated[bool, typer.Option("--no-auth", help="No token; only on 127.0.0.1.")] = False,
    cors: Annotated[
        list[str] | None, typer.Option(help="Origin whose web pages may use the server; may be repeated.")
    ] = None,
    max_upload_mb: Annotated[int, typer.Option(min=1, help="Largest request.")] = 512,
    queue: Annotated[int, typer.Option(min=1, help="Most jobs that wait.")] = 64,
    keep_days: Annotated[float, typer.Option(min=0, help="How long finished jobs are kept.")] = 7.0,
    store_synthetic: Annotated[
        bool, typer.Option("--store-synthetic", help="Let synthetic images go to the DICOMweb archive.")
    ] = False,
    root_path: Annotated[str, typer.Option(help="Prefix of the path behind a reverse proxy.")] = "",
    tls_certificate: Annotated[
        Path | None, typer.Option(help="PEM file; with --tls-key the server speaks https.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file.")] = None,
) -> None:
    """Start the server for 3D Slicer and other MONAI Label clients. Ctrl-C ends it."""
    check_installed()
    if no_auth and host not in LOOPBACK:
        raise ConfigurationError(
            "--no-auth lets everybody in, so it goes with --host 127.0.0.1 only; leave one out."
        )
    if (tls_certificate is None) != (tls_key is None):
        raise ConfigurationError("--tls-certificate and --tls-key go together; give both or neither.")
    # Idle OpenMP threads sleep instead of spinning; read once, when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

    from monailabel_app.server.run import Listen, run
    from monailabel_app.server.settings import MEGABYTE, ServerSettings, default_state
    from monailabel_app.server.studies import find_studies
    from monailabel_app.server.token import read_or_make_token

    folder = (state or default_state()).expanduser().resolve()
    settings = ServerSettings(
        studies=find_studies(studies, folder),
        state=folder,
        token=None if no_auth else read_or_make_token(folder / "token"),
        cors=tuple(cors or ()),
        max_upload=max_upload_mb * MEGABYTE,
        queue_limit=queue,
        keep_days=keep_days,
        conf={
            "bundle": bundle,
            "device": device,
            "state": str(folder),
            "store_synthetic": "1" if store_synthetic else "",
        },
    )
    run(settings, Listen(host, port, root_path, tls_certificate, tls_key))


def check_installed() -> None:
    """Raises ConfigurationError where the optional part `server` is missing."""
    missing = [name for name in ("monailabel", "fastapi", "uvicorn") if not importlib.util.find_spec(name)]
    if missing:
        raise ConfigurationError(
            f"dino-diffusion serve needs {', '.join(missing)}: run make setup in a clone, or pip install "
            '"dino-diffusion[server]" and then pip install --no-deps monailabel==0.8.5 pydicom-seg==0.4.1.'
        )
