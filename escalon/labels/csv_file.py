"""Labels in a CSV file: read line by line, checked before any is taken."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from cloud.store import KeptLabel, Queued, SiteLabel
from shared.errors import EscalonError, PayloadError
from shared.labels import make_label
from shared.messages import Label
from shared.topics import NAME

NEEDED = ("sensor", "id", "label")
COLUMNS = ("site", *NEEDED, "by", "timestamp")
SHOWN = 20

Check = Callable[[str], None]


@dataclass(frozen=True)
class LabelFile:
    """A file of labels.

    Attributes:
        path: the file.
        pipeline: whose samples they are about.
        site: of all samples, where the file does not say.
        by: who says so, where the file does not say.
        now_s: when, where the file does not say, seconds since 1970.
    """

    path: Path
    pipeline: str
    site: str | None
    by: str
    now_s: float

    def check(self, check: Check) -> None:
        """Reads all of it.

        Args:
            check: raises PayloadError for a class that is none.

        Raises:
            EscalonError: everything that is wrong with it, the first lines of it at least.
        """
        problems: list[str] = []
        count = 0
        for line, found in self._read(check):
            if isinstance(found, PayloadError):
                count += 1
                if len(problems) < SHOWN:
                    problems.append(f"{self.path}:{line}: {found}")
        if count > SHOWN:
            problems.append(f"and {count - SHOWN} lines more")
        if problems:
            raise EscalonError("\n".join([*problems, "nothing was imported"]))

    def labels(self) -> Iterator[SiteLabel]:
        """Yields the labels of a file that is right; a line without a label is passed over.

        Raises:
            EscalonError: it cannot be read any more.
        """
        for _, found in self._read(lambda label: None):
            if isinstance(found, SiteLabel):
                yield found

    def _read(self, check: Check) -> Iterator[tuple[int, SiteLabel | PayloadError]]:
        try:
            with self.path.open(newline="", encoding="utf-8-sig") as file:
                rows = csv.DictReader(file)
                self._check_columns(rows.fieldnames or ())
                for row in rows:
                    if not (row.get("label") or "").strip():
                        continue
                    yield rows.line_num, self._label(row, check)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise EscalonError(f"cannot read {self.path}: {reason}") from error

    def _check_columns(self, names: Iterable[str]) -> None:
        columns = list(names)
        missing = [name for name in NEEDED if name not in columns]
        if self.site is None and "site" not in columns:
            missing.insert(0, "site")
        unknown = [name for name in columns if name not in COLUMNS]
        if missing or unknown:
            what = f"has no column {missing[0]}" if missing else f"has a column {unknown[0]!r}"
            remedy = ", or give --site" if missing[:1] == ["site"] else ""
            raise EscalonError(
                f"{self.path} {what}. Fix: the first line names {', '.join(COLUMNS)}; the last two "
                f"may be left out{remedy}"
            )

    def _label(self, row: dict[str, str | None], check: Check) -> SiteLabel | PayloadError:
        text = {name: (row.get(name) or "").strip() for name in COLUMNS}
        site = text["site"] or self.site or ""
        try:
            for what, name in (("site", site), ("sensor", text["sensor"])):
                if not NAME.fullmatch(name):
                    raise PayloadError("bad_label", f"{what} {name!r} is no name")
            check(text["label"])
            label = Label(
                id=text["id"],
                label=text["label"],
                by=text["by"] or self.by,
                timestamp=_timestamp(text["timestamp"]),
            )
            return SiteLabel(site, make_label(label, self.pipeline, text["sensor"], self.now_s))
        except PayloadError as error:
            return error


def write_queue(queue: Iterable[Queued], output: TextIO) -> None:
    """Writes the samples of a queue as a file of labels that is to be filled in."""
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(("site", *NEEDED))
    writer.writerows((each.site, each.sensor, each.id, "") for each in queue)


def write_labels(labels: Iterable[KeptLabel], output: TextIO) -> None:
    """Writes labels as a file that can be imported."""
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(
        (each.site, each.sensor, each.id, each.label, each.by, repr(each.labelled_s))
        for each in labels
    )


def _timestamp(text: str) -> float | str | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        return text
