"""The networks: the reference comparison's parameter counts, necks and pooling."""

import numpy as np
import pytest
import timm
import torch

from obelisk.config import NeckSection
from obelisk.errors import RecipeError
from obelisk.training.model.network import NormalizeParts, PhotoEmbedder, build_neck, count_trainable, dense_head
from obelisk.training.model.pooling import avg, gem, l2n
from obelisk.training.model.whitening import pca_whitening


def test_the_baseline_head_has_the_parameters_of_the_reference_comparison() -> None:
    assert count_trainable(dense_head(2048, 943)) == 3_113_903


def test_the_baseline_with_resnet50s_last_block_has_the_parameters_of_the_reference_comparison() -> None:
    network = timm.create_model("resnet50", num_classes=0).requires_grad_(requires_grad=False)
    network.layer4.requires_grad_(requires_grad=True)
    assert count_trainable(network.layer4) == 14_964_736
    assert count_trainable(network) + count_trainable(dense_head(2048, 943)) == 18_078_639


def test_gem_is_the_average_at_one_and_nears_the_maximum_at_a_large_exponent() -> None:
    torch.manual_seed(0)
    maps = torch.rand(2, 3, 5, 4) + 0.1
    assert torch.allclose(gem(maps, 1.0), avg(maps), atol=1e-6)
    assert torch.allclose(gem(maps, 200.0), maps.amax(dim=(2, 3)), rtol=0.02)


def test_gem_agrees_with_its_equation() -> None:
    torch.manual_seed(0)
    maps = torch.rand(2, 3, 5, 4, dtype=torch.float64) + 0.1
    expected = [
        [(sum(v**3 for v in maps[n, d].flatten().tolist()) / 20) ** (1 / 3) for d in range(3)] for n in range(2)
    ]
    assert torch.allclose(gem(maps, 3.0), torch.tensor(expected, dtype=torch.float64), rtol=1e-4)


def test_unit_length_leaves_a_zero_row_at_zero() -> None:
    assert l2n(torch.zeros(1, 4)).tolist() == [[0.0, 0.0, 0.0, 0.0]]


def test_whitened_rows_are_uncorrelated_and_equally_spread() -> None:
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((500, 12)) @ rng.standard_normal((12, 12)) + 3.0).astype(np.float32)
    projection, bias = pca_whitening(torch.from_numpy(rows), 8)
    whitened = rows @ projection.numpy().T + bias.numpy()
    assert np.abs(whitened.mean(axis=0)).max() < 1e-4
    covariance = np.cov(whitened.T)
    assert np.allclose(covariance / covariance[0, 0], np.eye(8), atol=1e-3)
    assert np.linalg.norm(whitened, axis=1).mean() == pytest.approx(1.0, rel=1e-4)


def test_whitening_to_more_dimensions_than_the_photos_tell_is_refused() -> None:
    torch.manual_seed(0)
    section = NeckSection(kind="whitening", dimensions=16, normalize_parts=False)
    with pytest.raises(RecipeError, match=r"20 descriptors determine 10 directions.*--set neck.dimensions=10"):
        build_neck(section, (40,), torch.randn(20, 40))
    with pytest.raises(RecipeError, match="60 descriptors determine 2 directions"):
        build_neck(section, (40,), torch.randn(3, 40).repeat(20, 1))


def test_a_linear_neck_for_few_photos_starts_at_what_they_tell() -> None:
    torch.manual_seed(0)
    descriptors = torch.randn(20, 40)
    section = NeckSection(kind="linear", start="whitening", dimensions=16, normalize_parts=False)
    weights = build_neck(section, (40,), descriptors).layers[-1].weight
    projection, _ = pca_whitening(descriptors, 16)
    assert len(projection) == 10
    assert torch.equal(weights[:10], projection)
    assert weights[10:].norm(dim=1).min() > 0


def test_parts_are_normalized_each_for_itself() -> None:
    rows = NormalizeParts([2, 3])(torch.tensor([[3.0, 4.0, 0.0, 0.0, 9.0]]))
    assert torch.allclose(rows, torch.tensor([[0.6, 0.8, 0.0, 0.0, 1.0]]))


@pytest.mark.parametrize(
    ("kind", "start", "length"),
    [
        ("identity", "random", 40),
        ("linear", "random", 16),
        ("linear", "whitening", 16),
        ("whitening", "random", 16),
        ("dense", "random", 512),
    ],
)
def test_every_neck_gives_unit_rows_of_its_length(kind: str, start: str, length: int) -> None:
    torch.manual_seed(0)
    descriptors = torch.rand(100, 40)
    section = NeckSection.model_validate({"kind": kind, "start": start, "dimensions": 16})
    neck = build_neck(section, (30, 10), descriptors).eval()
    rows = neck.embed(descriptors)
    assert rows.shape == (100, length)
    assert neck.dimensions == length
    assert torch.allclose(rows.norm(dim=1), torch.ones(100), atol=1e-5)


def test_the_whole_embedder_equals_its_stages() -> None:
    class Half(torch.nn.Module):
        def forward(self, photos: torch.Tensor) -> torch.Tensor:
            return avg(photos)

    photos = torch.rand(4, 3, 8, 8)
    neck = build_neck(NeckSection(kind="identity"), (3, 3)).eval()
    whole = PhotoEmbedder([Half(), Half()], neck)(photos)
    assert torch.allclose(whole, neck.embed(torch.cat([avg(photos), avg(photos)], dim=1)))
