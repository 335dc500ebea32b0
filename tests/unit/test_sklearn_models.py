"""What scikit-learn trained and skl2onnx wrote is served as it is, its labels with it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from shared.errors import ArtefactError
from shared.inputs import Inputs, InputSpec
from tests.onnx_models import load

NAMES = np.array(["setosa", "versicolor", "virginica"])
FLOWERS, SPECIES = load_iris(return_X_y=True)
FLOWERS = FLOWERS.astype(np.float32)
FOUR = Inputs.plain((4,))


def converted(classifier: Any, zipmap: Any = False) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own use of numpy's old names
        from skl2onnx import to_onnx

        options = {id(classifier): {"zipmap": zipmap}}
        return bytes(to_onnx(classifier, FLOWERS[:1], options=options).SerializeToString())


def trained(classifier: Any, targets: NDArray[Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few iterations suffice here
        return classifier.fit(FLOWERS, targets)


@pytest.mark.parametrize("targets", [SPECIES, NAMES[SPECIES]], ids=["numbers", "names"])
@pytest.mark.parametrize(
    "classifier",
    [
        LogisticRegression(max_iter=300),
        MLPClassifier((8,), max_iter=200, random_state=1),
        RandomForestClassifier(5, random_state=1),
        GradientBoostingClassifier(n_estimators=3),
        GaussianNB(),
        KNeighborsClassifier(),
        CalibratedClassifierCV(LogisticRegression(max_iter=300), cv=2),
        make_pipeline(StandardScaler(), LogisticRegression()),
    ],
    ids=lambda classifier: type(classifier).__name__,
)
def test_a_classifier_brings_its_labels_and_answers_as_in_python(
    tmp_path: Path, classifier: Any, targets: NDArray[Any]
) -> None:
    trained(classifier, targets)
    model = load(tmp_path, converted(classifier), FOUR, labels=(), scores="probabilities")
    assert model.spec.labels == tuple(map(str, classifier.classes_))
    expected = classifier.predict_proba(FLOWERS)
    assert_allclose(model.infer(FLOWERS).probabilities, expected, atol=1e-3)


@pytest.mark.parametrize("targets", [SPECIES, NAMES[SPECIES]], ids=["numbers", "names"])
def test_zipmap_which_skl2onnx_adds_by_default_is_read(
    tmp_path: Path, targets: NDArray[Any]
) -> None:
    classifier = trained(LogisticRegression(max_iter=300), targets)
    model = load(tmp_path, converted(classifier, True), FOUR, labels=(), scores="probabilities")
    assert model.spec.labels == tuple(map(str, classifier.classes_))
    assert_allclose(
        model.infer(FLOWERS).probabilities, classifier.predict_proba(FLOWERS), atol=1e-5
    )


def test_names_of_ones_own_stand_for_class_numbers(tmp_path: Path) -> None:
    data = converted(trained(LogisticRegression(max_iter=300), SPECIES))
    model = load(tmp_path, data, FOUR, labels=tuple(NAMES), scores="probabilities")
    assert model.spec.labels == tuple(NAMES)


def test_names_in_another_order_than_the_classifiers_are_refused(tmp_path: Path) -> None:
    data = converted(trained(LogisticRegression(max_iter=300), NAMES[SPECIES]))
    with pytest.raises(ArtefactError, match="in this order, setosa, versicolor, virginica"):
        load(tmp_path, data, FOUR, labels=tuple(NAMES[::-1]), scores="probabilities")


def test_a_column_for_each_label_is_refused_with_what_to_do(tmp_path: Path) -> None:
    data = converted(trained(LogisticRegression(max_iter=300), SPECIES), "columns")
    with pytest.raises(ArtefactError, match="more than one of its outputs may hold the scores"):
        load(tmp_path, data, FOUR, labels=(), scores="probabilities")


def test_mean_and_scale_are_those_of_a_standard_scaler(tmp_path: Path) -> None:
    scaler = StandardScaler().fit(FLOWERS)
    scaled = scaler.transform(FLOWERS)
    classifier = LogisticRegression().fit(scaled, SPECIES)
    spec = InputSpec((4,), mean=tuple(scaler.mean_), scale=tuple(scaler.scale_))
    model = load(tmp_path, converted(classifier), Inputs([spec]), labels=(), scores="probabilities")
    expected = classifier.predict_proba(scaled)
    assert_allclose(model.infer(FLOWERS).probabilities, expected, atol=1e-4)
