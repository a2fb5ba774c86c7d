"""Liger's operations against plain PyTorch: written down once more, and compared on any device.

TRITON_INTERPRET=1 python -m tests.operations      # Liger's kernels on a CPU, by Triton's interpreter
"""

import contextlib
import dataclasses
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from models.load import load_checkpoint
from models.streaming.rotary import rotate
from models.training.liger import Operations, exchange_all, liger_operations
from tests.tiny import make_tiny_checkpoint


def rms_norm(rows, weight, eps):
    return weight * rows * torch.rsqrt(rows.pow(2).mean(-1, keepdim=True) + eps)


def silu_mul(gate, up):
    return gate * torch.sigmoid(gate) * up


def rotate_by_sections(query, key, cos, sin, sections):
    axes = torch.repeat_interleave(torch.arange(3), torch.tensor(sections)).repeat(2)  # [D]
    cos, sin = (part[axes, ..., torch.arange(len(axes))].permute(1, 2, 0)[:, None] for part in (cos, sin))
    return rotate(query, cos, sin), rotate(key, cos, sin)


def layer_norm(rows, weight, bias, eps):
    centred = rows - rows.mean(-1, keepdim=True)
    return weight * centred * torch.rsqrt(centred.pow(2).mean(-1, keepdim=True) + eps) + bias


WRITTEN_DOWN = Operations(rms_norm, silu_mul, rotate_by_sections, layer_norm)


def inputs_of(name: str, device: str, dtype: torch.dtype) -> list:
    """Arguments of an operation, those that are trained with gradients. B = 2, T = 9, H = 96, D = 32."""
    generator = torch.Generator().manual_seed(len(name))

    def random(*shape: int, offset: float = 0.0) -> Tensor:
        values = torch.randn(shape, generator=generator) + offset
        return values.to(device, dtype).requires_grad_()

    if name == "rms_norm":
        return [random(2, 9, 96), random(96, offset=1.0), 1e-6]
    if name == "layer_norm":
        return [random(2, 9, 96), random(96, offset=1.0), random(96), 1e-6]
    if name == "silu_mul":
        return [random(2, 9, 96), random(2, 9, 96)]
    positions = torch.randint(0, 50, (3, 2, 9), generator=generator)
    angle = positions[..., None] * 0.7 ** torch.arange(16)
    angle = torch.cat((angle, angle), dim=-1).to(device)
    # As the attention gives them: heads in the place of the second axis, rows as the projection wrote them.
    query, key = (random(2, 9, heads, 32).transpose(1, 2) for heads in (6, 2))
    return [query, key, angle.cos().to(dtype), angle.sin().to(dtype), [4, 6, 6]]


def results_of(operations: Operations, name: str, device: str, dtype: torch.dtype) -> list[Tensor]:
    """An operation's outputs, and the gradients of a weighted sum of them."""
    arguments = inputs_of(name, device, dtype)
    # A copy: the rotation writes into what it is given.
    given = [a.clone() if isinstance(a, Tensor) and a.requires_grad else a for a in arguments]
    outputs = getattr(operations, name)(*given)
    outputs = list(outputs) if isinstance(outputs, tuple) else [outputs]
    weights = [torch.linspace(-1, 1, o.numel(), device=device).view(o.shape).to(dtype) for o in outputs]
    found = [output.detach().clone() for output in outputs]
    trained = [a for a in arguments if isinstance(a, Tensor) and a.requires_grad]
    gradients = torch.autograd.grad(outputs, trained, grad_outputs=weights)
    return [*found, *gradients]


def compare(name: str, device: str, dtype: torch.dtype = torch.float32) -> None:
    """AssertionError unless Liger's operation gives what is written down, within the dtype's rounding."""
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 3e-2, "atol": 3e-2}
    expected = results_of(WRITTEN_DOWN, name, device, dtype)
    for one, other in zip(results_of(liger_operations(), name, device, dtype), expected, strict=True):
        torch.testing.assert_close(one, other, **tolerance)


def compare_models(folder: Path, device: str) -> None:
    """AssertionError unless a whole model with every operation exchanged gives the eager losses and gradients.

    A batch of three samples, one of them without a supervised token, whose losses count differently.
    """
    generator = torch.Generator().manual_seed(5)
    ids, labels = torch.randint(0, 50, (2, 3, 9), generator=generator)
    labels[0, :4], labels[1] = -100, -100
    positions = torch.randint(0, 9, (3, 3, 9), generator=generator)
    patches = torch.randint(0, 256, (16, 1176), dtype=torch.uint8, generator=generator)
    found = []
    for exchanged in (False, True):
        model = load_checkpoint(folder, device=device, dtype="float32").model.train()
        if exchanged:
            exchange_all(model, liger_operations())
            model.use_liger = True  # the fused loss too
        shown = ids.clone()
        shown[0, 1:5] = model.config.video_token_id
        batch = {"input_ids": shown, "labels": labels, "position_ids": positions, "patches": patches}
        batch = {key: value.to(device) for key, value in batch.items()}
        output = model(**batch, grid_thw=torch.tensor([[1, 4, 4]]), supervised=[5, 0, 8], loss_weights=[0.1, 5.0, 0.05])
        output.loss.backward()
        assert (output.logits is None) == exchanged  # Liger's loss makes none
        losses = {"loss": output.loss.detach(), "losses by sample": output.sample_losses}
        found.append({**losses, **{name: p.grad for name, p in model.named_parameters()}})
    for name, expected in found[0].items():
        torch.testing.assert_close(
            found[1][name], expected, rtol=1e-3, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}"
        )


@contextlib.contextmanager
def what_the_interpreter_lacks() -> Iterator[None]:
    """Let Triton's interpreter run Liger's kernels: floats reach them as tensors, as they do when compiled, the GPU
    library's rsqrt is Triton's own, and bfloat16, which it keeps as integers, is computed with as numbers."""
    from triton import language
    from triton.runtime import interpreter

    convert = interpreter._implicit_cvt

    def converted(argument: object) -> object:
        if not isinstance(argument, float):
            return convert(argument)
        handle = interpreter.TensorHandle(np.array([argument], np.float32), language.float32)
        return language.tensor(handle, language.float32)

    builder = interpreter.InterpreterBuilder
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(interpreter, "_implicit_cvt", converted))
        for name in ("unary_op", "binary_op", "create_fma"):
            stack.enter_context(mock.patch.object(builder, name, _with_bfloat16(getattr(builder, name))))
        for norm in ("rms_norm", "layer_norm"):
            stack.enter_context(mock.patch(f"liger_kernel.ops.{norm}.rsqrt", lambda x: language.rsqrt(x)))
        yield


def _with_bfloat16(operation: Callable) -> Callable:
    """The interpreter's operation, which on bfloat16 is computed in float32 and rounded, as a GPU does."""
    from triton import language
    from triton.runtime.interpreter import TensorHandle

    def widened(value: object) -> object:
        if not isinstance(value, TensorHandle) or value.dtype.scalar != language.bfloat16:
            return value
        return TensorHandle((value.data.astype(np.uint32) << 16).view(np.float32), language.float32)

    def computed(builder: object, *arguments: object) -> object:
        wide = [widened(argument) for argument in arguments]
        result = operation(builder, *wide)
        if all(one is other for one, other in zip(wide, arguments, strict=True)) or result.data.dtype != np.float32:
            return result
        rounded = torch.from_numpy(np.ascontiguousarray(result.data)).bfloat16().view(torch.int16).numpy()
        return TensorHandle(rounded.view(np.uint16), language.bfloat16)

    return computed


@contextlib.contextmanager
def interpreted_liger(seen: Counter) -> Iterator[None]:
    """Let a run of train.py on a CPU take Liger's operations, interpreted; every call of one is counted by name."""
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    def counted(name: str, operation: Callable) -> Callable:
        def call(*arguments: object) -> object:
            seen[name] += 1
            return operation(*arguments)

        return call

    real, loss = liger_operations(), LigerFusedLinearCrossEntropyLoss.forward
    operations = Operations(**{f.name: counted(f.name, getattr(real, f.name)) for f in dataclasses.fields(real)})
    with what_the_interpreter_lacks(), contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch("models.training.trainer.why_not_liger", lambda device: None))
        stack.enter_context(mock.patch("models.training.trainer.liger_operations", lambda: operations))
        stack.enter_context(mock.patch.object(LigerFusedLinearCrossEntropyLoss, "forward", counted("loss", loss)))
        yield


def main() -> None:
    """Compare everything on the CPU; print what was compared."""
    with what_the_interpreter_lacks():
        compare_all()


def compare_all() -> None:
    """Every operation, then a model."""
    for name in ("rms_norm", "silu_mul", "rotate", "layer_norm"):
        for dtype in (torch.float32, torch.bfloat16):
            compare(name, "cpu", dtype)
        print(name)
    with tempfile.TemporaryDirectory() as folder:
        compare_models(make_tiny_checkpoint(Path(folder)), "cpu")
    print("model")


if __name__ == "__main__":
    main()
