"""Two small data sets that scikit-learn carries: halves of digits, and exercise against physiology."""

import torch

from commonspace.data.samples import PairedFeatures


def digits_halves(n_train: int = 1300, seed: int = 0) -> tuple[PairedFeatures, PairedFeatures]:
    """scikit-learn's 1,797 real 8x8 digits: the left half is the "image", the right half is the "text".

    Returns (train, test): ``n_train`` pairs drawn by ``seed`` (1 <= n_train <= 1,796) and all others. Features (n, 32)
    are grey values in [0, 1], row by row; label = the digit. Source: E. Alpaydin and C. Kaynak, Optical Recognition of
    Handwritten Digits, UCI, 1998 (its test set).
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = torch.from_numpy(digits.images).float() / 16.0  # (1797, 8, 8)
    if not 1 <= n_train < len(pixels):
        raise ValueError(f"n_train must leave both sides a pair: 1 to {len(pixels) - 1}, got {n_train}")
    pairs = PairedFeatures(
        image=pixels[:, :, :4].flatten(1),
        text=pixels[:, :, 4:].flatten(1),
        label=torch.from_numpy(digits.target),
        classes=[str(d) for d in range(10)],
    )
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))
    return pairs[order[:n_train]], pairs[order[n_train:]]


def linnerud() -> PairedFeatures:
    """Linnerud's 20 middle-aged men of a fitness club, the textbook set of CCA; modalities need not be image and text.

    ``image``: (20, 3) chin-ups, sit-ups, jumps. ``text``: (20, 3) weight [pounds], waist [inches], pulse [beats a
    minute]. Source: scikit-learn; M. Tenenhaus, La regression PLS, 1998.
    """
    from sklearn.datasets import load_linnerud

    data = load_linnerud()
    return PairedFeatures(image=torch.from_numpy(data.data), text=torch.from_numpy(data.target))
