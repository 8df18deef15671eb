"""What a composed query's first answer kept of the source, and what it changed as asked.

A query shows a source picture and asks for a target that differs from it in some attributes. Right or wrong is little
to know of an answer: one that ignores the text keeps everything and changes nothing, one that ignores the picture
changes and keeps nothing. With a_s, a_t, a_f the attributes of source, target and first answer,

    kept    = share of the attributes with a_s = a_t for which a_f = a_t,
    changed = share of the attributes with a_s != a_t for which a_f = a_t,

for each query, then the mean over queries.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from commonspace.metrics.retrieval import Items, as_tensor, double, read_matrix, row_blocks


def first_answers(query_emb: Any, gallery_emb: Any, exclude: Any = None) -> Tensor:
    """The gallery item with the highest cosine, (n_query,) int64, never an excluded one; of equal ones the first.

    ``query_emb`` (n_query, d), ``gallery_emb`` (n_gallery, d). ``exclude``: per query the ids that are left out, such
    as (n_query,) source pictures; see `ranks`. Raises ValueError for embeddings that do not fit, ids out of range, and
    a query whose gallery is excluded as a whole.
    """
    query = read_matrix(query_emb, "query_emb", "(n_query, d)")
    gallery = read_matrix(gallery_emb, "gallery_emb", "(n_gallery, d)").to(query.device)
    if query.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"query_emb {tuple(query.shape)} and gallery_emb {tuple(gallery.shape)} must have the same width"
        )
    shape = len(query), len(gallery)
    exclude = None if exclude is None else Items(exclude, "exclude", *shape, query.device)
    dtype = torch.promote_types(query.dtype, gallery.dtype)
    query, gallery = F.normalize(query.to(dtype), dim=1), F.normalize(gallery.to(dtype), dim=1)
    found = []
    for rows in row_blocks(*shape):
        sim = query[rows] @ gallery.T
        if exclude is not None:
            sim.masked_fill_(exclude[rows], -torch.inf)
        best = sim.max(dim=1)
        if best.values.isneginf().any():
            first = rows.start + int(best.values.isneginf().nonzero()[0])
            raise ValueError(f"exclude leaves query {first} no gallery at all")
        found.append(best.indices)
    return torch.cat(found)


def kept_and_changed(attributes: Any, source: Any, target: Any, answer: Any) -> dict[str, float]:
    """{"kept": share, "changed": share}, both in [0, 1], as the module defines them.

    ``attributes``: (m, a) whole numbers, the attributes of m pictures, equal where they agree. ``source``, ``target``,
    ``answer``: (n,) int64 rows of it. A query in which no attribute stays does not count for "kept", one in which none
    changes not for "changed". Raises ValueError for other shapes and types, ids out of range, and if a share has no
    query at all.
    """
    attributes = as_tensor(attributes, "attributes")
    if attributes.ndim != 2 or attributes.is_floating_point() or not attributes.numel():
        raise ValueError(
            f"attributes must be whole numbers (m, a), a row a picture; got {attributes.dtype} "
            f"{tuple(attributes.shape)}"
        )
    of = {}
    for name, ids in (("source", source), ("target", target), ("answer", answer)):
        ids = as_tensor(ids, name).to(attributes.device)
        whole = not ids.is_floating_point() and ids.dtype != torch.bool
        if ids.ndim != 1 or not whole or not len(ids) or int(ids.min()) < 0 or int(ids.max()) >= len(attributes):
            raise ValueError(
                f"{name} must be ids (n,), 0 to {len(attributes) - 1}; got {ids.dtype} {tuple(ids.shape)}: "
                f"{ids[:5].tolist()}"
            )
        of[name] = attributes[ids.long()]
    if not of["source"].shape == of["target"].shape == of["answer"].shape:
        lengths = {name: len(rows) for name, rows in of.items()}
        raise ValueError(f"source, target and answer must have one id a query; got {lengths}")
    stays, right = of["source"] == of["target"], of["answer"] == of["target"]
    shares = {}
    for name, counted in (("kept", stays), ("changed", ~stays)):
        n = counted.sum(dim=1)
        if not n.any():
            raise ValueError(f"there is no query in which an attribute could be {name}: look at the attributes")
        each = double((right & counted).sum(dim=1)) / double(n).clamp(min=1)
        shares[name] = float(each[(n > 0).to(each.device)].mean())
    return shares
