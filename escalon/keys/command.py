"""``escalon keys``."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import msgspec

from escalon.keys.ceremony import handed_over, release_key, revoked, rotated
from escalon.keys.folder import KeyFolder
from shared.releases.keys import key_id_of
from shared.releases.trust import Trust, found_trust, open_first


def run_keys(arguments: argparse.Namespace) -> str:
    """Runs ``escalon keys``; returns what to print.

    Raises:
        EscalonError: a key or document is missing, damaged or not enough.
    """
    folder = KeyFolder(arguments.folder)
    match arguments.keys_command:
        case "init":
            trust = _init(folder, arguments.root, arguments.threshold)
        case "rotate" if arguments.root is not None:
            trust = _hand_over(folder, arguments)
        case "rotate":
            trust = _rotate(folder, arguments.root_key)
        case "revoke":
            trust = _revoke(folder, arguments.key, arguments.root_key)
        case _:
            trust = folder.trust()
    return _as_json(trust) if arguments.json else _in_words(trust, folder)


def _init(folder: KeyFolder, count: int, threshold: int) -> Trust:
    folder.refuse_if_used()
    root = [folder.new_key(f"root-{number}.key") for number in range(1, count + 1)]
    release = folder.new_key("release-v1.key")
    trust = open_first(found_trust(root, [release], time.time(), threshold))
    folder.publish(trust, root)
    folder.install_release_key("release-v1.key")
    return trust


def _as_json(trust: Trust) -> str:
    return msgspec.json.format(msgspec.json.encode(trust)).decode()


def _in_words(trust: Trust, folder: KeyFolder) -> str:
    root = ", ".join(map(key_id_of, trust.root.keys))
    releases = ", ".join(map(key_id_of, trust.releases.keys))
    return (
        f"trust version {trust.version}, key epoch {trust.key_epoch}\n"
        f"  root keys     {root}   ({trust.root.threshold} must sign the next version)\n"
        f"  release keys  {releases}   ({trust.releases.threshold} must sign a release)\n"
        f"  {folder.trust_path}   give it to the cloud (trust:) and to new nodes\n"
        f"  {folder.release_key_path}   give it to the cloud (signing_key:)\n"
        "  root*.key   keep them offline: with them the next version is signed"
    )


def _rotate(folder: KeyFolder, others: list[Path]) -> Trust:
    trust = folder.trust()
    root = folder.root_keys(trust, others)
    name = f"release-v{trust.version + 1}.key"
    after = rotated(trust, folder.new_key(name), time.time())
    folder.publish(after, root)
    folder.install_release_key(name)
    return after


def _revoke(folder: KeyFolder, identity: str, others: list[Path]) -> Trust:
    trust = folder.trust()
    root = folder.root_keys(trust, others)
    stolen = release_key(trust, identity)
    name = f"release-v{trust.version + 1}.key"
    after = revoked(trust, stolen, folder.new_key(name), time.time())
    folder.publish(after, root)
    folder.install_release_key(name)
    return after


def _hand_over(folder: KeyFolder, arguments: argparse.Namespace) -> Trust:
    trust = folder.trust()
    old = folder.root_keys(trust, arguments.root_key)
    number = trust.version + 1
    new = [folder.new_key(f"root-v{number}-{each + 1}.key") for each in range(arguments.root)]
    after = handed_over(trust, new, arguments.threshold, time.time())
    folder.publish(after, [*old[: trust.root.threshold], *new])
    return after
