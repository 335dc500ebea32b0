"""Lives of a gateway that hands a release down, and how it dies at anything that it changes."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections import Counter
from collections.abc import Mapping
from functools import cache
from itertools import count
from pathlib import Path

import msgspec

from shared.releases.manifest import Manifest, read_manifest, sign_manifest
from shared.releases.packing import describe
from shared.releases.record import ChannelFile
from shared.releases.trust import found_trust, open_first, sign_trust
from shared.releases.window import ASK_AGAIN_S
from tests.builders import CHANNEL
from tests.fakes import FakeBroker, FakeLink
from tests.gateway import DOWN, UP, Gateway, retain_files
from tests.update_lives.life import CHANGES, KEY, Outcome, die_at_change, forked
from tests.update_station import model_of, release

FIRST, BEFORE, COMES = 1, 2, 7
"""Seqs: of the release that goes, of the one before, and of the one that comes."""

PACKED_CHUNK_BYTES = 2**14
WAITS = 4
TRUST = found_trust([KEY], [KEY], 1000.0)
NEXT_TRUST = sign_trust(msgspec.structs.replace(open_first(TRUST), version=2), [KEY])
SITE = ".site"
"""Of a gateway's folder: the file beside it, with what the site's broker keeps."""


@cache
def files_of(seq: int) -> tuple[bytes, bytes]:
    """Returns the files of a release: one that travels as it is, and one that is packed."""
    digits = random.Random(seq).randbytes(2**16 + 100)
    return model_of(seq), bytes(each & 0x3F for each in digits)


@cache
def described(seq: int) -> Manifest:
    """Returns the release of both."""
    whole = release(seq)
    (plain,) = whole.release.variants
    artefact = describe(files_of(seq)[1], PACKED_CHUNK_BYTES, "int8")
    packed = msgspec.structs.replace(plain, artefact=artefact)
    of_both = msgspec.structs.replace(whole.release, variants=(plain, packed))
    return msgspec.structs.replace(whole, release=of_both)


@cache
def chunk_topics(seq: int) -> dict[str, str]:
    """Returns where the site's broker keeps a release's chunks, and the digest of each."""
    return {
        DOWN.blob(artefact.sha256, index): digest
        for artefact in described(seq).release.artefacts
        for index, digest in enumerate(artefact.chunks)
    }


def publish(cloud: FakeBroker, seq: int) -> None:
    """Publishes a release in the cloud."""
    retain_files(cloud, UP, described(seq), *files_of(seq))
    cloud.publish(UP.releases(CHANNEL), sign_manifest(described(seq), [KEY]), retain=True)


def begin_gateway(folder: Path) -> None:
    """Makes the folder of a gateway that has handed two releases down."""
    folder.mkdir()
    (folder / "trust.signed").write_bytes(TRUST)

    def hand_down() -> Outcome:
        cloud, site = FakeBroker(), FakeBroker()
        gateway = Gateway(folder, cloud, site)
        gateway.start()
        for seq in (FIRST, BEFORE):
            publish(cloud, seq)
            gateway.run()
        keep(folder, site)
        return {}

    status, _ = forked(hand_down)
    assert status == 0, f"{folder.name} could not be made"


def relaying(folder: Path, number: int) -> Outcome:
    """Dies at the nth change, of the disk or of the site's broker, while a release comes."""
    begins = folder.parents[1] / "begins-gateway"
    shutil.copytree(begins, folder)
    shutil.copy(begins.with_suffix(SITE), folder.with_suffix(SITE))

    def dying() -> Outcome:
        site, changes = FakeBroker(retained=kept(folder)), count(1)

        def here() -> bool:
            if next(changes) == number:
                keep(folder, site)  # it dies now
            return True

        die_at_change(number, here, (*CHANGES, (FakeLink, "publish")))
        outcome = hand_on(folder, site)
        keep(folder, site)
        return outcome

    status, _ = forked(dying)
    death = on_site(kept(folder))
    again, outcome = forked(lambda: hand_on(folder, FakeBroker(retained=kept(folder))))
    return {
        "case": f"relaying-{number}", "killed": bool(status), "status": again, "death": death,
        **outcome,
    }  # fmt: skip


def hand_on(folder: Path, site: FakeBroker) -> Outcome:
    """Lives until nothing goes on any more; returns what is to be known of it."""
    cloud = FakeBroker()
    cloud.publish(UP.trust(2), NEXT_TRUST, retain=True)
    publish(cloud, COMES)
    gateway = Gateway(folder, cloud, site)
    gateway.start()
    for _ in range(WAITS):  # what the site's broker does not have is waited for
        gateway.run()
        gateway.now_s += ASK_AGAIN_S
    manifests = site.payloads(DOWN.releases(CHANNEL))
    record = ChannelFile(folder / "relay" / f"{CHANNEL}.record").read()
    return {
        **on_site(site.retained),
        "sent": Counter(topic for topic, size in gateway.down.sent if size),
        "manifests": [read_manifest(each).seq for each in manifests],
        "seq": record.seq,
        "standing": [read_manifest(each.envelope).seq for each in record.standing],
        "files": sorted(names(folder / "relay")),
        "trust": sorted(names(folder / "trust")),
    }


def names(folder: Path) -> list[str]:
    """Returns the files of a folder; those that bear their digest must have it."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        if path.parent.name == "blobs":
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    return [str(path.relative_to(folder)) for path in files]


def on_site(retained: Mapping[str, bytes]) -> Outcome:
    """Returns what a site's nodes find at their broker: a release, and what is missing of it."""
    seq = read_manifest(retained[DOWN.releases(CHANNEL)]).seq
    missing = [
        topic
        for topic, digest in chunk_topics(seq).items()
        if hashlib.sha256(retained.get(topic, b"")).hexdigest() != digest
    ]
    return {"retained_seq": seq, "missing": missing, "topics": sorted(retained)}


def keep(folder: Path, site: FakeBroker) -> None:
    """Writes down what the site's broker keeps: it outlives the gateway."""
    held = {topic: payload.hex() for topic, payload in site.retained.items()}
    folder.with_suffix(SITE).write_text(json.dumps(held))


def kept(folder: Path) -> dict[str, bytes]:
    """Returns it."""
    held = json.loads(folder.with_suffix(SITE).read_text())
    return {topic: bytes.fromhex(payload) for topic, payload in held.items()}
