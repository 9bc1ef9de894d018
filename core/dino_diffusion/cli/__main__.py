"""`python -m dino_diffusion.cli`, which is also what `accelerate launch -m` takes."""

from dino_diffusion.cli.app import main

main()
