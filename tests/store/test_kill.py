"""kill -9 at any moment: what was confirmed is stored, and no row names a missing file."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from cloud.store.sealing import ORPHAN_AGE_S
from tests.builders import record
from tests.store.desk import NOON_S, StoreDesk
from tests.store.life import RECORDS

ROUNDS = 5


def killed_after(url: str, inputs: str, first: int, messages: int) -> int:
    """Lets a life store so many messages, kills it; returns the number of the last one it said."""
    command = [sys.executable, "-m", "tests.store.life", url, inputs, str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as life:
        assert life.stdout is not None
        said = first - 1
        for _ in range(messages):
            said = int(life.stdout.readline())
        life.kill()
        rest = life.stdout.read().split()
    return max([said, *map(int, rest)])


def test_a_killed_process_loses_nothing_and_doubles_nothing(url: str, tmp_path: Path) -> None:
    inputs = str(tmp_path / "inputs")
    rng = random.Random(7)
    first = 0
    for _ in range(ROUNDS):
        last = killed_after(url, inputs, first, rng.randint(1, 40))
        desk = StoreDesk(url, inputs)
        stored = desk.inputs()  # of each, though a file may be half written
        assert len(stored) == len(set(stored))
        assert set(stored) >= set(map(float, range((last + 1) * RECORDS)))
        assert len(stored) <= (last + 2) * RECORDS  # one may be stored and not said
        repeated = desk.send(batch=f"batch-{last}")
        assert repeated.repeated == 1
        desk.close()
        first = last + 2
        desk = StoreDesk(url, inputs)
        # The site sends again what was not confirmed.
        again = [record((last + 1) * RECORDS + place) for place in range(RECORDS)]
        desk.send(*again, batch=f"batch-{last + 1}")
        desk.close()
    desk = StoreDesk(url, inputs)
    while desk.store.upkeep(NOON_S + 2 * ORPHAN_AGE_S):
        pass
    named = {
        name for (name,) in desk.rows("SELECT DISTINCT file FROM packs WHERE file IS NOT NULL")
    }
    there = {str(path.relative_to(inputs)) for path in Path(inputs).glob("*/*")}
    assert there == named
    assert sorted(desk.inputs()) == list(map(float, range(first * RECORDS)))
    desk.close()
