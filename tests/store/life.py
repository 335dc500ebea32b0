"""``python -m tests.store.life URL INPUTS FIRST``: stores and keeps up until it is killed.

It prints the number of each message once it is stored.
"""

from __future__ import annotations

import itertools
import sys

import cloud.store.sealing
from tests.builders import record
from tests.store.desk import NOON_S, StoreDesk

RECORDS = 5


def main() -> None:
    url, inputs, first = sys.argv[1], sys.argv[2], int(sys.argv[3])
    cloud.store.sealing.SEAL_BYTES = 300
    desk = StoreDesk(url, inputs)
    for number in itertools.count(first):
        records = (record(number * RECORDS + place) for place in range(RECORDS))
        desk.send(*records, batch=f"batch-{number}", now_s=NOON_S)
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
        desk.store.upkeep(NOON_S)


if __name__ == "__main__":
    main()
