"""Orthanc, a real DICOMweb server, from Debian's packages orthanc and orthanc-dicomweb."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

import requests

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def missing() -> str | None:
    """What to install, or None."""
    if shutil.which("Orthanc") and PLUGIN.exists():
        return None
    return "needs Orthanc: apt-get install orthanc orthanc-dicomweb"


class Orthanc:
    """Started empty on a free port of this machine; ended by leaving the block."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        configuration = folder / "orthanc.json"
        configuration.write_text(
            json.dumps(
                {
                    "Name": "Test",
                    "StorageDirectory": str(folder / "db"),
                    "IndexDirectory": str(folder / "db"),
                    "HttpPort": self.port,
                    "DicomServerEnabled": False,
                    "RemoteAccessAllowed": False,
                    "AuthenticationEnabled": False,
                    "Plugins": [str(PLUGIN)],
                    "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
                }
            )
        )
        self._start()

    def _start(self) -> None:
        with (self.folder / "orthanc.log").open("a") as log:
            command = ["Orthanc", str(self.folder / "orthanc.json")]
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        end = time.monotonic() + 60
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if requests.get(f"{self.root}/system", timeout=2).ok:
                    return
            except requests.ConnectionError:
                time.sleep(0.1)
        self.stop()
        raise AssertionError((self.folder / "orthanc.log").read_text())

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        """Of its DICOMweb service."""
        return f"{self.root}/dicom-web"

    def add(self, path: Path) -> None:
        """By its own way in, not DICOMweb."""
        requests.post(f"{self.root}/instances", data=path.read_bytes(), timeout=30).raise_for_status()

    def files(self) -> list[bytes]:
        """Every instance."""
        instances = requests.get(f"{self.root}/instances", timeout=30).json()
        return [requests.get(f"{self.root}/instances/{one}/file", timeout=30).content for one in instances]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)

    def start_again(self) -> None:
        self._start()

    def __enter__(self) -> Orthanc:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.stop()
