"""Products with matrices whose entries lie about a diagonal: filterbanks, and what undoes them."""

from itertools import pairwise

import torch
from torch import Tensor, nn

PARTS = 4  # of the columns; more are smaller products, of which each is slower
NOTHING = 1e-7  # of the largest entry: what is smaller is lost in rounding anyway


class Banded(nn.Module):
    """`x @ matrix`, `[..., rows]` -> `[..., columns]`. On a CPU without gradients, only the rows that count for each
    quarter of the columns are multiplied: half of the time for the mel of 128 bands."""

    matrix: Tensor

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix, persistent=False)
        self.parts: list[tuple[slice, slice]] = []
        edges = [matrix.shape[1] * i // PARTS for i in range(PARTS + 1)]
        counts = matrix.abs() > NOTHING * matrix.abs().max()
        for low, high in pairwise(edges):
            rows = counts[:, low:high].any(dim=1).nonzero().flatten().tolist() or [0]
            self.parts.append((slice(rows[0], rows[-1] + 1), slice(low, high)))

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or torch.is_grad_enabled():
            return x @ self.matrix
        flat = x.reshape(-1, x.shape[-1])
        out = x.new_empty(len(flat), self.matrix.shape[1])
        for rows, columns in self.parts:
            torch.mm(flat[:, rows], self.matrix[rows, columns], out=out[:, columns])
        return out.view(*x.shape[:-1], -1)
