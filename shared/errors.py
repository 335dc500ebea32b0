"""The one tree of errors, split by who is at fault.

::

    EscalonError
    ├── ConfigError        our configuration: a list of issues with file, line, key and fix
    ├── PayloadError       the peer: bytes that are not what the topic promises
    ├── ArtefactError      a model or a release that must not serve
    │   ├── SignatureError     not signed by a key that we trust
    │   ├── ManifestError      signed, but stale, expired or not for this channel
    │   │   └── NewerSchemaError  whole, but a newer Escalon has written it
    │   ├── DigestError        bytes that are not the ones that were signed
    │   └── SmokeError         loads wrongly, answers wrongly, or not at all
    └── StorageError       the disk: what should be there is not, or cannot be written
"""

from __future__ import annotations


class EscalonError(Exception):
    """Root of everything that Escalon raises on purpose."""


class ConfigError(EscalonError):
    """A configuration that cannot be used."""


class PayloadError(EscalonError):
    """A payload that is not what its topic promises.

    Attributes:
        reason: one word for the counter of drops, for example ``not_json``.
        expected: what would have been accepted, for the sender to read.
    """

    def __init__(self, reason: str, message: str, expected: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.expected = expected


class ArtefactError(EscalonError):
    """A model or a release that must not serve."""


class SignatureError(ArtefactError):
    """Not signed by a key that we trust."""


class ManifestError(ArtefactError):
    """Rightly signed, but stale, expired, or not for this channel."""


class NewerSchemaError(ManifestError):
    """Whole, but written by a newer Escalon, so that this one cannot know what it means."""


class DigestError(ArtefactError):
    """Bytes that are not the ones that were signed."""


class SmokeError(ArtefactError):
    """A model that loads wrongly, answers wrongly, or does not answer."""


class StorageError(EscalonError):
    """The disk does not hold what it should, or cannot be written."""
