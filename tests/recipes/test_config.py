"""A configuration refuses what it was not made for, with the words that mend it."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest

from commonspace.recipes.config import BaseConfig


@dataclass(frozen=True)
class Config(BaseConfig):
    dropout: float = 0.1
    hidden: tuple[int, ...] = (256, 256)
    form: Literal["trace", "frobenius"] = "trace"
    bias: bool = True

    profiles: ClassVar = {"lesson": {}, "paper": {"epochs": 100}, "paper/wikipedia": {"batch_size": 500}}


def test_a_profile_is_overridden_by_its_data_set_and_that_by_hand():
    assert Config.profile("lesson") == Config()
    assert Config.profile("paper").epochs == 100
    assert Config.profile("paper").batch_size == 64
    paper = Config.profile("paper", data="wikipedia", lr=1, hidden=[8, 4])
    assert (paper.epochs, paper.batch_size, paper.lr, paper.hidden) == (100, 500, 1.0, (8, 4))
    assert isinstance(paper.lr, float)
    assert Config.profile("paper", data="wikipedia", batch_size=7).batch_size == 7


def test_it_cannot_be_changed_but_replaced():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().lr = 2.0
    assert dataclasses.replace(Config(), lr=2.0).lr == 2.0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lr": "1e-3"}, r"lr must be float, got '1e-3' \(YAML reads 1e-3 as a text: write 1.0e-3\)"),
        ({"lr": True}, "lr must be float, got True"),
        ({"lr": 0.0}, "lr must be greater than 0"),
        ({"epochs": 1.5}, "epochs must be int, got 1.5"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch_size": True}, "batch_size must be int, got True"),
        ({"data": None}, "data must be str, got None"),
        ({"output": 3}, "output must be str, got 3"),
        ({"hidden": (8, "4")}, r"hidden\[1\] must be int, got '4'"),
        ({"hidden": 8}, "hidden must be tuple"),
        ({"form": "trase"}, "form must be one of 'trace', 'frobenius'; got 'trase'"),
        ({"bias": 1}, "bias must be bool, got 1"),
        ({"learning_rat": 1.0}, "has no field 'learning_rat'"),
        ({"bach_size": 3}, "did you mean 'batch_size'"),
    ],
)
def test_what_does_not_fit_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Config.profile("lesson", **given)


def test_an_unknown_profile_names_the_nearest():
    with pytest.raises(
        ValueError, match=r"no profile is called 'papper'; there are lesson, paper; did you mean 'paper'"
    ):
        Config.profile("papper")
