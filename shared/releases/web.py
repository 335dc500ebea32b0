"""Parts of a file on a web server. Everything that can go wrong is one error, in words."""

from __future__ import annotations

import contextlib
import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import IO
from urllib.parse import urlsplit

READ_TIMEOUT_S = 10.0
PIECE_BYTES = 64 * 2**10
PARTIAL_CONTENT = 206
OK = 200

CONTENT_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(?:\d{1,15}|\*)")


class WebError(Exception):
    """The server does not give what it was asked for."""


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https alone; urllib itself would follow some to ftp, too.

    What a server sends with a redirect is not read: urllib would take all of it into memory.
    """

    def redirect_request(  # noqa: PLR0917 - the signature is urllib's
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Closes the answer, and refuses every other scheme."""
        fp.close()
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise WebError(f"it redirects to {newurl}, which is not http or https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class Body:
    """What a server sends, taken piece by piece.

    Args:
        url: for messages.
        response: the answer.
    """

    def __init__(self, url: str, response: http.client.HTTPResponse) -> None:
        self._url = url
        self._response = response

    def take(self, size: int, deadline_s: float) -> bytes:
        """Returns the next bytes.

        Args:
            size: how many.
            deadline_s: monotonic; a server that sends a byte now and then has no longer.

        Raises:
            WebError: it ends before, or takes too long.
        """
        parts, left = [], size
        while left:
            piece = self._response.read1(min(left, PIECE_BYTES))
            if not piece:
                raise WebError(f"{self._url} ended {left} bytes too early")
            parts.append(piece)
            left -= len(piece)
            if left and time.monotonic() >= deadline_s:
                raise WebError(f"{self._url} is too slow")
        return b"".join(parts)

    def skip(self, size: int, deadline_s: float) -> None:
        """Passes over bytes; raises as ``take`` does."""
        while size:
            size -= len(self.take(min(size, PIECE_BYTES), deadline_s))


class WebFile:
    """A file on a web server.

    Args:
        url: http or https.
        size: of the whole file, in bytes; no more is ever read of it.
    """

    def __init__(self, url: str, size: int) -> None:
        self._url = url
        self._size = size
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            _SafeRedirects(),
        ):
            self._opener.add_handler(handler)

    @contextlib.contextmanager
    def read(self, start: int, size: int) -> Iterator[Body]:
        """Opens a part of the file.

        A server that does not know parts sends the whole; what comes before is passed over then.

        Args:
            start: of the part, in bytes.
            size: of the part, in bytes.

        Raises:
            WebError: also while the part is read.
        """
        try:
            with self._open(start, size) as response:
                body = Body(self._url, response)
                if response.status == OK:
                    body.skip(start, time.monotonic() + READ_TIMEOUT_S + start / PIECE_BYTES)
                yield body
        except urllib.error.HTTPError as error:
            error.close()
            raise WebError(f"{self._url} answers {error.code} {error.reason}") from error
        except urllib.error.URLError as error:
            raise WebError(f"{self._url} cannot be reached: {error.reason}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise WebError(f"{self._url} does not answer as it should: {error!r}") from error

    def _open(self, start: int, size: int) -> http.client.HTTPResponse:
        headers = {"Accept-Encoding": "identity"}
        if (start, size) != (0, self._size):
            headers["Range"] = f"bytes={start}-{start + size - 1}"
        request = urllib.request.Request(self._url, headers=headers)  # noqa: S310 - http(s) alone
        response = self._opener.open(request, timeout=READ_TIMEOUT_S)
        if not isinstance(response, http.client.HTTPResponse):
            raise WebError(f"{self._url} is not one of http or https")
        try:
            _check(response, start)
        except WebError:
            response.close()
            raise
        return response


def _check(response: http.client.HTTPResponse, start: int) -> None:
    if response.status == OK:
        return
    given = response.headers.get("Content-Range", "")
    match = CONTENT_RANGE.fullmatch(given)
    if response.status != PARTIAL_CONTENT or match is None or int(match[1]) != start:
        raise WebError(
            f"{response.url} answers {response.status} with the range {given!r}, which was not "
            f"asked for: it should begin at {start}"
        )
