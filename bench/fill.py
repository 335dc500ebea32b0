"""``python -m bench.fill``: fills a store with millions of samples, and says what that does to it.

What it prints stands in docs/benchmarks.md: samples a second, memory, and how long it takes to
select and to read what a training needs, while the store grows.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from bench.machine import rss_mib
from bench.telemetry import FEATURES, LABELS, TelemetryFeed
from cloud.store import Arrived, TelemetryStore

MESSAGES = 16
"""In a transaction: what comes in one turn at this rate."""
SELECTED = 20_000
UPKEEP_EVERY = 20


def main() -> int:
    """Fills and measures; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.fill", description=__doc__)
    parser.add_argument("--samples", type=int, default=10_000_000, metavar="N")
    parser.add_argument("--every", type=int, default=1_000_000, metavar="N", help="say so often")
    parser.add_argument("--url", help="of the database (default: SQLite in a temporary folder)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="escalon-fill-") as folder:
        url = arguments.url or f"sqlite:///{folder}/telemetry.sqlite"
        store = TelemetryStore(url, f"{folder}/inputs", classes={"meter": LABELS})
        store.open()
        _fill(store, Path(folder), arguments.samples, arguments.every)
        store.close()
    return 0


def _fill(store: TelemetryStore, folder: Path, samples: int, every: int) -> None:
    feed = TelemetryFeed("hub")
    stored = said = turns = 0
    spent_s = busy_s = 0.0
    _say("samples    k/s  CPU µs   MiB RSS   MiB rows   MiB files   select ms   read ms   queue ms")
    while stored < samples:
        arrivals = [Arrived("plant", each) for each in feed.messages(MESSAGES)]
        began_s, began_busy_s = time.perf_counter(), time.process_time()
        stored += store.add(arrivals, time.time()).samples
        turns += 1
        if turns % UPKEEP_EVERY == 0:
            store.upkeep(time.time())
        spent_s += time.perf_counter() - began_s
        busy_s += time.process_time() - began_busy_s
        if stored - said >= every or stored >= samples:
            rate = (stored - said) / spent_s / 1000
            cpu_us = busy_s / (stored - said) * 1e6
            said, spent_s, busy_s = stored, 0.0, 0.0
            _say(f"{stored:9,}  {rate:5.1f}  {cpu_us:6.1f}  {_sizes(folder)}  {_reads(store)}")


def _sizes(folder: Path) -> str:
    rows = sum(path.stat().st_size for path in folder.glob("telemetry.sqlite*"))
    files = sum(path.stat().st_size for path in folder.glob("inputs/*/*"))
    return f"{rss_mib(os.getpid()):7.0f}   {rows / 2**20:8.0f}   {files / 2**20:9.0f}"


def _reads(store: TelemetryStore) -> str:
    began_s = time.perf_counter()
    found = store.traffic("meter", limit=SELECTED, audited_only=True, newest=True)
    selected_s = time.perf_counter()
    store.inputs(found.number, (FEATURES,))
    read_s = time.perf_counter()
    store.queue("meter", 50, time.time())
    asked_s = time.perf_counter()
    spans = (selected_s - began_s, read_s - selected_s, asked_s - read_s)
    return "   ".join(f"{1000 * span:7.0f}" for span in spans)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
