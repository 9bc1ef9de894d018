"""A TCP or TLS connection of which no call ever blocks; only the look-up of a name uses a thread."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
import time

from .address import Address
from .errors import BadAnswer, NotTrusted, TimedOut, Unreachable

CONNECT_SECONDS = 10.0
PIECE = 256 * 1024


class Lookup:
    """Turns a host name into addresses; `advance` gives them once they are known.

    The operating system offers no look-up that does not block, so it runs in a thread, which hands over one
    list.
    """

    def __init__(self, address: Address) -> None:
        self._answer: list | None = None
        self._error: OSError | None = None
        try:
            ipaddress.ip_address(address.host)
            hosts = [address.host]
        except ValueError:
            hosts = ["127.0.0.1", "::1"] if address.host == "localhost" else []
        if hosts:
            self._answer = [
                (socket.AF_INET6 if ":" in host else socket.AF_INET, (host, address.port)) for host in hosts
            ]
        else:
            threading.Thread(target=self._ask, args=(address,), daemon=True).start()

    def _ask(self, address: Address) -> None:
        try:
            found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
            self._answer = [(family, where) for family, _, _, _, where in found]
        except OSError as error:
            self._error = error

    def advance(self) -> list | None:
        if self._error is not None:
            raise self._error
        if self._answer is None:
            # The thread needs the interpreter lock for a moment, which the window's loop may hold all the
            # time.
            time.sleep(0.001)
        return self._answer


class Connection:
    """Opens in the background of `advance`; then `send` and `receive` move what the system takes and has."""

    def __init__(
        self, address: Address, tls: ssl.SSLContext | None, connect_seconds: float = CONNECT_SECONDS
    ) -> None:
        self.address = address
        self.used = False
        self.idle_since = 0.0
        self._tls = tls
        self._deadline = time.monotonic() + connect_seconds
        self._seconds = connect_seconds
        self._lookup: Lookup | None = Lookup(address)
        self._targets: list = []
        self._socket: socket.socket | None = None
        self._shaken = False
        self.open = False

    def advance(self) -> bool:
        """One step towards an open connection; says whether anything moved.

        Raises:
            Unreachable, TimedOut, NotTrusted: with the reason and what to do.
        """
        if self.open:
            return False
        if time.monotonic() > self._deadline:
            self.close()
            raise TimedOut(
                f"{self.address} does not answer within {self._seconds:.0f} s: check the address, the"
                " firewall and the VPN."
            )
        try:
            if self._socket is None:
                return self._start()
            if not self._connected():
                return False
            if self._tls is not None and not self._shaken:
                return self._shake()
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise NotTrusted(
                f"The certificate of {self.address.host} is not trusted ({error.verify_message}): nothing"
                " was sent."
                " Choose the certificate file of your authority, or ask who runs the server."
            ) from None
        except ssl.SSLError as error:
            self.close()
            reason = (error.reason or str(error)).replace("_", " ").lower()
            raise NotTrusted(
                f"No encrypted connection with {self.address} ({reason}): does the server speak https?"
            ) from None
        except socket.gaierror:
            self.close()
            raise Unreachable(
                f"The name {self.address.host} is not known on this network: check its spelling."
            ) from None
        except OSError as error:
            return self._failed(error)
        self.open = True
        return True

    def _start(self) -> bool:
        if self._lookup is not None:
            targets = self._lookup.advance()
            if targets is None:
                return False
            self._targets, self._lookup = list(targets), None
        family, where = self._targets.pop(0)
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.connect_ex(where)
        return True

    def _connected(self) -> bool:
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, "connection failed")
        try:
            self._socket.getpeername()
        except OSError:
            return False
        return True

    def _shake(self) -> bool:
        if not isinstance(self._socket, ssl.SSLSocket):
            self._socket = self._tls.wrap_socket(
                self._socket, server_hostname=self.address.host, do_handshake_on_connect=False
            )
        try:
            self._socket.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        self._shaken = True
        return True

    def _failed(self, error: OSError) -> bool:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._targets and self._lookup is None and not self._shaken:
            return True
        self.close()
        raise Unreachable(
            f"No server answers at {self.address}: start it, or correct address and port"
            f" ({error.strerror or error})."
        ) from None

    def send(self, data: memoryview) -> int:
        """How many bytes the system took, 0 when it takes none now."""
        try:
            return self._socket.send(data[:PIECE])
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0

    def receive(self) -> bytes | None:
        """What arrived, None when nothing is there now, empty when the server closed the connection."""
        try:
            return self._socket.recv(PIECE)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except ssl.SSLEOFError:
            return b""
        except ssl.SSLError as error:
            raise BadAnswer(f"The encrypted connection broke ({error.reason}): try again.") from None

    def close(self) -> None:
        self.open = False
        self._lookup = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None
