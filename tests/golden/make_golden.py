#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Makes the golden files of this folder by PyTorch (Debian: python3-torch, python3-numpy).

layer_norm, rms_norm        x, scale, shift, dy in every dtype at awkward sizes; y, dx, dscale and
                            dshift of exactly these, computed in float64, and kept as F64 for
                            double, rounded once to F32 for the rest. (PyTorch has no LayerNorm of
                            half on the CPU.) Names: bfloat16.17.x, bfloat16.17.dscale, ...
encoder_pre, encoder_post   nn.TransformerEncoderLayer with norm_first true and false, in float64:
                            its state_dict, x, dy, y, dx and the gradients of its two norms
                            (norm1.weight.grad, ...)

PyTorch has nn.RMSNorm from 2.4 on; without it, its formula is written out here and differentiated
by autograd. The tests are tests/checkpoint/golden_*.cpp.
"""
import json
import pathlib
import struct

import torch

FOLDER = pathlib.Path(__file__).parent
EPSILON = 1e-5
SIZES = [(1, 5), (3, 5), (17, 5), (31, 5), (33, 5), (100, 2), (257, 2)]  # channels, tokens
DTYPES = {"double": torch.float64, "float": torch.float32, "half": torch.float16,
          "bfloat16": torch.bfloat16}
NAMES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
BITS = {torch.float64: torch.int64, torch.float32: torch.int32, torch.float16: torch.int16,
        torch.bfloat16: torch.int16}


def save(name, tensors, **metadata):
    header, data = {"__metadata__": {"torch": torch.__version__, **metadata}}, b""
    for key, tensor in tensors.items():
        tensor = tensor.detach().contiguous()
        raw = tensor.view(BITS[tensor.dtype]).numpy().tobytes()
        header[key] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape),
                       "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    (FOLDER / f"{name}.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)


def layer_norm(x, scale, shift):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], scale, shift, EPSILON)


def rms_norm(x, scale, shift):
    if hasattr(torch.nn.functional, "rms_norm"):
        return torch.nn.functional.rms_norm(x, x.shape[-1:], scale, EPSILON) + shift
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPSILON) * scale + shift


def norm_tensors(norm):
    tensors = {}
    for dtype_name, dtype in DTYPES.items():
        for channels, tokens in SIZES:
            random = {
                "x": 0.5 + 1.5 * torch.randn(tokens, channels),
                "scale": 1 + 0.5 * torch.randn(channels),
                "shift": torch.randn(channels),
                "dy": torch.randn(tokens, channels),
            }
            given = {key: tensor.to(dtype) for key, tensor in random.items()}
            exact = {key: tensor.double().requires_grad_() for key, tensor in given.items()}
            y = norm(exact["x"], exact["scale"], exact["shift"])
            y.backward(exact["dy"].detach())
            kept = torch.float64 if dtype == torch.float64 else torch.float32
            results = {"y": y, "dx": exact["x"].grad, "dscale": exact["scale"].grad,
                       "dshift": exact["shift"].grad}
            for key, tensor in (given | {k: t.to(kept) for k, t in results.items()}).items():
                tensors[f"{dtype_name}.{channels}.{key}"] = tensor
    return tensors


def encoder_tensors(norm_first, batch=2, length=5, channels=12, heads=3, hidden=20):
    layer = torch.nn.TransformerEncoderLayer(
        channels, heads, hidden, dropout=0, activation="relu", layer_norm_eps=EPSILON,
        batch_first=True, norm_first=norm_first, dtype=torch.float64)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            spread = 0.5 if parameter.dim() == 1 else 1.5 / parameter.shape[-1] ** 0.5
            centre = 1 if name in ("norm1.weight", "norm2.weight") else 0
            parameter.copy_(centre + spread * torch.randn_like(parameter))
    x = (0.5 + 1.5 * torch.randn(batch, length, channels, dtype=torch.float64)).requires_grad_()
    dy = torch.randn(batch, length, channels, dtype=torch.float64)
    y = layer(x)  # in training mode: the fused inference path is not taken
    y.backward(dy)
    tensors = {"x": x, "dy": dy, "y": y, "dx": x.grad}
    for name, parameter in layer.named_parameters():
        tensors[name] = parameter
        if name.startswith("norm"):
            tensors[name + ".grad"] = parameter.grad
    return tensors


if __name__ == "__main__":
    torch.manual_seed(20)
    torch.set_default_dtype(torch.float64)  # of random numbers, before they are rounded
    torch.set_num_threads(1)
    save("layer_norm", norm_tensors(layer_norm), epsilon=str(EPSILON))
    save("rms_norm", norm_tensors(rms_norm), epsilon=str(EPSILON))
    for name, norm_first in (("encoder_pre", True), ("encoder_post", False)):
        save(name, encoder_tensors(norm_first), epsilon=str(EPSILON), heads="3")
