"""``escalon keys``."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from escalon.keys.ceremony import handed_over, release_key, revoked, rotated, signed
from escalon.keys.folder import KeyFolder, NewKey
from escalon.output import as_json
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
            trust = _init(folder, arguments.root, arguments.threshold or 1)
        case "rotate" if arguments.root is not None:
            trust = _hand_over(folder, arguments)
        case "rotate" if arguments.threshold is not None:
            arguments.refuse("--threshold is of new root keys: give --root N as well")
        case "rotate":
            trust = _rotate(folder, arguments.root_key)
        case "revoke":
            trust = _revoke(folder, arguments.key, arguments.root_key)
        case _:
            trust = folder.trust()
    return as_json(trust) if arguments.json else _in_words(trust, folder)


def _init(folder: KeyFolder, count: int, threshold: int) -> Trust:
    folder.refuse_if_used()
    root = [NewKey.make(f"root-{number}.key") for number in range(1, count + 1)]
    release = NewKey.make("release-v1.key")
    envelope = found_trust([each.key for each in root], [release.key], time.time(), threshold)
    trust = open_first(envelope)
    folder.publish(trust.version, envelope, [*root, release])
    folder.install_release_key(release.name)
    return trust


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
    release = NewKey.make(f"release-v{trust.version + 1}.key")
    step = signed(rotated(trust, release.key, time.time()), root, trust)
    folder.publish(step.trust.version, step.envelope, [release])
    folder.install_release_key(release.name)
    return step.trust


def _revoke(folder: KeyFolder, identity: str, others: list[Path]) -> Trust:
    trust = folder.trust()
    root = folder.root_keys(trust, others)
    stolen = release_key(trust, identity)
    release = NewKey.make(f"release-v{trust.version + 1}.key")
    step = signed(revoked(trust, stolen, release.key, time.time()), root, trust)
    folder.publish(step.trust.version, step.envelope, [release])
    folder.install_release_key(release.name)
    return step.trust


def _hand_over(folder: KeyFolder, arguments: argparse.Namespace) -> Trust:
    trust = folder.trust()
    old = folder.root_keys(trust, arguments.root_key)[: trust.root.threshold]
    names = [f"root-v{trust.version + 1}-{each}.key" for each in range(1, arguments.root + 1)]
    new = [NewKey.make(name) for name in names]
    root = [each.key for each in new]
    after = handed_over(trust, root, arguments.threshold or 1, time.time())
    step = signed(after, [*old, *root], trust)
    folder.publish(step.trust.version, step.envelope, new)
    return step.trust
