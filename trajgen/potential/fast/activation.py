"""The hyperbolic tangent of many numbers at once."""

import numpy as np
from jaxtyping import Float32

from trajgen.potential.fast.compiling import kernel

#: Beyond this tanh is one to single precision.
_SATURATION = np.float32(7.90531110763549805)
_ONE = np.float32(1)
# The rational function of Eigen's single-precision tanh: odd numerator, even denominator.
_A1, _A3 = np.float32(4.89352455891786e-03), np.float32(6.37261928875436e-04)
_A5, _A7 = np.float32(1.48572235717979e-05), np.float32(5.12229709037114e-08)
_A9, _A11 = np.float32(-8.60467152213735e-11), np.float32(2.00018790482477e-13)
_A13 = np.float32(-2.76076847742355e-16)
_B0, _B2 = np.float32(4.89352518554385e-03), np.float32(2.26843463243900e-03)
_B4, _B6 = np.float32(1.18534705686654e-04), np.float32(1.19825839466702e-06)


@kernel
def add_bias_and_tanh(
    rows: Float32[np.ndarray, "rows columns"], begin: int, bias: Float32[np.ndarray, " width"]
) -> None:
    """Replace x by tanh(x + bias) in as many columns from ``begin`` on as there are biases.

    A rational function with an error of a few 1e-7, without branches: it compiles to vector
    instructions.
    """
    for row in range(rows.shape[0]):
        line = rows[row, begin : begin + bias.shape[0]]
        for column in range(bias.shape[0]):
            x = line[column] + bias[column]
            x = min(max(x, -_SATURATION), _SATURATION)
            square = x * x
            top = _A9 + square * (_A11 + square * _A13)
            top = _A1 + square * (_A3 + square * (_A5 + square * (_A7 + square * top)))
            line[column] = x * top / (_B0 + square * (_B2 + square * (_B4 + square * _B6)))


@kernel
def multiply_by_slope(
    outputs: Float32[np.ndarray, "rows columns"],
    begin: int,
    width: int,
    gradient: Float32[np.ndarray, "rows columns"],
) -> None:
    """Multiply ``width`` columns of a gradient by the slope 1 - y² of y = tanh(x)."""
    for row in range(outputs.shape[0]):
        line, by_line = outputs[row, begin : begin + width], gradient[row, begin : begin + width]
        for column in range(width):
            by_line[column] *= _ONE - line[column] * line[column]
