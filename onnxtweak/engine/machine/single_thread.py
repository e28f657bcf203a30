"""How is NumPy kept to one core for a while? By a limit on the threads of the BLAS that it has loaded."""

from __future__ import annotations

from contextlib import AbstractContextManager

from threadpoolctl import threadpool_limits


def single_thread() -> AbstractContextManager[object]:
    """Within it, linear algebra takes one thread.

    For many small products: the threads of each wait for one another, spinning, and where other programs need
    the cores that takes many times longer than the product.
    """
    limit: AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limit
