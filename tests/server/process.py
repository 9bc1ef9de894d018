"""Servers in processes of their own: ours around the stand-in, and bare MONAI Label around the same app."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import requests

REPOSITORY = Path(__file__).resolve().parents[2]
START_SECONDS = 300.0
BARE_MAIN = """
from tests.server.stand_in import StandIn


class BareStandIn(StandIn):
    def __init__(self, app_dir, studies, conf):
        super().__init__(app_dir, studies, {**conf, "bare": "1"})
"""


class Process:
    """A started server; `address` answers. Ended by leaving the block."""

    def __init__(self, command: list[str], address: str | None, log: Path, token: str = "") -> None:
        self.log, self.token = log, token
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "core")]),
            "PYTHONUNBUFFERED": "1",
            "MONAI_LABEL_AUTO_UPDATE_SCORING": "false",
        }
        self._output = log.open("w")
        self.process = subprocess.Popen(
            command, cwd=log.parent, env=environment, stdout=self._output, stderr=subprocess.STDOUT, text=True
        )
        self.address = address or self._announced()
        self._await_answer()

    def _announced(self) -> str:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            for line in self.log.read_text().splitlines():
                if line.startswith("Address: "):
                    return line.removeprefix("Address: ")
            time.sleep(0.05)
        self.kill()
        raise AssertionError(f"The server did not start:\n{self.log.read_text()}")

    def _await_answer(self) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            try:
                requests.get(self.address + "/auth/", timeout=5)
                return
            except requests.ConnectionError:
                time.sleep(0.1)
        self.kill()
        raise AssertionError(f"The server does not answer:\n{self.log.read_text()}")

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> int:
        """As Ctrl-C does; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._output.close()
        return self.process.returncode

    def kill(self) -> None:
        """Without warning, as a power cut."""
        self.process.kill()
        self.process.wait()
        self._output.close()

    def call(self, method: str, path: str, **more: Any) -> requests.Response:
        headers = {
            **({"Authorization": f"Bearer {self.token}"} if self.token else {}),
            **more.pop("headers", {}),
        }
        return requests.request(method, self.address + path, headers=headers, timeout=60, **more)

    def submit(self, steps: int = 1, image: str | None = "chest1", client: str = "me") -> requests.Response:
        wanted = {"kind": "infer", "model": "segment", "image": image, "params": {"steps": steps}}
        return self.call(
            "POST", "/jobs", files={"request": (None, json.dumps(wanted))}, headers={"X-Client-Id": client}
        )


def ours(studies: Path | str, state: Path, token: str, **settings: Any) -> Process:
    """Our server around the stand-in."""
    state.mkdir(parents=True, exist_ok=True)
    given = {"studies": str(studies), "state": str(state), "token": token, **settings}
    command = [sys.executable, "-m", "tests.server.serve_stand_in", json.dumps(given)]
    return Process(command, None, state / "output.txt", token)


def bare(studies: Path, folder: Path) -> Process:
    """MONAI Label as it is, around the same stand-in with MONAI Label's own datastore."""
    app = folder / "app"
    app.mkdir(parents=True, exist_ok=True)
    (app / "main.py").write_text(BARE_MAIN)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(app)]
    command += ["--studies", str(studies), "--host", "127.0.0.1", "--port", str(port)]
    return Process(command, f"http://127.0.0.1:{port}", folder / "output.txt")
