"""Codes as points of a plane: sounds of alike timbre lie near each other."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

FEW = 12  # codes for which two principal components do


def lay_out(codes: NDArray[np.floating[Any]], seed: int = 0) -> NDArray[np.float32]:
    """Places `[N, 2]` in [0, 1] of codes `[N, D]`: t-SNE (van der Maaten & Hinton 2008), begun at the first two
    principal components; of a dozen codes or fewer these themselves."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    codes = np.asarray(codes, dtype=np.float64)
    count, size = codes.shape
    if count <= FEW or np.ptp(codes, axis=0).max() < 1e-9:
        place = np.zeros((count, 2))
        if count > 1:
            found = PCA(min(2, count, size)).fit_transform(codes)
            place[:, : found.shape[1]] = found
    else:
        perplexity = min(30.0, (count - 1) / 4)
        place = TSNE(init="pca", perplexity=perplexity, random_state=seed).fit_transform(codes)
    low, high = place.min(axis=0), place.max(axis=0)
    return ((place - low) / np.maximum(high - low, 1e-9)).astype(np.float32)
