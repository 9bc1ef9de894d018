"""The three networks and the bundle that holds them."""

from dino_diffusion.models.autoencoder import Autoencoder
from dino_diffusion.models.bundle import ModelBundle
from dino_diffusion.models.denoiser import Condition, Denoiser, Frame
from dino_diffusion.models.encoder import DinoEncoder, EncoderOutput
from dino_diffusion.models.prior import TokenPrior
from dino_diffusion.models.readout import LungReadout

__all__ = [
    "Autoencoder",
    "Condition",
    "Denoiser",
    "DinoEncoder",
    "EncoderOutput",
    "Frame",
    "LungReadout",
    "ModelBundle",
    "TokenPrior",
]
