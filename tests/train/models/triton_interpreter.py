"""Triton's interpreter (TRITON_INTERPRET=1), so that Liger's kernels run on a CPU with the arithmetic of a GPU.

As it is, the interpreter (3.9) multiplies the bits of bf16 numbers as integers, cuts fp32 to
bf16 instead of rounding it, passes Python's floats without a type and has no functions of libdevice.
"""

import liger_kernel.ops.rms_norm as liger_rms_norm
import numpy as np
import torch
import triton
import triton.language as tl
from triton.runtime import interpreter

Handle, Builder = interpreter.TensorHandle, interpreter.InterpreterBuilder


@triton.jit
def rsqrt(x):
    return tl.rsqrt(x)


def rounding(cast):
    """fp32 to bf16 by rounding to the nearest, as a GPU does."""

    def convert(self, source, kind):
        if (source.dtype.scalar, kind.scalar) != (tl.float32, tl.bfloat16):
            return cast(self, source, kind)
        rounded = torch.from_numpy(np.ascontiguousarray(source.data)).bfloat16()
        return Handle(rounded.view(torch.int16).numpy().view(np.uint16), tl.bfloat16)

    return convert


def in_fp32(operation):
    """bf16 operands are widened and the result is rounded."""

    def compute(self, *operands):
        *handles, function = operands
        if handles[0].dtype.scalar != tl.bfloat16:
            return operation(self, *operands)
        wide = [self.cast_impl(handle, tl.float32) for handle in handles]
        return self.cast_impl(operation(self, *wide, function), tl.bfloat16)

    return compute


def typed_floats(convert):
    def typed(argument):
        if not isinstance(argument, float):
            return convert(argument)
        return tl.tensor(Handle(np.array([argument], dtype=np.float32), tl.float32), tl.float32)

    return typed


def correct() -> None:
    """Make the interpreter compute as a GPU; once a process."""
    if liger_rms_norm.rsqrt is rsqrt:
        return
    liger_rms_norm.rsqrt = rsqrt
    Builder.cast_impl = rounding(Builder.cast_impl)
    Builder.binary_op, Builder.unary_op = in_fp32(Builder.binary_op), in_fp32(Builder.unary_op)
    interpreter._implicit_cvt = typed_floats(interpreter._implicit_cvt)
