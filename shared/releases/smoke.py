"""Proves a model in a child process before it comes near the one that serves.

The child (``python -m shared.releases.smoke``) loads the model with limits on its time and memory
and answers the golden inputs on this CPU. The parent only waits and reads the verdict.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np

from shared.errors import ArtefactError, EscalonError, SmokeError, StorageError
from shared.inputs import Inputs
from shared.model import Model
from shared.releases.manifest import Manifest, parse_manifest

TIMEOUT_S = 60.0
MAX_MEMORY_BYTES = 4 * 2**30
MAX_REASON_CHARACTERS = 500


class SmokeReport(msgspec.Struct, frozen=True):
    """What the child found.

    Attributes:
        difference: largest difference to a golden score.
        latency_ms: median time of one sample.
    """

    difference: float
    latency_ms: float


class SmokeTest:
    """A child process that proves one model.

    Args:
        manifest: what the model must answer.
        model_path: the artefact on disk.
        folder: for the child's input and output.
    """

    def __init__(self, manifest: Manifest, model_path: Path, folder: Path) -> None:
        self._manifest = manifest
        self._model_path = model_path
        self._folder = folder
        self._child: subprocess.Popen[bytes] | None = None
        self._ends_s = 0.0

    def start(self, now_s: float) -> None:
        """Starts the child.

        Raises:
            StorageError: its input cannot be written, or the child not be started.
        """
        try:
            self._launch()
        except OSError as error:
            raise StorageError(f"cannot start the smoke test: {error}") from error
        self._ends_s = now_s + TIMEOUT_S

    def _launch(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        manifest_path = self._folder / "manifest.json"
        manifest_path.write_bytes(msgspec.json.encode(self._manifest))
        command = [sys.executable, "-m", "shared.releases.smoke"]
        with self._output.open("wb") as output:
            self._child = subprocess.Popen(
                [*command, str(manifest_path), str(self._model_path)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def poll(self, now_s: float) -> SmokeReport | None:
        """Returns the report once the child has ended well, None while it runs.

        Raises:
            SmokeError: the model failed, crashed the child, or took too long.
        """
        if self._child is None:
            raise SmokeError("the smoke test was not started")
        code = self._child.poll()
        if code is None:
            if now_s >= self._ends_s:
                self.stop()
                raise SmokeError(f"the model did not answer within {TIMEOUT_S:g} s")
            return None
        output = self._output.read_bytes().decode(errors="replace").strip()
        if code == 0:
            try:
                return msgspec.json.decode(output.splitlines()[-1], type=SmokeReport)
            except (IndexError, msgspec.DecodeError) as error:
                raise SmokeError("the child ended without a report") from error
        if code < 0:
            raise SmokeError(f"the model crashed the process that tried it (signal {-code})")
        raise SmokeError(output[-MAX_REASON_CHARACTERS:] or f"the child ended with code {code}")

    def stop(self) -> None:
        """Ends the child, if it runs."""
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
            self._child.wait()

    @property
    def _output(self) -> Path:
        return self._folder / "output.txt"


def prove(manifest: Manifest, model_path: Path) -> SmokeReport:
    """Loads a model and holds it against its golden scores.

    Raises:
        ArtefactError: it does not load or does not fit.
        SmokeError: it answers otherwise than it should.
    """
    model = Model.load(model_path, manifest.model_spec(), Inputs.plain(manifest.input_shape))
    inputs = manifest.golden.inputs.array()
    scores = model.scores(inputs)
    if not np.isfinite(scores).all():
        raise SmokeError("the model answers NaN or infinity to a golden input")
    difference = float(np.abs(scores - manifest.golden.scores.array()).max())
    if difference > manifest.golden.tolerance:
        raise SmokeError(
            f"a score differs by {difference:.4g} from the golden one, "
            f"more than {manifest.golden.tolerance:.4g}"
        )
    return SmokeReport(difference, model.latency_ms(inputs[:1]))


def _limit() -> None:
    """Limits this process. A system that lacks a limit (macOS: memory) goes without it."""
    limits = {
        resource.RLIMIT_CPU: int(TIMEOUT_S),
        resource.RLIMIT_AS: MAX_MEMORY_BYTES,
        resource.RLIMIT_CORE: 0,
    }
    for limit, value in limits.items():
        try:
            _, hard = resource.getrlimit(limit)
            ceiling = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(limit, (ceiling, hard))
        except (ValueError, OSError):
            continue


def main(arguments: list[str]) -> int:
    """Entry of the child: MANIFEST.json MODEL.onnx. Returns 0, or 1 with the reason printed."""
    manifest_path, model_path = map(Path, arguments)
    _limit()
    try:
        report = prove(parse_manifest(manifest_path.read_bytes()), model_path)
    except (EscalonError, ArtefactError, MemoryError) as error:
        sys.stdout.write(str(error) or type(error).__name__)
        return 1
    sys.stdout.write(msgspec.json.encode(report).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
