"""Products of matrices inside compiled code, by the BLAS that SciPy brings along.

``numpy.dot`` in compiled code takes whole contiguous matrices only; here both factors and the
result may be columns of a wider matrix, and the result may be added to what is there.
"""

from typing import Any

import numpy as np
from jaxtyping import Float32
from llvmlite import ir
from numba import types
from numba.extending import get_cython_function_address, intrinsic
from threadpoolctl import ThreadpoolController

from trajgen.potential.fast.compiling import kernel


def sgemm_address() -> int:
    """Return where ``sgemm`` of SciPy's BLAS lies; compiled code takes it as an argument."""
    return int(get_cython_function_address("scipy.linalg.cython_blas", "sgemm"))


class OneBlasThread:
    """While entered, products take one thread each: kernels run side by side, a thread each."""

    def __init__(self) -> None:
        self._libraries = ThreadpoolController().select(user_api="blas").lib_controllers
        self._before: list[int] = []

    def __enter__(self) -> None:
        self._before = [library.get_num_threads() for library in self._libraries]
        self._set([1] * len(self._libraries))

    def __exit__(self, *error: object) -> None:
        self._set(self._before)

    def _set(self, threads: list[int]) -> None:
        for library, number in zip(self._libraries, threads, strict=True):
            if library.get_num_threads() != number:
                library.set_num_threads(number)


def _type_sgemm(
    typing_context: Any, address: Any, transposed: Any, m: Any, n: Any, k: Any,
    a: Any, lda: Any, b: Any, ldb: Any, beta: Any, c: Any, ldc: Any,
) -> Any:  # fmt: skip
    """Call sgemm, of Fortran order: C[m, n] = op(A) B + beta C; matrices are addresses."""
    signature = types.void(
        types.int64, types.boolean, *[types.int64] * 7, types.float32, types.int64, types.int64
    )

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, transposed, m, n, k, a, lda, b, ldb, beta, c, ldc = arguments
        byte, integer, real = ir.IntType(8), ir.IntType(32), ir.FloatType()

        def reference(value: Any) -> Any:
            slot = builder.alloca(value.type)
            builder.store(value, slot)
            return slot

        def number(value: Any) -> Any:
            return reference(builder.trunc(value, integer))

        def matrix(value: Any) -> Any:
            return builder.inttoptr(value, real.as_pointer())

        letter = builder.select(
            context.cast(builder, transposed, types.boolean, types.boolean),
            ir.Constant(byte, ord("T")),
            ir.Constant(byte, ord("N")),
        )
        values = [
            reference(letter), reference(ir.Constant(byte, ord("N"))),
            number(m), number(n), number(k), reference(ir.Constant(real, 1.0)),
            matrix(a), number(lda), matrix(b), number(ldb), reference(beta),
            matrix(c), number(ldc),
        ]  # fmt: skip
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        builder.call(builder.inttoptr(address, kind.as_pointer()), values)
        return context.get_dummy_value()

    return signature, generate


_sgemm: Any = intrinsic(_type_sgemm)


@kernel
def multiply(
    sgemm: int,
    left: Float32[np.ndarray, "rows inner"],
    right: Float32[np.ndarray, "inner columns"],
    transposed: bool,
    keep: float,
    product: Float32[np.ndarray, "rows columns"],
) -> None:
    """Set product = left · right + keep · product; ``right`` is given transposed if so said.

    Elements of a row lie side by side in all three; rows may be apart.
    """
    # A matrix in the order of C is its transpose in the order of Fortran.
    _sgemm(
        sgemm,
        transposed,
        product.shape[1],
        left.shape[0],
        left.shape[1],
        right.ctypes.data,
        right.strides[0] // 4,
        left.ctypes.data,
        left.strides[0] // 4,
        np.float32(keep),
        product.ctypes.data,
        product.strides[0] // 4,
    )
