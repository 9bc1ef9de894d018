"""Lungs from a denoiser that never saw a label."""

from dino_diffusion.segmentation.lungs import LungSegmentation, segment_lungs

__all__ = ["LungSegmentation", "segment_lungs"]
