"""Where packs of inputs lie beside the rows: a folder, S3, or any other place that fsspec knows."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
from fsspec.implementations.local import LocalFileSystem

from cloud.store.packs import LostInputsError
from shared.durable import write_durably
from shared.errors import StorageError

DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
ENDING = ".packs"
OWN_NAME = re.compile(rf"\.?(\d{{1,15}})-[0-9a-f]{{32}}{re.escape(ENDING)}(?:\.\d+\.tmp)?")
"""Of a file, or of one that a killed process has begun."""

log = logging.getLogger(__name__)


class Span(NamedTuple):
    """Bytes of a file.

    Attributes:
        file: its name.
        start: the first.
        stop: behind the last.
    """

    file: str
    start: int
    stop: int


class InputFiles:
    """Files of packs, each written once and whole, in a folder for each day.

    Their names begin with when they were written, so that a look at a name tells whether a file
    that no row names is left over, or not named yet.

    Args:
        url: a folder's path, or a URL such as ``s3://bucket/prefix``.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._files: Any = None
        self._root = ""

    @property
    def url(self) -> str:
        """Where they are."""
        return self._url

    def open(self) -> None:
        """Finds what speaks to the place.

        Raises:
            StorageError: nothing does.
        """
        try:
            self._files, root = fsspec.core.url_to_fs(self._url)
        except (ImportError, ValueError, OSError) as error:
            remedy = (
                ". Fix: pip install 'escalon[s3]'" if self._url.startswith(("s3:", "s3a:")) else ""
            )
            raise StorageError(f"cannot open {self._url} for inputs: {error}{remedy}") from error
        self._root = root.rstrip("/")

    def write(self, data: bytes, now_s: float) -> str:
        """Writes a file, durably; returns its name.

        Args:
            data: its content.
            now_s: seconds since 1970.

        Raises:
            StorageError: it cannot be written.
        """
        day = time.strftime("%Y-%m-%d", time.gmtime(now_s))
        name = f"{day}/{int(now_s)}-{uuid.uuid4().hex}{ENDING}"
        if isinstance(self._files, LocalFileSystem):
            write_durably(Path(self._path(name)), data)
        else:
            # An object store has it whole, or not at all.
            with _translated("write", self._path(name)):
                self._files.pipe_file(self._path(name), data)
        return name

    def read(self, spans: Sequence[Span]) -> list[bytes]:
        """Returns bytes of files.

        Raises:
            LostInputsError: a file is gone, or cut off.
            StorageError: they cannot be read now.
        """
        if not spans:
            return []
        first = self._path(spans[0].file)
        try:
            with _translated("read", first):
                found: list[bytes] = self._files.cat_ranges(
                    [self._path(span.file) for span in spans],
                    [span.start for span in spans],
                    [span.stop for span in spans],
                    on_error="raise",
                )
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError) and self.days():
                raise LostInputsError(str(error)) from error
            # With no file of any day there, it is not a file that is lost: the folder is not
            # mounted, or another bucket is meant.
            raise
        for span, data in zip(spans, found, strict=True):
            if len(data) != span.stop - span.start:
                raise LostInputsError(f"{self._path(span.file)} is cut off")
        return found

    def remove(self, names: Iterable[str]) -> None:
        """Deletes files; one that is gone is no error, one that stays is found again as left over.

        Args:
            names: of the files.
        """
        for name in names:
            try:
                self._files.rm_file(self._path(name))
            except FileNotFoundError:
                pass
            except Exception as error:  # each kind of place has errors of its own
                log.warning("cannot delete %s: %s", self._path(name), error)

    def days(self) -> list[str]:
        """Returns the days that have a folder.

        Raises:
            StorageError: they cannot be listed.
        """
        return [each for each in self._list("") if DAY.fullmatch(each)]

    def of_day(self, day: str) -> dict[str, float]:
        """Returns the files of a day, by name, and when each was begun, seconds since 1970.

        What a killed process has begun and not finished is one of them.

        Raises:
            StorageError: they cannot be listed.
        """
        found = [(each, OWN_NAME.fullmatch(each)) for each in self._list(day)]
        return {f"{day}/{each}": float(match[1]) for each, match in found if match is not None}

    def remove_day(self, day: str) -> None:
        """Deletes the folder of a day, if it is empty; an object store has none."""
        if isinstance(self._files, LocalFileSystem):
            with suppress(OSError):
                Path(self._path(day)).rmdir()

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _list(self, folder: str) -> list[str]:
        path = self._path(folder)
        with _translated("list", path):
            self._files.invalidate_cache(path)
            try:
                found = self._files.ls(path, detail=False)
            except FileNotFoundError:
                return []
        return [str(each).rstrip("/").rpartition("/")[2] for each in found]


@contextmanager
def _translated(act: str, path: str) -> Iterator[None]:
    """Turns what a place raises into a StorageError: each kind of place has errors of its own."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        raise StorageError(f"cannot {act} {path}: {error}") from error
