"""The softmax layer on finished embeddings: what it learns, and that it leaves them alone."""

import copy

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from obelisk.config import Recipe, load_recipe
from obelisk.training.head import TrainingPhotos, train_probe
from obelisk.training.model.network import Necks, build_neck


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe(
        "proposed_triplet", ["neck.dimensions=8", "neck.start=random", "training.batch_size=32", "training.epochs=150"]
    )


@pytest.fixture
def photos() -> TrainingPhotos:
    """Two views of 30 photos each of 4 landmarks, around directions that differ, with noise; a tail of 5 photos."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 30 + [1] * 30 + [2] * 30 + [3] * 5)
    centres = torch.randn(4, 12, generator=rng)
    views = centres[labels] + 0.6 * torch.randn(2, len(labels), 12, generator=rng)
    return TrainingPhotos(views=views, landmarks=labels)


def test_it_answers_as_logistic_regression_does_and_leaves_the_necks_alone(
    recipe: Recipe, photos: TrainingPhotos
) -> None:
    torch.manual_seed(1)
    necks = Necks([build_neck(recipe.neck, (12,))], [12])
    before = copy.deepcopy(necks.state_dict())
    layer = train_probe(recipe, necks, photos, 4)
    assert all(torch.equal(tensor, necks.state_dict()[name]) for name, tensor in before.items())
    with torch.no_grad():
        rows = necks.embed(photos.plain())
        answers = layer.logits(rows).argmax(dim=1).numpy()
        seen = torch.cat([necks.embed(view) for view in photos.views]).numpy()
    oracle = LogisticRegression(C=1.0, max_iter=1000).fit(seen, np.tile(photos.landmarks.numpy(), 2))
    assert (answers == oracle.predict(rows.numpy())).mean() > 0.95
    # It has come as far as the oracle: a layer that stopped underway would be less sure.
    labels = photos.landmarks.repeat(2)
    with torch.no_grad():
        loss = layer(torch.from_numpy(seen), labels).item()
    assert loss < log_loss(labels.numpy(), oracle.predict_proba(seen))
    assert (answers == photos.landmarks.numpy()).mean() > 0.9


def test_it_is_repeatable_and_knows_landmarks_that_it_has_not_seen(recipe: Recipe, photos: TrainingPhotos) -> None:
    torch.manual_seed(3)
    necks = Necks([build_neck(recipe.neck, (12,))], [12])
    first, second = (train_probe(recipe, necks, photos, 5) for _ in range(2))
    assert torch.equal(first.classifier.weight, second.classifier.weight)
    assert first.classifier.out_features == 5
