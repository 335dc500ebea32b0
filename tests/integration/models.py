"""Tiny ONNX models whose answers are known, and releases of them, signed as the cloud signs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from onnx import TensorProto, helper, numpy_helper

from cloud.registry import Registry
from cloud.version import Version
from shared.messages import Tensor
from shared.model_spec import Calibration
from shared.releases.artefact import Artefact
from shared.releases.blobs import describe
from shared.releases.keys import load_private_key, new_key_pem
from shared.releases.manifest import Manifest, sign_manifest
from shared.releases.release import Release, Variant
from shared.releases.rollout import Rollout
from shared.releases.trust import found_trust
from shared.scores import Floats

LABELS = ("north", "east", "south")
SHAPE = (4,)
THRESHOLD = 0.8
CHUNK_BYTES = 128  # small, so that a tiny model still travels in several chunks
GOLDEN_INPUTS = np.array([[9, 0, 0, 0], [0, 5, 1, 0], [1, 1, 2, 0]], np.float32)

# What each model answers where input 0, 1 or 2 is the largest: LABELS, turned by so many places.
TIER1_TURN = 0
TIER2_TURN = 1
NEW_TURN = 2


def sure(direction: int) -> list[float]:
    """Features that every model is sure of."""
    return [9.0 if index == direction else 0.0 for index in range(3)] + [0.0]


def unsure(direction: int) -> list[float]:
    """Features that no model is sure of."""
    return [1.2 if index == direction else 1.0 for index in range(3)] + [0.0]


NAN_MAKING = [9.0, 0.0, 0.0, -2.0]
"""A valid sample whose logits are NaN in a model with ``fragile``."""


def label(direction: int, turn: int) -> str:
    """What a model answers."""
    return LABELS[(direction + turn) % 3]


def weights(turn: int) -> Floats:
    """float32 [4, 3]: logit (direction + turn) is feature (direction)."""
    matrix = np.zeros((4, 3), np.float32)
    for direction in range(3):
        matrix[direction, (direction + turn) % 3] = 1.0
    return matrix


def model_bytes(turn: int, *, fragile: bool = True, name: str = "tiny") -> bytes:
    """An ONNX model: logits = features @ weights, NaN where feature 3 is below -1 if ``fragile``.

    Args:
        turn: which label stands for which direction.
        fragile: whether feature 3 can make NaN.
        name: of the graph; another name is another digest.
    """
    last = np.array([[0], [0], [0], [1]], np.float32)
    nodes = [
        helper.make_node("MatMul", ["features", "w"], ["turned"]),
        helper.make_node("MatMul", ["features", "v"], ["last"]),
        helper.make_node("Add", ["last", "one"], ["risen"]),
        helper.make_node("Log" if fragile else "Abs", ["risen"], ["maybe"]),
        helper.make_node("Add", ["turned", "maybe"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        [
            numpy_helper.from_array(weights(turn), "w"),
            numpy_helper.from_array(last, "v"),
            numpy_helper.from_array(np.ones(1, np.float32), "one"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@dataclass(frozen=True)
class SignedRelease:
    """What goes out: the signed manifest, and the artefact."""

    envelope: bytes
    manifest: Manifest
    artefact: bytes

    @property
    def version(self) -> str:
        """Name of the model's version."""
        return self.manifest.release.version

    @property
    def file(self) -> Artefact:
        """What the manifest says of the artefact."""
        return self.manifest.release.artefacts[0]

    def register(self, registry: Registry) -> None:
        """Puts it into the registry of a cloud, as if it had been made there."""
        manifest = self.manifest
        made = Version(
            channel=manifest.channel, release=manifest.release, made=manifest.issued, by="test"
        )
        registry.add_version(made, [self.artefact])
        registry.add_manifest(self.envelope)


class ReleaseKey:
    """Signs releases.

    Attributes:
        private_pem: for the cloud's ``signing_key``.
        trust_file: for the nodes' ``trust``; the same key may sign its next version.
    """

    def __init__(self) -> None:
        self.private_pem = new_key_pem()
        self.trust_file = found_trust([self.private], [self.private], time.time())

    @property
    def private(self) -> Ed25519PrivateKey:
        """The key itself."""
        return load_private_key(self.private_pem)

    def release(
        self,
        channel: str,
        seq: int,
        turn: int,
        *,
        artefact: bytes | None = None,
        of_variant: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> SignedRelease:
        """Makes a release.

        Args:
            channel: the channel.
            seq: its number; the version is ``v{seq}``.
            turn: which answers the model gives, and its golden scores.
            artefact: other bytes than the right model's.
            of_variant: fields of its variant to set otherwise.
            changes: fields of the manifest or of its release to set otherwise.
        """
        data = artefact or model_bytes(turn, name=f"{channel}-{seq}")
        now = time.time()
        variant = Variant(
            artefact=describe(data, CHUNK_BYTES, "fp32"),
            calibration=Calibration(1.0, THRESHOLD),
            scores=Tensor.of(GOLDEN_INPUTS @ weights(turn)),
            tolerance=1e-3,
        )
        release = Release(
            pipeline="meter",
            version=f"v{seq}",
            labels=LABELS,
            input_shape=SHAPE,
            scores="logits",
            golden=Tensor.of(GOLDEN_INPUTS),
            variants=(msgspec.structs.replace(variant, **(of_variant or {})),),
        )
        of_release = {name: changes.pop(name) for name in RELEASE_FIELDS & changes.keys()}
        manifest = Manifest(
            channel=channel,
            key_epoch=1,
            seq=seq,
            issued=now,
            expires=now + 3600,
            state="active",
            release=msgspec.structs.replace(release, **of_release),
            rollout=Rollout(id=f"{channel}-{seq}", salt="salt", share=1.0),
        )
        manifest = msgspec.structs.replace(manifest, **changes)
        return SignedRelease(sign_manifest(manifest, [self.private]), manifest, data)


RELEASE_FIELDS = set(Release.__struct_fields__)
