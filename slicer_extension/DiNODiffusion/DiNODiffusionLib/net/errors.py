"""What can go wrong on the way to the server, each as one sentence for the person at the screen."""

from __future__ import annotations


class ServerError(Exception):
    """The text is one clear sentence that says what happened and what to do."""


class Unreachable(ServerError):
    """No connection could be made, or it broke."""


class TimedOut(Unreachable):
    """The server was silent for too long."""


class NotTrusted(ServerError):
    """TLS could not be established or the certificate does not hold; nothing was sent."""


class BadAnswer(ServerError):
    """The answer is no HTTP, is cut short, is too large or is of the wrong kind."""


class Refused(ServerError):
    """The server answered with an error status."""

    def __init__(self, sentence: str, status: int, retry_after: float | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.retry_after = retry_after


class JobFailed(ServerError):
    """The server accepted the job and could not finish it."""


class Cancelled(Exception):
    """The user pressed Cancel."""


MEANINGS = {
    401: "The server does not accept the token: copy it from the line `Token:` that the server prints at"
    " its start,"
    " or choose its token file.",
    403: "The server does not allow this with the token that was given.",
    404: "The server does not know what was asked for; it may be an older version.",
    409: "Somebody else changed this on the server meanwhile: reload and try again.",
    413: "The image is larger than the server accepts.",
    429: "The server is busy and takes no more work now: try again in a moment.",
    502: "A proxy in front of the server could not reach it: is the server running?",
    503: "The server is not ready: try again in a moment.",
    504: "A proxy in front of the server gave up waiting; the work may still go on there: try again.",
}


def meaning_of(status: int, detail: str = "") -> str:
    """The sentence for an error status; the server's own sentence comes first where it gave one."""
    if 300 <= status < 400:
        where = f" to {detail}" if detail else ""
        return (
            f"The server redirects{where}, which is not followed because it would carry the token along:"
            " enter the new address."
        )
    if detail and status != 401:
        return detail if detail.endswith((".", "!", "?")) else detail + "."
    if status in MEANINGS:
        return MEANINGS[status]
    if status >= 500:
        return f"The server failed (status {status}): its log says why."
    return f"The server refused the request (status {status})."
