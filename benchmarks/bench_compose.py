"""Evaluation of composed queries beside loops in the style of released code: python benchmarks/bench_compose.py

82,732 queries and a gallery of 10,546 pictures, as many as the test split of MIT-States has, with 512 numbers each; 395
captions, so that about 27 answers are right, as there. An answer is right if its caption is the one asked for; the
source is no answer. The loops take the queries one at a time: a product with the gallery, a full argsort, and texts
compared. One compares those of all answers, as the median rank and mAP need it; the other gives recalls alone and looks
up the first 110. They are timed on a part of the queries: a query's time times the number of queries is their time. On
that part all must find the same.
"""

import _bench
import numpy as np
import torch
from torch.nn.functional import normalize

from commonspace.metrics import evaluate

KS = (1, 5, 10, 50, 100)
SHOWN = 110  # answers whose captions the loop looks up


def embeddings(n_query: int, n_gallery: int, dim: int, n_captions: int, seed: int = 0) -> dict:
    """Unit rows of queries and gallery, the caption of each picture, each query's source and the caption asked for."""
    rng = torch.Generator().manual_seed(seed)
    means = torch.randn(n_captions, dim, generator=rng)
    kind = torch.arange(n_gallery) % n_captions
    source = torch.randint(n_gallery, (n_query,), generator=rng)
    asked = torch.randint(n_captions, (n_query,), generator=rng)
    gallery = normalize(0.4 * means[kind] + torch.randn(n_gallery, dim, generator=rng))
    query = normalize(0.3 * means[asked] + gallery[source] + torch.randn(n_query, dim, generator=rng))
    names = [f"adjective {i % 23} noun {i // 23}" for i in range(n_captions)]
    return {"query": query, "gallery": gallery, "kind": kind, "source": source, "asked": asked, "names": names}


def ours(query, gallery, kind, source, asked, names) -> dict[str, float]:
    pictures = [torch.nonzero(kind == i)[:, 0].tolist() for i in range(len(names))]
    return evaluate(query, gallery, relevant=[pictures[i] for i in asked.tolist()], exclude=source, ks=KS)


def ranked(query, gallery, source):
    """Of one query after the other, its answers from the best to the worst."""
    query, gallery = query.numpy(), gallery.numpy()
    for i, left_out in enumerate(source.tolist()):
        sims = query[i : i + 1].dot(gallery.T)[0]
        sims[left_out] = -1e11
        yield np.argsort(-sims)


def by_a_loop(query, gallery, kind, source, asked, names) -> dict[str, float]:
    captions, wanted = [names[i] for i in kind.tolist()], [names[i] for i in asked.tolist()]
    ranks, precisions = [], []
    for caption, order in zip(wanted, ranked(query, gallery, source), strict=True):
        right = [captions[i] == caption for i in order[:-1]]  # the source is last
        places = np.flatnonzero(right)
        ranks.append(places[0])
        precisions.append((np.arange(1, len(places) + 1) / (places + 1)).mean())
    recalls = {f"R@{k}": float(np.mean(np.array(ranks) < k)) for k in KS}
    return recalls | {"median_rank": int(np.median(ranks)) + 1, "mAP": float(np.mean(precisions))}


def recalls_by_a_loop(query, gallery, kind, source, asked, names) -> dict[str, float]:
    captions, wanted = [names[i] for i in kind.tolist()], [names[i] for i in asked.tolist()]
    hits = np.zeros(len(KS))
    for caption, order in zip(wanted, ranked(query, gallery, source), strict=True):
        first = [captions[i] for i in order[:SHOWN]]
        hits += [caption in first[:k] for k in KS]
    return {f"R@{k}": float(hit) / len(query) for k, hit in zip(KS, hits, strict=True)}


METHODS = {"commonspace": ours, "a loop": by_a_loop, "a loop, recalls alone": recalls_by_a_loop}


def compare(n_query: int, n_gallery: int, dim: int, n_captions: int, part: int, repeats: int) -> list[dict]:
    """Rows of the table: all queries by ours, ``part`` of them by the loops."""
    data = embeddings(n_query, n_gallery, dim, n_captions)
    some = data | {name: data[name][:part] for name in ("query", "source", "asked")}
    found = {name: method(**some) for name, method in METHODS.items()}
    for measure in found["commonspace"]:
        _bench.same({name: values[measure] for name, values in found.items() if measure in values}, within=1e-6)
    timed = {name: n_query if name == "commonspace" else part for name in METHODS}
    given = {name: data if name == "commonspace" else some for name in METHODS}
    rows = _bench.race({name: lambda name=name: METHODS[name](**given[name]) for name in METHODS}, repeats)
    for row in rows:
        row["seconds"] *= n_query / timed[row["method"]]
        row["ratio"] = row["seconds"] / rows[0]["seconds"]
    sizes = {"queries": n_query, "gallery": n_gallery, "dim": dim}
    return [sizes | row | {"timed on": timed[row["method"]], "R@10": found[row["method"]]["R@10"]} for row in rows]


def run(tiny: bool = False) -> list[dict]:
    if tiny:
        return compare(300, 200, 16, 20, part=100, repeats=2)
    return compare(82_732, 10_546, 512, 395, part=2_000, repeats=3)


if __name__ == "__main__":
    title = "Evaluation of composed queries; the loops' seconds are those of a part of the queries, scaled"
    _bench.main("compose", title, run, peers=("numpy",))
