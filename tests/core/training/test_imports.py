"""Training runs where there is little more than torch, transformers, accelerate, diffusers and Pillow."""

import subprocess
import sys

ABSENT = (
    "SimpleITK",
    "pydicom",
    "nibabel",
    "highdicom",
    "rich",
    "monai",
    "skimage",
    "scipy",
    "typer",
    "torchvision",
)


def test_training_imports_without_the_medical_libraries() -> None:
    program = f"""
import sys
sys.path[:] = {[path for path in sys.path if path]!r}
for name in {ABSENT!r}:
    sys.modules[name] = None
import dino_diffusion.training.run, dino_diffusion.training.pack
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
