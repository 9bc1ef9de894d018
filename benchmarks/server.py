"""Latencies of our server beside bare MONAI Label around the same app, model and images, in one run.

    python benchmarks/server.py [--bundle PATH|HUB] [--device NAME] [--repeats N] [--rounds N]

Each server runs alone in a process of its own; they take turns, and of each time the best round counts:
other programs only add to it. Times include the HTTP connection, as of a client without keep-alive.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import requests

SAMPLE = "synthetic-1"
TRIED = "synthetic-2"
START_SECONDS = 180.0
GENERATION = {"candidates": 2, "seed": 1}
POLL_SECONDS = 0.2
"""Between two looks while a generation runs: more of them would slow it down on few cores."""
OURS, BARE = "ours", "bare"
NOT_THERE = "-"
MEMORY = "resident memory, MB"


def main() -> None:
    options = parse()
    rounds: dict[str, list[dict[str, float]]] = {OURS: [], BARE: []}
    for number in range(options.rounds):
        for name in (OURS, BARE) if number % 2 == 0 else (BARE, OURS):
            with tempfile.TemporaryDirectory() as folder:
                rounds[name].append(Bench(name, Path(folder) / name, options).measure())
    report = {name: best(measured) for name, measured in rounds.items()}
    print(json.dumps(report, indent=1) if options.json else "\n".join(table(report)))


def parse() -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bundle", default="", metavar="PATH|HUB", help="default: the one in the package")
    parser.add_argument("--device", default="", metavar="NAME", help="default: the first GPU, else the CPU")
    parser.add_argument("--repeats", type=int, default=30, metavar="N", help="calls of each kind")
    parser.add_argument("--rounds", type=int, default=2, metavar="N", help="starts of each server")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args()


def best(rounds: list[dict[str, float]]) -> dict[str, float]:
    """The shortest of each time."""
    return {name: min(times[name] for times in rounds) for name in rounds[0]}


class Bench:
    """One server, started, measured and stopped."""

    def __init__(self, name: str, folder: Path, options: argparse.Namespace) -> None:
        from monailabel_app.server.studies import sample_studies

        self.name, self.folder, self.repeats = name, folder, options.repeats
        self.studies = sample_studies(folder / "studies")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.command = self._ours(options) if name == OURS else self._bare(options)
        self.headers: dict[str, str] = {}

    def _ours(self, options: argparse.Namespace) -> list[str]:
        given = [
            "--studies",
            str(self.studies),
            "--state",
            str(self.folder / "state"),
            "--port",
            str(self.port),
        ]
        given += ["--bundle", options.bundle] if options.bundle else []
        given += ["--device", options.device] if options.device else []
        return [sys.executable, "-c", "from dino_diffusion.cli import main; main()", "serve", *given]

    def _bare(self, options: argparse.Namespace) -> list[str]:
        app = self.folder / "app"
        app.mkdir()
        (app / "main.py").write_text("from monailabel_app.main import DinoDiffusionApp\n", encoding="utf-8")
        given = [
            "--app",
            str(app),
            "--studies",
            str(self.studies),
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
        ]
        given += ["--conf", "bundle", options.bundle, "--conf", "device", options.device]
        return [sys.executable, "-m", "monailabel.main", "start_server", *given]

    def measure(self) -> dict[str, float]:
        """Seconds, by what was done; and MEMORY."""
        environment = {**os.environ, "OMP_WAIT_POLICY": "passive", "MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}
        began = time.perf_counter()
        with (self.folder / "output.txt").open("w") as output:
            process = subprocess.Popen(self.command, stdout=output, stderr=output, env=environment)
        try:
            self._await(process)
            started = time.perf_counter() - began
            token = self.folder / "state" / "token"
            self.headers = {"Authorization": f"Bearer {token.read_text().strip()}"} if token.exists() else {}
            times = self._times()
            memory = psutil.Process(process.pid).memory_info().rss / 1e6
            return {"start to first answer": started, **times, MEMORY: memory}
        finally:
            process.terminate()
            process.wait(30)

    def _await(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and process.poll() is None:
            try:
                requests.get(f"{self.address}/info/", timeout=60)
                return
            except requests.ConnectionError:
                time.sleep(0.05)
        sys.exit(f"The {self.name} server did not start:\n{(self.folder / 'output.txt').read_text()[-2000:]}")

    def _times(self) -> dict[str, float]:
        picture = self.studies / f"{TRIED}.png"
        first = self._seconds(lambda: self._infer("lungs", SAMPLE))
        lungs = [self._seconds(lambda: self._infer("lungs", SAMPLE)) for _ in range(self.repeats)]
        info = self._many(self._info)
        label = self._call("POST", f"/infer/lungs?image={SAMPLE}&output=image").content
        saved = self._many(lambda: self._save(label))
        session = self._many(lambda: self._call("PUT", "/session/", files={"files": picture.open("rb")}), 10)
        sample = self._many(lambda: self._call("POST", "/activelearning/first", json={}), 10)
        busy, generation = self._while_generating()
        return {
            "lungs, first time": first,
            "lungs again": statistics.median(lungs),
            "/info/": statistics.median(info),
            "label submitted": statistics.median(saved),
            "session made": statistics.median(session),
            "next sample": statistics.median(sample),
            "one generation": generation,
            "/info/ meanwhile, median": statistics.median(busy),
            "/info/ meanwhile, longest": max(busy),
            **({"cancelled after": self._cancel()} if self.name == OURS else {}),
        }

    def _while_generating(self) -> tuple[list[float], float]:
        """Seconds of `/info/` while a generation runs by the stock route, and those of the generation."""
        took: list[float] = []
        thread = threading.Thread(target=lambda: took.append(self._seconds(self._generate)))
        thread.start()
        time.sleep(0.2)
        seconds = []
        while thread.is_alive():
            seconds.append(self._seconds(self._info))
            time.sleep(POLL_SECONDS)
        thread.join()
        return seconds, took[0]

    def _cancel(self) -> float:
        wanted = {"kind": "infer", "model": "variant", "image": SAMPLE, "params": {**GENERATION, "steps": 50}}
        job = self._call("POST", "/jobs", files={"request": (None, json.dumps(wanted))}).json()["id"]
        while self._call("GET", f"/jobs/{job}").json()["progress"] < 0.2:
            time.sleep(0.02)
        began = time.perf_counter()
        self._call("DELETE", f"/jobs/{job}")
        while self._call("GET", f"/jobs/{job}").json()["state"] == "running":
            time.sleep(0.005)
        return time.perf_counter() - began

    def _info(self) -> None:
        self._call("GET", "/info/")

    def _infer(self, model: str, image: str, **params: Any) -> None:
        self._call("POST", f"/infer/{model}?image={image}&output=json", data={"params": json.dumps(params)})

    def _generate(self) -> None:
        self._infer("variant", TRIED, **GENERATION)

    def _save(self, label: bytes) -> None:
        self._call("PUT", f"/datastore/label?image={SAMPLE}&tag=final", files={"label": ("label.png", label)})

    def _call(self, method: str, path: str, **more: Any) -> requests.Response:
        answer = requests.request(method, self.address + path, headers=self.headers, timeout=600, **more)
        if not answer.ok:
            sys.exit(f"{self.name}: {method} {path} answered {answer.status_code}: {answer.text[:300]}")
        return answer

    def _many(self, call: Callable[[], object], repeats: int | None = None) -> list[float]:
        return [self._seconds(call) for _ in range(repeats or self.repeats)]

    @staticmethod
    def _seconds(call: Callable[[], object]) -> float:
        began = time.perf_counter()
        call()
        return time.perf_counter() - began


def table(report: dict[str, dict[str, float]]) -> list[str]:
    """Lines for a person, milliseconds."""
    lines = [f"{'milliseconds':<28}{OURS:>10}{BARE:>10}"]
    for name in report[OURS]:
        columns = [report[server].get(name) for server in (OURS, BARE)]
        unit = 1 if name == MEMORY else 1000
        shown = [NOT_THERE if value is None else f"{unit * value:.0f}" for value in columns]
        lines.append(f"{name:<28}{shown[0]:>10}{shown[1]:>10}")
    return lines


if __name__ == "__main__":
    main()
