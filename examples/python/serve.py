#!/usr/bin/env python3
"""Loads a network that slim has exported into PyTorch, and shows that it computes what it did in Rust.

    cargo run -p slim-examples --example serving
    .venv/bin/python examples/python/serve.py target/serving/resnet50.pt

Beside FILE.pt it reads FILE.safetensors: the sample, `input`, and the outputs that Rust has computed of it, `output`.
"""

import argparse
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file


def compared(name, expected, found):
    """Prints how far two outputs are apart, which may be no more than sums in another order make of it."""
    difference = (expected - found).abs().max().item()
    print(f"{name}: outputs (up to {expected.abs().max():.3g}) differ by {difference:.1e} at most")
    assert difference <= 1e-4 * expected.abs().max(), f"{name} is another network"


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="what `export::torch_script` has written")
    file = parser.parse_args().file
    sample = load_file(file.with_suffix(".safetensors"))
    images, expected = sample["input"], sample["output"]

    net = torch.jit.load(file)
    for _ in range(3):  # TorchScript optimises a module in its first runs
        compared("PyTorch", expected, net(images))
    compared("PyTorch, one by one", expected, torch.cat([net(image[None]) for image in images]))
    compared("PyTorch, optimized for inference", expected, torch.jit.optimize_for_inference(torch.jit.freeze(net.eval()))(images))


if __name__ == "__main__":
    sys.exit(main())
