"""Loads what a release brought, as its manifest and the pipeline say."""

from __future__ import annotations

from pathlib import Path

from shared.config import PipelineConfig
from shared.errors import ArtefactError
from shared.model import Model
from shared.releases.manifest import Manifest


def load_release(
    path: Path, manifest: Manifest, pipeline: PipelineConfig, threads: int | None = None
) -> Model:
    """Loads a file of a release.

    Args:
        path: the file; its name is its digest.
        manifest: what it is.
        pipeline: what it must fit.
        threads: that it may run; None for all that are worth having.

    Raises:
        ArtefactError: it does not load or does not fit, or there is no memory for it.
    """
    size = pipeline.batching.max_batch_size
    try:
        return Model.load(path, manifest.model_spec(path.name), pipeline.layout, size, threads)
    except MemoryError as error:
        raise ArtefactError(
            f"there is no memory for {path.name} beside the model that serves"
        ) from error
