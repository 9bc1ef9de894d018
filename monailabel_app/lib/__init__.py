"""The app's parts, thin over `dino_diffusion`."""
