#!/usr/bin/env python3
"""Converts a network that slim has exported to ONNX, and shows that ONNX Runtime computes the same.

    python3 -m venv .venv
    .venv/bin/pip install torch==2.11.0 safetensors onnx onnxruntime
    .venv/bin/python examples/python/to_onnx.py target/serving/resnet50.pt

It writes FILE.onnx beside FILE.pt; the batch is free. FILE.safetensors holds a sample, `input`, and the outputs that Rust has computed of it, `output`.
"""

import argparse
import sys
from pathlib import Path

import onnx
import onnxruntime
import torch
from safetensors.torch import load_file

from serve import compared


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="what `export::torch_script` has written")
    file = parser.parse_args().file
    sample = load_file(file.with_suffix(".safetensors"))
    images, expected = sample["input"], sample["output"]

    target = file.with_suffix(".onnx")
    batch = {0: "batch"}
    # The exporter that takes TorchScript; the newer one takes Python modules alone.
    torch.onnx.export(
        torch.jit.load(file),
        (images,),
        target,
        input_names=["input"],
        output_names=["output"],
        dynamic_axes={"input": batch, "output": batch},
        dynamo=False,
    )
    onnx.checker.check_model(target, full_check=True)

    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])

    def run(images):
        return torch.from_numpy(session.run(None, {"input": images.numpy()})[0])

    compared("ONNX Runtime", expected, run(images))
    compared("ONNX Runtime, one by one", expected, torch.cat([run(image[None]) for image in images]))
    print(f"wrote {target} ({target.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    sys.exit(main())
