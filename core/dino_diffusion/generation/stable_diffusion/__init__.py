"""The same operations for Stable Diffusion 1.x and 2.x checkpoints, whose conditions are CLIP texts."""
