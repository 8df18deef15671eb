"""Train, validation and test of the emoji: whole units, drawn by a hash."""

import hashlib
import statistics

TEST, VALIDATION = 470 / 1870, 280 / 1870  # of the rows; the rest is train


def divide(units: list[list[int]], names: list[str], seed: int) -> tuple[list[int], list[int], list[int]]:
    """Rows of train, validation and test (60, 15 and 25 %), whole units each, in a shuffled order.

    ``names``: of every row, all different; with the seed alone they decide what goes where. A unit that would be more
    than a twentieth of validation or test, and larger than units mostly are, goes to train.
    """
    total = sum(map(len, units))
    # A hash and not a random generator: it depends on no library's version and on no order of the table.
    rank = {row: hashlib.sha256(f"{seed} {names[row]}".encode()).digest() for rows in units for row in rows}
    first = {rows[0]: hashlib.sha256(f"{seed} {min(names[row] for row in rows)}".encode()).digest() for rows in units}
    waiting = sorted(units, key=lambda rows: first[rows[0]])
    usual = statistics.median_low(map(len, units)) if units else 0
    parts = []
    for share in (TEST, VALIDATION):
        room, taken = round(share * total), []
        largest = max(usual, room // 20)  # one family, say the 26 drawings of families, must not dominate a part
        for rows in waiting:
            if len(rows) <= min(largest, room - len(taken)):
                taken += rows
        parts.append(taken)
        gone = set(taken)
        waiting = [rows for rows in waiting if rows[0] not in gone]
    parts.append([row for rows in waiting for row in rows])
    test, validation, train = (sorted(part, key=rank.__getitem__) for part in parts)
    return train, validation, test
