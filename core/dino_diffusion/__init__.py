"""DiNO-Diffusion for annotators: lungs labelled without labels, and synthetic variants of chest radiographs.

Importing the package is cheap; `dino_diffusion.radiograph`, `.models`, `.segmentation` and `.generation`
bring what they need.
"""

__version__ = "0.1.0"
