"""First answers, and what they kept and changed: against loops, on fresh random inputs."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from commonspace.metrics import evaluate, first_answers, kept_and_changed


def embeddings(seed: int, n: int = 50, m: int = 30, d: int = 7) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    source = torch.randint(0, m, (n,), generator=rng)
    gallery = torch.randn(m, d, generator=rng) * torch.rand(m, 1, generator=rng)
    return gallery[source] + 0.3 * torch.randn(n, d, generator=rng), gallery, source


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_first_answers_are_those_of_a_loop(seed):
    query, gallery, source = embeddings(seed)
    found = first_answers(query, gallery, exclude=source)
    for q, s, answer in zip(query, source.tolist(), found.tolist(), strict=True):
        scores = [float(F.cosine_similarity(q, g, dim=0)) for g in gallery]
        assert answer == max((i for i in range(len(gallery)) if i != s), key=scores.__getitem__)
    assert (first_answers(query, gallery) == source).float().mean() > 0.5  # the source itself, when it may be


def test_first_answers_agree_with_recall_at_1():
    query, gallery, source = embeddings(3)
    target = (source + 1) % 30
    query = query + 0.7 * gallery[target]
    right = (first_answers(query.numpy(), gallery.numpy(), exclude=source.numpy()) == target).float().mean()
    found = evaluate(query, gallery, relevant=target, exclude=source)["R@1"]
    assert 0.1 < found < 0.9
    assert float(right) == pytest.approx(found)


def test_blocks_of_queries_change_nothing(monkeypatch):
    query, gallery, source = embeddings(4, n=300)
    whole = first_answers(query, gallery, exclude=source)
    blocks = lambda n, m: [slice(i, min(i + 7, n)) for i in range(0, n, 7)]  # noqa: E731
    monkeypatch.setattr("commonspace.metrics.composed.row_blocks", blocks)
    assert torch.equal(first_answers(query, gallery, exclude=source), whole)


def by_loops(attributes, source, target, answer) -> dict[str, float]:
    kept, changed = [], []
    for s, t, f in zip(source, target, answer, strict=True):
        stay = [a for a in range(attributes.shape[1]) if attributes[s, a] == attributes[t, a]]
        change = [a for a in range(attributes.shape[1]) if attributes[s, a] != attributes[t, a]]
        if stay:
            kept.append(sum(attributes[f, a] == attributes[t, a] for a in stay) / len(stay))
        if change:
            changed.append(sum(attributes[f, a] == attributes[t, a] for a in change) / len(change))
    return {"kept": np.mean(kept), "changed": np.mean(changed)}


@pytest.mark.parametrize("seed", range(5))
def test_kept_and_changed_are_those_of_loops(seed):
    rng = np.random.default_rng(seed)
    attributes = rng.integers(0, 2 if seed % 2 else 5, (20, 3))
    source, target, answer = rng.integers(0, 20, (3, 40))
    found = kept_and_changed(attributes, source, target, answer)
    assert found == pytest.approx(by_loops(attributes, source, target, answer), abs=1e-12)
    assert kept_and_changed(torch.from_numpy(attributes).to(torch.int8), source, target, answer) == found


def test_the_corners():
    """Attributes: colour, shape, place. The query: the same in red."""
    attributes = torch.tensor([[0, 5, 7], [1, 5, 7], [1, 6, 8], [0, 5, 8]])
    ask = {"source": [0], "target": [1]}
    assert kept_and_changed(attributes, **ask, answer=[1]) == {"kept": 1, "changed": 1}
    assert kept_and_changed(attributes, **ask, answer=[2]) == {"kept": 0, "changed": 1}  # deaf to the picture
    assert kept_and_changed(attributes, **ask, answer=[3]) == {"kept": 0.5, "changed": 0}  # deaf to the text
    twice = {"source": [0, 3], "target": [1, 2]}
    assert kept_and_changed(attributes, **twice, answer=[1, 3]) == {"kept": 1, "changed": 0.5}


def test_a_query_counts_only_where_something_could_be_kept_or_changed():
    attributes = torch.tensor([[0, 0], [0, 1], [5, 5]])
    found = kept_and_changed(attributes, [0, 0], [1, 2], [2, 2])  # in the second query nothing stays
    assert found == {"kept": 0, "changed": 0.5}
    with pytest.raises(ValueError, match="no query in which an attribute could be changed"):
        kept_and_changed(attributes, [0], [0], [1])
    with pytest.raises(ValueError, match="no query in which an attribute could be kept"):
        kept_and_changed(attributes, [0], [2], [1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attributes": torch.rand(4, 3)}, "attributes must be whole numbers"),
        ({"attributes": torch.ones(4, dtype=torch.long)}, "attributes must be whole numbers"),
        ({"answer": [0, 4]}, r"answer must be ids \(n,\), 0 to 3"),
        ({"source": [-1, 0]}, "source must be ids"),
        ({"target": [0.0, 1.0]}, "target must be ids"),
        ({"target": [True, False]}, "target must be ids"),
        ({"answer": [0, 1, 2]}, "one id a query; got {'source': 2, 'target': 2, 'answer': 3}"),
        ({"source": [], "target": [], "answer": []}, "source must be ids"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    given = {"attributes": torch.arange(12).reshape(4, 3), "source": [0, 1], "target": [1, 2], "answer": [2, 3]}
    with pytest.raises(ValueError, match=message):
        kept_and_changed(**(given | change))


def test_first_answers_refuse_what_does_not_fit():
    query, gallery, source = embeddings(5)
    with pytest.raises(ValueError, match="must have the same width"):
        first_answers(query[:, :4], gallery)
    with pytest.raises(ValueError, match="exclude gives query 0 the id 30"):
        first_answers(query, gallery, exclude=source * 0 + 30)
    with pytest.raises(ValueError, match="leaves query 1 no gallery at all"):
        first_answers(query[:2], gallery[:2], exclude=[[0], [0, 1]])
    with pytest.raises(ValueError, match="NaN or infinite"):
        first_answers(query * torch.nan, gallery)
