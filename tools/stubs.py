"""Cut the exercises' stubs out of the solutions: python -m tools.stubs (make stubs).

In a solution the lines from `# solution: begin` to `# solution: end`, inside a function, are what the learner writes.
"""

import re
import sys
from pathlib import Path

from nbformat import NotebookNode

from tools import notebooks

BEGIN, END = "# solution: begin", "# solution: end"


def cut(source: str) -> str:
    """``source`` with every marked region replaced by ``raise NotImplementedError("your turn")``, indented as it was.

    Raises ValueError when a mark has no partner, stands outside a function, or there is none.
    """
    lines, indent, marked = [], None, False
    for line in source.splitlines():
        if line.strip() == BEGIN:
            if indent is not None:
                raise ValueError(f"a second '{BEGIN}' before '{END}'")
            indent, marked = re.match(r"\s*", line)[0], True
            if not indent:
                raise ValueError(f"'{BEGIN}' stands outside a function: a chapter must run with its stubs in it")
            lines.append(indent + 'raise NotImplementedError("your turn")')
        elif line.strip() == END:
            if indent is None:
                raise ValueError(f"'{END}' without '{BEGIN}'")
            indent = None
        elif indent is None:
            lines.append(line)
    if indent is not None or not marked:
        raise ValueError(f"an exercise needs its answer between '{BEGIN}' and '{END}'")
    return "\n".join(lines)


def exercises(nb: NotebookNode) -> dict[str, NotebookNode]:
    """The exercise cells by name. Raises ValueError for a tag without a name, the other way round, or a name twice."""
    found = {}
    for cell in notebooks.code_cells(nb):
        name = cell.metadata.get("exercise")
        if ("exercise" in notebooks.tags(cell)) != bool(name):
            raise ValueError(f"the cell {cell.id} needs both the tag 'exercise' and metadata.exercise, its name")
        if name in found:
            raise ValueError(f"two cells are exercise {name}")
        if name:
            found[name] = cell
    return found


def update(chapter: NotebookNode, solution: NotebookNode) -> list[str]:
    """Write the stubs of ``solution`` into ``chapter``; the names of those that changed, whose outputs are dropped.

    Raises ValueError when the two do not hold the same exercises.
    """
    stubs, answers = exercises(chapter), exercises(solution)
    if stubs.keys() != answers.keys():
        raise ValueError(f"only in one of chapter and solution: {', '.join(sorted(stubs.keys() ^ answers.keys()))}")
    changed = []
    for name, cell in stubs.items():
        stub = cut(answers[name].source)
        if stub != cell.source:
            cell.source, cell.outputs, cell.execution_count = stub, [], None
            changed.append(name)
    return changed


def main(root: Path = notebooks.ROOT) -> int:
    failed = False
    for path in notebooks.find(("solutions",), root=root):
        target = root / "chapters" / path.name
        try:
            chapter = notebooks.read(target)
            changed = update(chapter, notebooks.read(root / path))
        except (ValueError, FileNotFoundError) as error:
            print(f"{path}: {error}")
            failed = True
            continue
        if changed:
            notebooks.write(chapter, target)
        print(f"chapters/{path.name}: {', '.join(changed) + ' cut anew' if changed else 'nothing to change'}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
