"""How fast this processor multiplies matrices, `python -m trainer.bench.matrix_rate PRECISION THREADS`; prints JSON."""

import json
import sys
import time

import torch

from trainer.model import products

SIZE = 2048
"""Rows and columns; large enough that the product is all that counts."""
TIMES = 12
"""Products, of which the fastest counts."""


def main() -> None:
    """Measures by the library that training takes."""
    precision, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    left, right = (torch.randn(SIZE, SIZE).to(getattr(torch, precision)) for _ in range(2))
    fastest = float("inf")
    with torch.inference_mode():
        for _ in range(TIMES):
            began = time.perf_counter()
            products.product(left, right)
            fastest = min(fastest, time.perf_counter() - began)
    print(json.dumps({"flops_per_second": 2 * SIZE**3 / fastest, "size": f"{SIZE} x {SIZE}"}))


if __name__ == "__main__":
    main()
