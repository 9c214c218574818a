"""The one table of tolerances: relative error ``|out - reference| / |reference|`` by dtype, with reasons."""

from __future__ import annotations

from torch import Tensor

RELATIVE = {
    # Rounding of fp32 sums of up to 4k terms; 2e-7 seen.
    "float32": 2e-6,
    # Inputs and output are rounded to 8 bits of mantissa (2^-9 each), and scores where keys are gathered;
    # 2.0e-3 seen on a GPU, 4.4e-3 on a CPU.
    "bfloat16": 6e-3,
    # The same with 11 bits of mantissa, 2^-12 each; 5e-4 seen against a reference in fp32.
    "float16": 1e-3,
}
# Logits of a whole model in fp32: the same sums in another order, through up to 30 layers; 2.6e-5 seen.
LOGITS = 2e-4
# Relative error of a whole model's logits in bfloat16, where the same sums stand in another order: what a
# layer rounds (2^-9) is carried through the others; 1.9e-2 seen with three layers and large random weights.
LOGITS_BFLOAT16 = 3e-2


def relative_error(out: Tensor, reference: Tensor) -> float:
    """Norm of the difference over the norm of the reference; NaN never passes a comparison."""
    return float((out.float() - reference.float()).norm() / reference.float().norm())
