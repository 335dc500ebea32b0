"""``python -m tests.store.growth URL INPUTS``: stores much, and says how much memory that took.

It prints resident MiB after a first part, and after four times as much again.
"""

from __future__ import annotations

import os
import sys

from bench.machine import rss_mib
from bench.telemetry import LABELS, TelemetryFeed
from cloud.store import Arrived, TelemetryStore

FIRST = 100
"""Messages, of 256 records: SQLite's cache is full by then."""


def main() -> None:
    store = TelemetryStore(sys.argv[1], sys.argv[2], classes={"meter": LABELS})
    store.open()
    feed = TelemetryFeed("hub")
    for part in (FIRST, 4 * FIRST):
        for _ in range(part // 4):
            store.add([Arrived("plant", each) for each in feed.messages(4)], 1_764_072_000.0)
        store.upkeep(1_764_072_000.0)
        store.traffic("meter", limit=1000, newest=True)
        sys.stdout.write(f"{rss_mib(os.getpid())}\n")


if __name__ == "__main__":
    main()
