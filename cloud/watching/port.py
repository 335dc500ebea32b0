"""What is asked of the telemetry store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cloud.watching.series import Counted, Recorded


class Store(Protocol):
    """The store, as far as it is watched. Numbers grow, over all that it holds."""

    def counts_after(self, pipeline: str, number: int, limit: int) -> Sequence[Counted]:
        """Returns gate counts behind a number, oldest first."""

    def traffic(
        self,
        pipeline: str,
        *,
        after: int,
        limit: int,
        tier1_version: str | None,
        audited_only: bool,
    ) -> Recorded:
        """Returns samples behind a number, oldest first."""

    def newest(self) -> int:
        """Returns the newest number."""

    def samples_after(self, pipeline: str, number: int, enough: int) -> int:
        """Returns how many samples came behind a number, ``enough`` at most."""

    def audits_after(
        self, pipeline: str, number: int, enough: int, tier2_version: str | None
    ) -> int:
        """Returns how many audited samples with inputs came behind a number."""
