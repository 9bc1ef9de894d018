"""Errors a user can act on.

Every message names the thing that failed, the problem and the remedy in one sentence; the command
line prints it without a traceback.
"""


class DinoDiffusionError(Exception):
    """Base of every error this package raises on purpose."""


class RadiographError(DinoDiffusionError):
    """A file cannot be read or written as a radiograph."""


class BundleError(DinoDiffusionError):
    """A model bundle is missing, incomplete or does not fit what is asked of it."""


class ConceptError(DinoDiffusionError):
    """A concept cannot be read, or was learnt for another model."""


class EmbeddingError(DinoDiffusionError):
    """A segment embedding cannot be learnt or read, or was learnt for another model."""


class ConfigurationError(DinoDiffusionError):
    """A training or command-line setting makes no sense."""


class Cancelled(DinoDiffusionError):
    """The caller asked to stop."""
