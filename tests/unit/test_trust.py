"""A trust document hands its own keys on, one version after the other, and to nobody else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ConfigError, EscalonError, ManifestError, SignatureError
from shared.releases.envelope import Role, seal
from shared.releases.keys import public_hex
from shared.releases.trust import (
    DOMAIN,
    MAX_TRUST_BYTES,
    Trust,
    found_trust,
    open_first,
    open_next,
    sign_trust,
)
from shared.releases.trust_store import TrustStore

Keys = Sequence[Ed25519PrivateKey]

A, B, C, D, RELEASE, NEW_RELEASE = (Ed25519PrivateKey.generate() for _ in range(6))
FIRST = found_trust([A, B, C], [RELEASE], 1000.0, root_threshold=2)
TRUST = open_first(FIRST)


def role(keys: Keys, threshold: int = 1) -> Role:
    return Role(keys=tuple(map(public_hex, keys)), threshold=threshold)


def following(trust: Trust = TRUST, **changes: Any) -> Trust:
    return msgspec.structs.replace(trust, **{"version": trust.version + 1, **changes})


# The first version


def test_a_fleet_is_founded_with_a_document_that_all_its_root_keys_have_signed() -> None:
    assert (TRUST.version, TRUST.key_epoch) == (1, 1)
    assert TRUST.root == role([A, B, C], 2)
    assert TRUST.releases == role([RELEASE])


def test_a_first_version_that_its_own_keys_have_not_signed_is_refused() -> None:
    with pytest.raises(SignatureError, match="signed by 0 of the 2"):
        open_first(sign_trust(TRUST, [D]))


@given(st.binary(max_size=200))
def test_any_bytes_are_no_trust_document(data: bytes) -> None:
    with pytest.raises((SignatureError, ManifestError)):
        open_first(data)


def test_a_document_that_is_too_large_is_refused_by_its_size() -> None:
    with pytest.raises(SignatureError, match="bytes"):
        open_first(FIRST + b" " * MAX_TRUST_BYTES)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        pytest.param({"version": 0}, "version is below 1", id="version"),
        pytest.param({"key_epoch": 0}, "key epoch is below 1", id="epoch"),
        pytest.param({"root": Role(keys=())}, "threshold of root", id="no-root-key"),
        pytest.param({"root": role([A], 2)}, "threshold of root", id="more-than-there-are"),
        pytest.param({"releases": role([A], 0)}, "threshold of releases", id="nobody-need-sign"),
        pytest.param({"releases": Role(keys=("ab",))}, "32 bytes in hex", id="short-key"),
        pytest.param({"root": role([A, A], 2)}, "stands twice in root", id="one-key-twice"),
        pytest.param({"schema_version": 2}, "newer than this node", id="newer-schema"),
    ],
)
def test_a_document_that_contradicts_itself_is_not_signed(
    changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ManifestError, match=problem):
        sign_trust(msgspec.structs.replace(TRUST, **changes), [A, B])


# The next version


@pytest.mark.parametrize("signers", [[A, B], [B, C], [A, B, C]])
def test_the_next_version_needs_a_threshold_of_the_root_keys(signers: Keys) -> None:
    after = following(releases=role([NEW_RELEASE]))
    assert open_next(sign_trust(after, signers), TRUST) == after


@pytest.mark.parametrize(
    ("signers", "problem"),
    [
        pytest.param([A], "signed by 1 of the 2", id="below-threshold"),
        pytest.param([A, A], "signed by 1 of the 2", id="one-key-twice"),
        pytest.param([A, D], "1 of the 2 .* not trusted here", id="one-of-a-stranger"),
        pytest.param([RELEASE], "signed by 0 of the 2", id="release-key"),
    ],
)
def test_a_next_version_with_too_few_signatures_is_refused(signers: Keys, problem: str) -> None:
    with pytest.raises(SignatureError, match=problem):
        open_next(sign_trust(following(), signers), TRUST)


def test_new_root_keys_need_a_threshold_of_the_old_and_of_the_new_ones() -> None:
    after = following(root=role([C, D], 2))
    assert open_next(sign_trust(after, [A, C, D]), TRUST) == after
    with pytest.raises(SignatureError, match="new root keys: signed by 1 of the 2"):
        open_next(sign_trust(after, [A, B, D]), TRUST)
    with pytest.raises(SignatureError, match="signed by 1 of the 2"):
        open_next(sign_trust(after, [C, D]), TRUST)


@pytest.mark.parametrize("version", [1, 3, 9])
def test_only_the_very_next_version_follows(version: int) -> None:
    with pytest.raises(ManifestError, match="does not follow version 1"):
        open_next(sign_trust(following(version=version), [A, B]), TRUST)


def test_a_key_epoch_never_goes_back() -> None:
    later = open_next(sign_trust(following(key_epoch=3), [A, B]), TRUST)
    with pytest.raises(ManifestError, match="key epoch 2 is older than 3"):
        open_next(sign_trust(following(later, key_epoch=2), [A, B]), later)


def test_a_signature_for_another_purpose_is_none_for_trust() -> None:
    body = msgspec.json.encode(following())
    with pytest.raises(SignatureError, match="wrong signature"):
        open_next(seal(b"escalon release manifest v2\0", body, [A, B]), TRUST)
    assert open_next(seal(DOMAIN, body, [A, B]), TRUST) == following()


# On the disk


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    path = tmp_path / "trust.signed"
    path.write_bytes(FIRST)
    return path


def opened(installed: Path) -> TrustStore:
    store = TrustStore(installed, installed.parent / "state")
    store.load()
    return store


def test_a_version_that_was_added_is_in_force_in_the_next_life(installed: Path) -> None:
    second = sign_trust(following(key_epoch=2), [A, B])
    assert opened(installed).add(second).key_epoch == 2
    again = opened(installed)
    assert again.current.version == 2
    assert again.envelopes == {1: FIRST, 2: second}


def test_a_version_that_is_refused_changes_nothing(installed: Path) -> None:
    store = opened(installed)
    with pytest.raises(SignatureError):
        store.add(sign_trust(following(), [A]))
    assert store.current == opened(installed).current == TRUST


def test_a_kept_version_that_the_disk_has_damaged_is_put_aside_and_can_come_again(
    installed: Path,
) -> None:
    second = sign_trust(following(), [A, B])
    opened(installed).add(second)
    path = installed.parent / "state" / "trust" / "2.trust"
    path.write_bytes(second[:-3])
    again = opened(installed)
    assert again.current == TRUST
    assert path.with_suffix(".broken").exists()
    assert again.add(second).version == 2


def test_a_file_that_was_replaced_by_a_later_one_is_in_force_and_older_ones_are_kept(
    installed: Path,
) -> None:
    opened(installed)
    second = sign_trust(following(), [A, B])
    installed.write_bytes(second)
    store = opened(installed)
    assert store.current.version == 2
    assert store.envelopes == {1: FIRST, 2: second}


@pytest.mark.parametrize("data", [b"", b"-----BEGIN PUBLIC KEY-----\n", FIRST[:-1]])
def test_an_installed_file_that_cannot_be_used_says_what_to_do(
    installed: Path, data: bytes
) -> None:
    installed.write_bytes(data)
    with pytest.raises(ConfigError, match=r"no trust file: .* Fix: take the one"):
        opened(installed)


def test_an_installed_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(EscalonError, match=r"gone\.signed"):
        TrustStore(tmp_path / "gone.signed", tmp_path).load()
