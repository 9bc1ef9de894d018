"""Tests of the 3D Slicer extension; they run in an environment of their own, `.venv-slicer`."""
