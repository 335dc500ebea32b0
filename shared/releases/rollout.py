"""Who takes part in a rollout: what the signed manifest says of it, and a node's decision. Pure.

A node's place is a number in [0, 1) that nothing but salt and name decide::

    place = first 8 bytes of SHA-256(DOMAIN + salt + NUL + "site/node"), big-endian, / 2**64

and it takes part where ``place < share``. So a share that grows takes nobody out again, every node
decides alone, and another salt draws other nodes first. This formula may never change: the cloud
counts the same nodes by it.
"""

from __future__ import annotations

import hashlib

from shared.messages import Public
from shared.topics import NAME

DOMAIN = b"escalon rollout v1\0"
MAX_NAMED_NODES = 256
PLACES = 2**64


class Rollout(Public, frozen=True):
    """Whom a release is offered to so far.

    Attributes:
        id: of the rollout; the manifests of all of its waves carry the same.
        salt: decides which nodes come first.
        share: of all nodes, 0 to 1.
        nodes: those that take part whatever the share, as ``site/node``.
    """

    id: str
    salt: str
    share: float
    nodes: tuple[str, ...] = ()

    def problems(self) -> list[str]:
        """Returns what is wrong with it, in words; nothing if it is sound."""
        checks = {
            f"the rollout's id {self.id[:80]!r} is not a name": bool(NAME.fullmatch(self.id)),
            f"the rollout's salt {self.salt[:80]!r} is not a name": bool(NAME.fullmatch(self.salt)),
            f"the rollout's share {self.share} is not within 0 to 1": 0 <= self.share <= 1,
            f"the rollout names {len(self.nodes)} nodes, {MAX_NAMED_NODES} are the most": (
                len(self.nodes) <= MAX_NAMED_NODES
            ),
        }
        wrong = [each for each in self.nodes[:MAX_NAMED_NODES] if not _is_node(each)]
        named = [f"the rollout names {each[:140]!r}, which is not site/node" for each in wrong[:1]]
        return [problem for problem, holds in checks.items() if not holds] + named


def qualified(site: str, node: str) -> str:
    """Returns a node's name across all sites."""
    return f"{site}/{node}"


def place(salt: str, site: str, node: str) -> int:
    """Returns where a node stands in a rollout's order, in units of 2**-64.

    Args:
        salt: the rollout's.
        site: the node's site.
        node: its name there.
    """
    text = f"{salt}\0{qualified(site, node)}".encode()
    return int.from_bytes(hashlib.sha256(DOMAIN + text).digest()[:8], "big")


def takes_part(rollout: Rollout, site: str, node: str) -> bool:
    """Whether a node takes part.

    Args:
        rollout: what the manifest says.
        site: the node's site.
        node: its name there.
    """
    # The share times a power of two is exact and so is the comparison: at 1 nobody is left out,
    # whereas the place divided by 2**64 could round up to 1.
    return qualified(site, node) in rollout.nodes or (
        place(rollout.salt, site, node) < rollout.share * PLACES
    )


def _is_node(text: str) -> bool:
    parts = text.split("/")
    return len(parts) == 2 and all(NAME.fullmatch(part) for part in parts)
