"""What a cloud can do with what its sites let out. Pure."""

from __future__ import annotations

from cloud.store import InputShares


def abilities(shares: InputShares) -> str:
    """Returns in words what cannot be done without the inputs that stay on their sites.

    Args:
        shares: how many of the newest samples came with their inputs.

    Returns:
        Empty if all inputs come.
    """
    withheld = shares.hard_withheld + shares.audits_withheld
    if not withheld:
        return ""
    if not shares.hard + shares.audits:
        return (
            "inputs stay on their sites (uplink.inputs: none): what runs is certified, estimated "
            "and watched by its scores and people's labels; nothing can be retrained"
        )
    if shares.audits_withheld and not shares.audits:
        return (
            "audited inputs stay on their sites (uplink.inputs: hard): what runs is certified by "
            "its scores; of a retrained model no threshold can be certified"
        )
    share = withheld / (withheld + shares.hard + shares.audits)
    return (
        f"{share:.0%} of the newest inputs stay on their sites (uplink.inputs): what is retrained "
        "is trained on the others alone, and certified on the nodes whose inputs all come"
    )
