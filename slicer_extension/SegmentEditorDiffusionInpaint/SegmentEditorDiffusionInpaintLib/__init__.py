"""The Segment Editor effect "Diffusion inpaint"."""
