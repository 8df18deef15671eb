"""Encoders saved as JSON and weights, and built again; encoders one behind the other."""

import json

import pytest
import torch

import commonspace.encoders
from commonspace.data.vocabulary import Vocabulary
from commonspace.encoders import (
    GRU,
    LSTM,
    MLP,
    VGG,
    BagOfWords,
    Bert,
    Cells,
    ResNet,
    ScaledUnitNorm,
    Sequence,
    SmallConvNet,
    Standardize,
    build_encoder,
)

TEXTS = ["a cat", "a dog and a cat", "Hänsel"]
IMAGES = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
ROWS = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


def words(weighting: str) -> BagOfWords:
    return BagOfWords(Vocabulary.build(TEXTS), weighting).fit(TEXTS)


ENCODERS = {
    "LSTM": (lambda: LSTM(Vocabulary.build(TEXTS), 6, 5, 0.2, "max"), TEXTS),
    "GRU": (lambda: GRU(Vocabulary.build(TEXTS), 6, 5, bidirectional=True), TEXTS),
    "SmallConvNet": (lambda: SmallConvNet(width=6, feature_map=True), IMAGES),
    "ResNet": (lambda: ResNet("resnet34", trainable="last_block"), IMAGES),
    "VGG": (lambda: VGG("vgg16", trainable="none"), IMAGES),
    "Cells": (lambda: Cells(3, 2), IMAGES.float()),
    "MLP": (lambda: MLP((6, 5, 3), "tanh", dropout=0.3, batch_norm=True, final_activation="sigmoid"), ROWS),
    "BagOfWords": (lambda: words("tfidf"), TEXTS),
    "Bert": (lambda: Bert(cache=False), TEXTS),
    "Standardize": (lambda: Standardize(6, power=0.5).fit(ROWS.abs()), ROWS.abs()),
    "ScaledUnitNorm": (lambda: Sequence(MLP([6, 5]), ScaledUnitNorm(2.0)), ROWS),
    "Sequence": (lambda: Sequence(words("binary"), Sequence(MLP([5, 4]), MLP([4, 2]))), TEXTS),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_built_again_it_gives_the_same(name):
    make, batch = ENCODERS[name]
    encoder = make()
    if name in ("SmallConvNet", "MLP"):
        encoder(batch)  # BatchNorm's statistics are no longer the initial ones
    encoder.eval()
    again = build_encoder(json.loads(json.dumps(encoder.config)))
    assert again.config == encoder.config
    assert type(again) is type(encoder)
    again.load_state_dict(encoder.state_dict())
    features = encoder(batch)
    assert torch.equal(again.eval()(batch), features)
    assert features.shape[:2] == (len(batch), encoder.out_dim)
    grads = [p.requires_grad for p in again.parameters()]
    assert grads == [p.requires_grad for p in encoder.parameters()]


def test_every_encoder_is_here():
    modules = {
        name
        for name in commonspace.encoders.__all__
        if isinstance(getattr(commonspace.encoders, name), type)
        and issubclass(getattr(commonspace.encoders, name), torch.nn.Module)
    }
    assert modules == ENCODERS.keys()


def test_a_sequence_is_its_parts_in_turn():
    torch.manual_seed(0)
    net, head = SmallConvNet(width=4), MLP([16, 3])
    both = Sequence(net, head).eval()
    torch.testing.assert_close(both(IMAGES), head(net(IMAGES)))
    assert both.out_dim == 3
    both.train()(IMAGES).square().sum().backward()
    assert all(p.grad is not None for p in both.parameters())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Sequence, "at least one encoder"),
        (lambda: build_encoder({"encoder": "Vgg"}), "one of .*, MLP, .*, Sequence; got 'Vgg'"),
        (lambda: build_encoder({}), "got None"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_building_leaves_the_config_as_it_was():
    config = MLP([6, 3]).config
    build_encoder(config)
    assert config == MLP([6, 3]).config
