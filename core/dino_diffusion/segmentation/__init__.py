"""Lungs from a denoiser that never saw a label."""

from dino_diffusion.segmentation.lungs import LungSegmentation, lungs_of, segment_lungs
from dino_diffusion.segmentation.observation import Observation, observe

__all__ = ["LungSegmentation", "Observation", "lungs_of", "observe", "segment_lungs"]
