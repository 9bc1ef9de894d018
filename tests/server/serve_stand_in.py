"""A real server process around the stand-in app: `python -m tests.server.serve_stand_in JSON`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from monailabel_app.server.app import configure_monailabel
from monailabel_app.server.run import Listen, run
from monailabel_app.server.settings import ServerSettings
from tests.server.stand_in import StandIn


def load(settings: ServerSettings) -> StandIn:
    configure_monailabel(settings)
    return StandIn(str(settings.app), settings.studies, dict(settings.conf))


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    run(ServerSettings(**{**given, "state": Path(given["state"])}), Listen("127.0.0.1", 0), load)
