"""All channels of a cloud, as its node and the command line open them."""

from __future__ import annotations

from cloud.channel import Channel
from cloud.config import CloudConfig
from cloud.registry import Registry


def open_registry(config: CloudConfig) -> Registry:
    """Returns the registry in a cloud's folder."""
    return Registry(config.state_dir / "registry")


def open_channels(config: CloudConfig, registry: Registry) -> dict[str, Channel]:
    """Returns the channels of all pipelines, by name: tier-2's before tier-1's.

    Args:
        config: the cloud.
        registry: its versions and manifests.
    """
    folder = config.state_dir / "rollouts"
    return {
        name: Channel(name, pipeline.rollout, folder, registry)
        for pipeline in config.pipelines.values()
        for name in (pipeline.tier2_channel, pipeline.tier1_channel)
    }
