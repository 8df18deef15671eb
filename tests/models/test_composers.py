"""The composers: their sizes, their formulas written out by hand, and what they refuse."""

import pytest
import torch
from torch.nn import functional as F

from commonspace.models import COMPOSERS, AttributeAsOperator, Composer, Concat, ImageOnly, TextOnly
from commonspace.models.composers import build_composer


def rows(seed: int, n: int = 6, image_dim: int = 5, text_dim: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(n, image_dim, generator=rng), torch.randn(n, text_dim, generator=rng)


def size(composer: Composer) -> int:
    return sum(p.numel() for p in composer.parameters())


def test_they_have_as_many_parameters_as_the_specification_counts():
    assert size(Concat(512, 512, 512)) == 1_578_496
    assert size(ImageOnly(512, 512, 512)) == size(TextOnly(512, 512, 512)) == 0
    assert size(AttributeAsOperator(512, 512, 512, texts=[f"a{i}" for i in range(3)])) == 3 * 512 * 512
    assert size(AttributeAsOperator(16, 7, 16, rank=4)) == 2 * (7 + 1) * 16 * 4


@pytest.mark.parametrize("seed", [0, 1])
def test_image_only_and_text_only_pass_one_side_through(seed):
    image, text = rows(seed)
    assert torch.equal(ImageOnly(5, 5, 5)(image, text), image)
    assert torch.equal(TextOnly(5, 5, 5)(image, text), text)


@pytest.mark.parametrize("seed", [0, 1])
def test_concat_is_its_formula_row_by_row(seed):
    torch.manual_seed(seed)
    image, text = rows(seed, text_dim=4)
    composer = Concat(5, 4, 3, dropout=0.5)
    for _ in range(3):
        composer(3 * image + 1, text)  # so that the running statistics are no longer 0 and 1
    composer.eval()
    norm, _, first, norm_2, _, _, last = composer.layers
    for row, expected in enumerate(composer(image, text)):
        x = torch.cat([image[row], text[row]])
        for part, linear in [(norm, first), (norm_2, last)]:
            x = (x - part.running_mean) / (part.running_var + part.eps).sqrt() * part.weight + part.bias
            x = linear.weight @ x.clamp(min=0) + linear.bias
        torch.testing.assert_close(x, expected)


def test_concat_drops_units_in_training_alone():
    image, text = rows(0)
    composer = Concat(5, 5, 5, dropout=0.5)
    assert not torch.equal(composer(image, text), composer(image, text))
    composer.eval()
    assert torch.equal(composer(image, text), composer(image, text))
    composer = Concat(5, 5, 5, dropout=0.0)
    assert torch.equal(composer(image, text), composer(image, text))


@pytest.mark.parametrize("seed", [0, 1])
def test_the_operator_is_a_matrix_for_every_text(seed):
    torch.manual_seed(seed)
    image, text = rows(seed, text_dim=3)
    composer = AttributeAsOperator(5, 3, 5, rank=2)
    assert torch.equal(composer(image, text), image)  # the identity, at first
    for p in composer.parameters():
        torch.nn.init.normal_(p)
    for x, t, psi in zip(image, text, composer(image, text), strict=True):
        u, v = composer.u(t).reshape(5, 2), composer.v(t).reshape(5, 2)
        torch.testing.assert_close((torch.eye(5) + u @ v.T) @ x, psi)
    assert torch.linalg.matrix_rank(u @ v.T) == 2


def test_every_weight_of_the_operator_learns():
    image, text = rows(3)
    target = rows(4)[0]
    composer = AttributeAsOperator(5, 5, 5, rank=2)
    optimizer = torch.optim.SGD(composer.parameters(), 0.1)
    for _ in range(2):  # u has no gradient in the first step, while v is 0
        optimizer.zero_grad()
        F.mse_loss(composer(image, text), target).backward()
        optimizer.step()
    assert all(p.grad.abs().sum() > 0 for p in composer.parameters())


def test_a_table_has_a_matrix_of_its_own_for_each_text():
    image, _ = rows(5, n=4)
    composer = AttributeAsOperator(5, 9, 5, texts=["red", "blue", "old"])
    assert composer.reads == "texts"
    assert torch.equal(composer(image, ["red", "old", "red", "blue"]), image)
    torch.nn.init.normal_(composer.table)
    texts = ["old", "red", "old", "blue"]
    for x, text, psi in zip(image, texts, composer(image, texts), strict=True):
        torch.testing.assert_close(composer.table[["red", "blue", "old"].index(text)] @ x, psi)
    composer(image[:2], ["old", "red"]).sum().backward()
    assert composer.table.grad.flatten(1).abs().sum(dim=1).ne(0).tolist() == [True, False, True]
    with pytest.raises(ValueError, match="no matrix for 'green'; it knows red, blue, old"):
        composer(image, ["red", "green", "old", "blue"])


@pytest.mark.parametrize("name", sorted(COMPOSERS))
def test_a_config_builds_the_same_make(name):
    composer = COMPOSERS[name](6, 6, 6)
    again = build_composer(composer.config)
    assert type(again) is type(composer)
    assert again.config == composer.config
    assert [p.shape for p in again.parameters()] == [p.shape for p in composer.parameters()]


@pytest.mark.parametrize(
    "composer",
    [
        Concat(3, 4, 5, dropout=0.4),
        AttributeAsOperator(4, 3, 4, rank=7),
        AttributeAsOperator(4, 3, 4, texts=["a", "b"]),
    ],
)
def test_a_config_keeps_what_is_not_the_default(composer):
    again = build_composer(composer.config)
    assert again.config == composer.config
    assert again.reads == composer.reads
    assert [str(p) for p in again.modules()] == [str(p) for p in composer.modules()]
    assert [p.shape for p in again.parameters()] == [p.shape for p in composer.parameters()]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ImageOnly(4, 5, 5), "ImageOnly keeps the width: image_dim=4 must equal dim=5"),
        (lambda: TextOnly(5, 4, 5), "TextOnly keeps the width: text_dim=4 must equal dim=5"),
        (lambda: AttributeAsOperator(4, 5, 5), "image_dim=4 must equal dim=5"),
        (lambda: Concat(0, 4, 5), "must be at least 1; got 0, 4 and 5"),
        (lambda: AttributeAsOperator(5, 5, 5, rank=0), "rank must be at least 1, got 0"),
        (lambda: AttributeAsOperator(5, 5, 5, texts=[]), "at least one and each once; got 0"),
        (lambda: AttributeAsOperator(5, 5, 5, texts=["a", "a"]), "each once; got 2"),
        (lambda: build_composer({"composer": "Sum", "dim": 3}), "one of ImageOnly, TextOnly, Concat, .*; got 'Sum'"),
    ],
)
def test_they_refuse_what_cannot_work(make, message):
    with pytest.raises(ValueError, match=message):
        make()
