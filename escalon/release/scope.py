"""What a command of ``escalon release`` speaks of: a cloud, and one or all of its channels."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from cloud.channel import Channel
from cloud.channels import open_channels, open_registry
from cloud.config import CloudConfig, CloudPipelineConfig
from cloud.fleet_file import FleetFile
from cloud.fleet_view import FleetSnapshot, fleet_of
from cloud.notice import NoticeFile
from cloud.registry import Registry
from cloud.rollout.fleet import Fleet
from cloud.version import Version
from escalon.cloud_file import read_cloud
from escalon.release.cloud_signs import CloudSigns
from escalon.usage import UsageError
from shared.errors import StorageError
from shared.topics import NAME


@dataclass(frozen=True)
class Scope:
    """A cloud and the channels that are meant.

    Attributes:
        config: the cloud.
        channel: the one that is named; None for all.
    """

    config: CloudConfig
    channel: str | None

    @classmethod
    def of(cls, arguments: argparse.Namespace, environment: Mapping[str, str]) -> Scope:
        """Reads the cloud's YAML and which channel is meant.

        Raises:
            UsageError: no cloud is named, or no channel is called so.
            ConfigFileError: everything that is wrong with the YAML.
        """
        config = read_cloud(arguments.config, environment)
        channel = _channel(arguments.channel, arguments.pipeline, arguments.tier, config)
        return cls(config, channel)

    @cached_property
    def registry(self) -> Registry:
        """The cloud's versions and manifests."""
        return open_registry(self.config)

    @cached_property
    def channels(self) -> dict[str, Channel]:
        """The channels that are meant, by name."""
        found = open_channels(self.config, self.registry)
        return {name: each for name, each in found.items() if self.channel in (None, name)}

    @property
    def only(self) -> Channel:
        """The one channel that is meant.

        Raises:
            UsageError: it might be several.
        """
        if len(self.channels) > 1:
            raise UsageError(f"which channel? Fix: --channel with one of {_list(self.channels)}")
        return next(iter(self.channels.values()))

    def pipeline(self, channel: str) -> tuple[str, CloudPipelineConfig, int]:
        """Returns the pipeline of a channel: its name, what it is, and the tier of the channel."""
        return next(
            (name, config, tier)
            for name, config in self.config.pipelines.items()
            for tier, each in ((1, config.tier1_channel), (2, config.tier2_channel))
            if each == channel
        )

    def snapshot(self) -> FleetSnapshot:
        """Returns the fleet as the cloud node knew it last; an empty one if it never did.

        Raises:
            StorageError: the disk does not give it.
        """
        found = FleetFile.of(self.config.state_dir).read()
        return found or FleetSnapshot(taken=0.0, nodes=())

    def signs(self) -> CloudSigns:
        """Returns what is known of the cloud node; what cannot be read is left out."""
        notice, taken = NoticeFile(self.config.state_dir), 0.0
        with contextlib.suppress(StorageError):
            taken = self.snapshot().taken
        return CloudSigns(notice.is_running, taken, notice.read())

    def fleet(self, channel: str) -> Fleet:
        """Returns the nodes of a channel; raises as ``snapshot`` does."""
        return fleet_of(self.snapshot().nodes, channel)

    def named(self, text: str) -> tuple[Channel, str]:
        """Returns the channel and the version that ``VERSION`` or ``CHANNEL/VERSION`` names.

        Raises:
            UsageError: it might be several, or there is none.
        """
        head, slash, name = text.rpartition("/")
        if slash and self.channel not in (None, head):
            raise UsageError(f"{text} is not of channel {self.channel}")
        places = [each for each in self.channels.values() if not slash or each.name == head]
        found = [each for each in places if NAME.fullmatch(name) and self._has(each, name)]
        if len(found) != 1:
            where = _list([each.name for each in found or self.channels.values()])
            raise UsageError(
                f"there is no version {text} in {where}; see `escalon release list`"
                if not found
                else f"which {text}? Fix: write CHANNEL/{name} with one of {where}"
            )
        return found[0], name

    def version(self, text: str) -> Version:
        """Returns a version; raises as ``named`` does."""
        channel, name = self.named(text)
        version = self.registry.version(channel.name, name)
        if version is None:
            raise UsageError(f"version {text} is damaged")
        return version

    def _has(self, channel: Channel, name: str) -> bool:
        return self.registry.version(channel.name, name) is not None


def _channel(
    channel: str | None, pipeline: str | None, tier: int | None, config: CloudConfig
) -> str | None:
    """Returns the channel that the options name; None for all."""
    known = open_channels(config, open_registry(config))
    if channel is not None:
        if channel not in known:
            raise UsageError(f"there is no channel {channel}; known are {_list(known)}")
        return channel
    if pipeline is None and tier is None:
        return None
    if pipeline is None and len(config.pipelines) == 1:
        pipeline = next(iter(config.pipelines))
    if pipeline not in config.pipelines or tier is None:
        raise UsageError(
            "--pipeline and --tier name a channel together; pipelines are "
            f"{_list(config.pipelines)}"
        )
    of = config.pipelines[pipeline]
    return of.tier1_channel if tier == 1 else of.tier2_channel


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
