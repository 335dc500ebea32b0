"""Runs an order: a job folder in, a candidate folder out, whole or not at all.

A folder that holds the candidate of the same order already is left as it is, and what a run that
was killed had finished is taken over, so that an order may simply be run again.
"""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

import msgspec

from cloud.training.making import Making
from cloud.training.order import CANDIDATE, REPORT, Order, Report, read_order, read_report
from cloud.training.progress import ProgressLines
from shared.durable import disk_trouble, write_durably

WORK, REPLACED = "work", "replaced"
FINGERPRINT = "fingerprint"


def run(folder: Path, say: ProgressLines) -> Report:
    """Runs the order in a folder, one process at a time.

    The training of a cloud that was killed may still be at it: then this one waits, and finds its
    candidate.

    Args:
        folder: the job's folder.
        say: is told how far it is.

    Raises:
        StorageError: order or data cannot be read, or the disk takes no more.
        ConfigError: the trainer lacks what it rests on.
        ArtefactError: the trainer failed, or what it made cannot be used.
    """
    order, fingerprint = read_order(folder)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return _run_alone(order, fingerprint, folder, say)
        except OSError as error:
            raise disk_trouble("write", folder, error) from error


def _run_alone(order: Order, fingerprint: str, folder: Path, say: ProgressLines) -> Report:
    candidate, work, replaced = folder / CANDIDATE, folder / WORK, folder / REPLACED
    _clear(replaced)
    done = read_report(candidate)
    if done is not None and done.fingerprint == fingerprint:
        return done
    _begin(work, fingerprint)
    report = read_report(work)
    if report is None:
        report = Making(order, folder, work, say).report(fingerprint)
        write_durably(work / REPORT, msgspec.json.encode(report))
    # Between these renames there is no candidate; there is never half a one.
    if candidate.exists():
        candidate.rename(replaced)
    work.rename(candidate)
    _clear(replaced)
    return report


def _begin(work: Path, fingerprint: str) -> None:
    """Makes room, unless what stands there is of the same order: each file of it is whole."""
    mark = work / FINGERPRINT
    if mark.exists() and mark.read_text() == fingerprint:
        for unfinished in work.rglob("*.tmp"):
            unfinished.unlink()
        return
    _clear(work)
    write_durably(mark, fingerprint.encode())


def _clear(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
