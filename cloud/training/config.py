"""Configuration of a pipeline's training."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from cloud.training.network import Kind
from shared.config import AnyPath, EnvironmentText, Section

GIB = 2**30

TrainerName = Literal["sklearn", "torch", "command"]
VariableName = Annotated[str, StringConstraints(pattern="^[A-Za-z_][A-Za-z0-9_]*$")]
Width = Annotated[int, Field(ge=1, le=65_536)]


class DistillationConfig(Section):
    """How tier-1 learns from tier-2's answers (trainer ``torch``)."""

    temperature: float = Field(default=2.0, ge=1, le=20)
    """Softens tier-2's probabilities and the student's, so that the small ones count as well."""
    alpha: float = Field(default=0.9, ge=0, le=1)
    """Weight of tier-2's soft answers; the rest is that of the labels."""


class PruningConfig(Section):
    """What is taken out of the model once it is trained (trainer ``torch``)."""

    kind: Literal["structured", "unstructured"] = "structured"
    """``structured`` takes out whole filters and neurons: a smaller and faster file. With
    ``unstructured`` single weights become zero, which makes neither smaller nor faster."""
    share: float = Field(default=0.5, gt=0, lt=1)
    """Share of the filters and neurons, or of the weights, of each layer."""
    epochs: int = Field(default=10, ge=1, le=100_000)
    """Passes over the samples afterwards, to recover."""


class DeferralConfig(Section):
    """Teaches the model to be unsure of what it gets wrong (trainer ``torch``)."""

    alpha: float = Field(default=0.3, ge=0, le=1)
    """Weight of being right where it is right; the rest is that of being unsure where it is wrong.
    Lower defers more."""
    epochs: int = Field(default=10, ge=1, le=100_000)
    """Passes over the samples, after everything else."""


class AnyModelConfig(Section):
    """How a model is made."""

    architecture: Kind = "mlp"
    """``mlp``, or a convolutional network over one or two dimensions: ``cnn1d``, ``cnn2d`` (these
    with trainer ``torch``)."""
    hidden: tuple[Width, ...] = Field(default=(96,), max_length=8)
    """Neurons of each hidden layer."""
    channels: tuple[Width, ...] = Field(default=(16, 32), min_length=1, max_length=16)
    """Filters of each convolution, of an architecture that has some."""
    kernel: Literal[1, 3, 5, 7, 9, 11, 15] = 3
    """Width of the filters."""
    epochs: int = Field(default=50, ge=1, le=100_000)
    """Passes over the samples."""
    patience: int = Field(default=10, ge=0, le=100_000)
    """It stops after so many passes without a smaller loss on the tuning samples, and keeps the
    best; 0 for never."""
    batch_size: int = Field(default=64, ge=1, le=65_536)
    """Samples for each step."""
    learning_rate: float = Field(default=2e-3, gt=0, le=1)
    """Of Adam."""
    pruning: PruningConfig | None = None
    """What is taken out afterwards; left out, nothing (trainer ``torch``)."""


class Tier1TrainingConfig(AnyModelConfig):
    """How tier-1's model is made."""

    distillation: DistillationConfig = DistillationConfig()
    """How it learns from tier-2's answers."""
    deferral: DeferralConfig | None = None
    """Teaches it to be unsure of what it gets wrong; left out, nothing does."""


class Tier2TrainingConfig(AnyModelConfig):
    """How tier-2's model is made."""

    hidden: tuple[Width, ...] = Field(default=(384, 128), max_length=8)
    """Neurons of each hidden layer."""
    epochs: int = Field(default=15, ge=1, le=100_000)
    """Passes over the samples."""
    batch_size: int = Field(default=128, ge=1, le=65_536)
    """Samples for each step."""
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    """Of Adam."""
    augmented_copies: int = Field(default=60, ge=0, le=1000)
    """So many varied copies of each sample are learned in each pass, with its label."""


class ModelConfig(AnyModelConfig):
    """How the model of a job is made, whichever tier's it is."""

    distillation: DistillationConfig | None = None
    """How it learns from tier-2's answers; None without a teacher."""
    deferral: DeferralConfig | None = None
    """Teaches it to be unsure of what it gets wrong; None for nothing does."""
    augmented_copies: int = Field(default=0, ge=0, le=1000)
    """So many varied copies of each sample are learned in each pass, with its label."""

    @property
    def planned_epochs(self) -> int:
        """Passes over the samples in all parts of the training."""
        return self.epochs + sum(part.epochs for part in (self.pruning, self.deferral) if part)


class TrainingConfig(Section):
    """What the pipeline's models are trained from, by what, and what that may take."""

    base: AnyPath
    """Folder with ``train.npz`` and ``calibration.npz``: inputs ``x`` and labels ``y``."""
    first_job: AnyPath
    """Folder in which the first models are trained, once; a finished candidate in it is used."""
    input_maximum: float = Field(default=1.0, gt=0)
    """Largest value of an input; the smallest is 0."""
    image_shape: tuple[int, int] | None = None
    """Height and width where inputs are images: these are shifted and blurred in training."""
    seed: int = Field(default=1, ge=0, le=2**31)
    """Decides all randomness of the training."""
    trainer: TrainerName = "sklearn"
    """``sklearn`` (a perceptron), ``torch`` (the extra ``torch``), or ``command``: a program of
    yours."""
    command: tuple[EnvironmentText, ...] = Field(default=(), max_length=256)
    """The program of trainer ``command`` and its arguments, each a list item; the job's folder is
    put in for ``{folder}``. No shell reads it."""
    environment: dict[VariableName, EnvironmentText] = Field(default_factory=dict, repr=False)
    """Variables that the program gets beside ``PATH``, ``HOME``, ``LANG`` and ``TMPDIR``."""
    tier1: Tier1TrainingConfig = Tier1TrainingConfig()
    """How tier-1's model is made."""
    tier2: Tier2TrainingConfig = Tier2TrainingConfig()
    """How tier-2's model is made."""
    replay_samples: int = Field(default=20_000, ge=0, le=10_000_000)
    """At most so many samples of ``base`` are learned again with what came from the field, drawn
    anew for each training."""
    balance_classes: bool = True
    """Whether rare labels weigh more in training."""
    max_weight: float = Field(default=10.0, ge=1, le=1e6)
    """No sample weighs more than so many times what the others do, however unlikely it was to be
    sent and however rare its label is."""
    offer_fp32: bool = False
    """Release tier-1's model before quantization as well, where it is certified: nodes fetch both
    files, three to four times the bytes, and serve the faster one, which for a tiny model is
    often fp32."""
    memory_bytes: int = Field(default=4 * GIB, ge=GIB // 2, le=2**50)
    """Memory that the training may take, and each process of a program of yours; 4 GiB by
    default."""
    timeout_s: float = Field(default=1800.0, ge=1, le=30 * 86_400)
    """The training is ended after so many seconds."""
    model_bytes: int = Field(default=64 * 2**20, ge=1024, le=512 * 2**20)
    """Bytes of the largest model that is taken from a trainer; 64 MiB by default."""

    @model_validator(mode="after")
    def _has_its_command(self) -> Self:
        if self.trainer == "command" and not self.command:
            raise PydanticCustomError(
                "no_command",
                "trainer `command` has no command",
                {"fix": 'write `command: [program, argument, "{folder}"]`'},
            )
        if self.trainer != "command" and (self.command or self.environment):
            raise PydanticCustomError(
                "idle_command",
                "trainer `{trainer}` runs no command",
                {"trainer": self.trainer, "fix": "write `trainer: command`, or leave it out"},
            )
        return self

    @model_validator(mode="after")
    def _trainer_can(self) -> Self:
        """Refuses what the trainer would silently leave out; a program of yours may do anything."""
        if self.trainer != "sklearn":
            return self
        asked = {
            "tier1.architecture": self.tier1.architecture != "mlp",
            "tier1.distillation": self.tier1.distillation != DistillationConfig(),
            "tier1.pruning": self.tier1.pruning is not None,
            "tier1.deferral": self.tier1.deferral is not None,
            "tier2.architecture": self.tier2.architecture != "mlp",
            "tier2.pruning": self.tier2.pruning is not None,
        }
        for key in (key for key, is_asked in asked.items() if is_asked):
            raise PydanticCustomError(
                "needs_torch",
                "{key} asks for what trainer `sklearn` cannot do",
                {"key": key, "fix": "write `trainer: torch`, or leave it out"},
            )
        return self
