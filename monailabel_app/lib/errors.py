"""Errors that a server answers with a status of its own; their message is one sentence for a person."""

from __future__ import annotations

from dino_diffusion.errors import DinoDiffusionError


class RequestError(DinoDiffusionError):
    """A request makes no sense: HTTP 400."""


class NotFound(RequestError):
    """What a request names is not there: HTTP 404."""
