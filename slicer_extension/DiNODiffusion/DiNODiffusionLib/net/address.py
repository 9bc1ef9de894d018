"""Where the server is, and whether the way to it can be trusted."""

from __future__ import annotations

import ipaddress
import ssl
import urllib.parse
from dataclasses import dataclass

from .errors import NotTrusted, ServerError


@dataclass(frozen=True)
class Address:
    """A server's address; `path` is a prefix without a slash at its end, as behind a reverse proxy."""

    scheme: str
    host: str
    port: int
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Reads what a person types: `127.0.0.1:8000`, `server`, `https://gpu.example.org/label`.

        Raises:
            ServerError: it is no address; the sentence shows one.
        """
        given = text.strip()
        try:
            parts = urllib.parse.urlsplit(given if "://" in given else "http://" + given)
            port = parts.port
        except ValueError as error:
            raise ServerError(
                f"“{given}” is no address ({error}): write for example http://127.0.0.1:8000."
            ) from None
        if parts.scheme not in ("http", "https") or not parts.hostname or " " in given:
            raise ServerError(f"“{given}” is no address: write for example http://127.0.0.1:8000.")
        if parts.username or parts.password:
            raise ServerError(
                "The address holds a user name or password: leave it out and use the token field."
            )
        if port is None:
            port = 443 if parts.scheme == "https" else 8000
        return cls(parts.scheme, parts.hostname, port, parts.path.rstrip("/"))

    @property
    def authority(self) -> str:
        """Host and port as in a Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def loopback(self) -> bool:
        """Whether the server is this very machine."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def exposed(self) -> bool:
        """Whether images and token would travel unencrypted over a network."""
        return self.scheme == "http" and not self.loopback


def tls_context(address: Address, ca_file: str = "") -> ssl.SSLContext | None:
    """A verifying TLS context for https, None for http. `ca_file`: certificate of a private authority.

    Raises:
        NotTrusted: the file holds no certificate.
    """
    if address.scheme != "https":
        return None
    context = ssl.create_default_context()
    if ca_file:
        try:
            context.load_verify_locations(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise NotTrusted(f"{ca_file} holds no certificate ({error}): choose a PEM file.") from None
    return context
