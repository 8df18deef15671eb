"""How a check behaves, on an exercise made for this test: every way an answer can be wrong gets its own words."""

import numpy as np
import pytest

from commonspace.checks import Exercise, Mistake, ch00, ch01
from commonspace.checks.exercise import FAILED, NOT_ATTEMPTED, PASSED

double = Exercise(
    name="double",
    inputs=lambda rng: (rng.normal(size=4),),
    reference=lambda x: x * 2,
    mistakes=(Mistake("squares", "you square.", lambda x: x**2),),
    well_done="Twice as much.",
)


def in_place(x):
    x *= 2
    return x


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (lambda x: x + x, PASSED, "right on 8 fresh random inputs. Twice as much."),
        (lambda x: x * x, FAILED, "you square."),
        (lambda x: 2 * x[:3], FAILED, "not right yet (8 of 8 inputs)"),
        (lambda x: x * 3, FAILED, "expected ["),
        (lambda x: (x * 2).sum(), FAILED, "not right yet"),
        (lambda x: "two", FAILED, "got 'two'"),
        (lambda x: {"a": 1}, FAILED, "not right yet"),
        (lambda x: (x * 2, x), FAILED, "not right yet"),
        (lambda x: np.full(4, np.nan), FAILED, "nan"),
        (lambda x: None, FAILED, "returned None"),
        (in_place, FAILED, "changes its arguments in place"),
        (lambda x: x[7], FAILED, "stopped with IndexError"),
        (lambda x, y: x, FAILED, "stopped with TypeError"),
        (np.ones(4), FAILED, "Pass the function itself"),
    ],
)
def test_every_answer_gets_its_own_words(answer, status, words, capsys):
    result = double(answer)
    assert result.status == status
    assert words in result.message
    assert capsys.readouterr().out == result.message + "\n"


def test_a_stub_is_not_attempted(capsys):
    def stub(x):
        raise NotImplementedError("your turn")

    assert double(stub).status == NOT_ATTEMPTED
    assert "not attempted yet" in capsys.readouterr().out


def test_an_answer_right_on_some_inputs_only_fails():
    result = double(lambda x: 2 * x if x[0] > 0 else 2.001 * x, seed=3)
    assert result.status == FAILED


def test_inputs_are_new_at_every_call_and_repeat_with_a_seed():
    seen = []
    for seed in [None, None, 5, 5]:
        double(lambda x: seen.append(x.copy()) or 2 * x, seed=seed)
    first = [seen[i][0] for i in (0, 8, 16, 24)]
    assert len(set(first)) == 3
    assert first[2] == first[3]


def test_a_result_shows_nothing_more_in_a_notebook():
    from IPython.core.formatters import DisplayFormatter

    assert DisplayFormatter().format(double(lambda x: 2 * x)) == ({}, {})


EXERCISES = {
    f"{chapter.__name__[-4:]}.{name}": exercise
    for chapter in (ch00, ch01)
    for name, exercise in vars(chapter).items()
    if isinstance(exercise, Exercise)
}


@pytest.mark.parametrize("name", EXERCISES)
def test_every_exercise_knows_its_own_name_and_at_least_three_mistakes(name):
    exercise = EXERCISES[name]
    assert exercise.name == name.split(".")[1]
    assert len({mistake.name for mistake in exercise.mistakes}) == len(exercise.mistakes) >= 3


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", EXERCISES)
def test_inputs_tell_every_known_mistake_from_every_other(name, seed):
    exercise = EXERCISES[name]
    assert exercise(exercise.reference, seed=seed).status == PASSED
    for mistake in exercise.mistakes:
        assert exercise(mistake.answer, seed=seed).mistake == mistake.name
