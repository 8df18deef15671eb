"""The checks under the course's exercises: `checks.ch01.cca(my_function)`. One file a chapter."""

from commonspace.checks import ch00, ch01, ch02, ch03, ch04, ch05, ch06, ch07, ch08, ch09, ch10, ch11, ch12
from commonspace.checks.exercise import Exercise, Mistake, Result

__all__ = [
    "Exercise",
    "Mistake",
    "Result",
    "ch00",
    "ch01",
    "ch02",
    "ch03",
    "ch04",
    "ch05",
    "ch06",
    "ch07",
    "ch08",
    "ch09",
    "ch10",
    "ch11",
    "ch12",
]
