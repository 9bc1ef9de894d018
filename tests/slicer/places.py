"""Where things lie."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
EXTENSION = REPOSITORY / "slicer_extension"
