#!/usr/bin/env python3
"""A network from PyTorch to slim and back: save a checkpoint, prune it, load what is left into PyTorch.

    python3 -m venv .venv
    .venv/bin/pip install torch==2.11.0 torchvision safetensors
    .venv/bin/python examples/python/round_trip.py vgg19
    .venv/bin/python examples/python/round_trip.py resnet50

It shows that the kept indices of plan.json are those of pruned.safetensors, bit for bit, and that the pruned network in PyTorch computes what the masked
dense one does. Weights are drawn, with γ as after training with sparsity; `--checkpoint FILE` takes yours.
"""

import argparse
import copy
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from slim_plan import indices, mask_, narrow_, sliced

WORKSPACE = Path(__file__).resolve().parents[2]


class Vgg19(nn.Module):
    """The reference's VGG-19 for 32×32 images."""

    CFG = [64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512, 512, 512, 512]

    def __init__(self, classes=10):
        super().__init__()
        layers, channels = [], 3
        for stage in self.CFG:
            if stage == "M":
                layers.append(nn.MaxPool2d(2, 2))
            else:
                layers += [nn.Conv2d(channels, stage, 3, padding=1, bias=False), nn.BatchNorm2d(stage), nn.ReLU(inplace=True)]
                channels = stage
        self.feature = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x):
        return self.classifier(nn.functional.avg_pool2d(self.feature(x), 2).flatten(1))


def resnet50():
    from torchvision.models import resnet50

    return resnet50(weights=None)


# name: how it is built, what `prune` is told, side of its images
NETWORKS = {
    "vgg19": (Vgg19, ["--arch", "vgg", "--depth", "19"], 32),
    "resnet50": (resnet50, ["--arch", "resnet50"], 224),
}


@torch.no_grad()
def draw_(model):
    """Statistics as after training, and γ as after training with sparsity: half of them near zero."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            gamma = torch.rand_like(module.weight) + 0.2
            module.weight.copy_(torch.where(torch.rand_like(gamma) < 0.5, 1e-4 * gamma, gamma))
            module.bias.normal_(std=0.1)
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)


def milliseconds(model, images):
    times = []
    with torch.no_grad():
        for _ in range(15):
            start = time.perf_counter()
            model(images)
            times.append(1e3 * (time.perf_counter() - start))
    return sorted(times)[len(times) // 2]


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--checkpoint", type=Path, help="a state_dict, plain or under the key state_dict")
    parser.add_argument("--percent", default="0.5")
    parser.add_argument("--out", type=Path, default=Path("target/round_trip"))
    options = parser.parse_args()
    torch.manual_seed(0)
    build, told, side = NETWORKS[options.network]
    out = options.out / options.network
    out.mkdir(parents=True, exist_ok=True)

    dense = build().eval()
    checkpoint = options.checkpoint
    if checkpoint is None:
        draw_(dense)
        checkpoint = out / "dense.pth.tar"
        torch.save({"epoch": 0, "state_dict": dense.state_dict()}, checkpoint)
    else:
        saved = torch.load(checkpoint, weights_only=True)
        dense.load_state_dict({name.removeprefix("module."): value for name, value in saved.get("state_dict", saved).items()})

    prune = ["cargo", "run", "--quiet", "--package", "slim-cli", "--", "prune", *told]
    prune += ["--model", str(checkpoint.resolve()), "--percent", options.percent, "--no-test", "--save", str(out.resolve())]
    subprocess.run(prune, cwd=WORKSPACE, check=True, stdout=subprocess.DEVNULL)

    plan = json.loads((out / "plan.json").read_text())
    weights = load_file(out / "pruned.safetensors")
    dense_weights = dense.state_dict()
    assert weights.keys() == dense_weights.keys(), "the file has other names than the checkpoint"
    positions = indices(plan)
    for name, value in weights.items():
        assert torch.equal(value, sliced(dense_weights[name], positions.get(name, []))), f"{name} is not what the plan says"
    print(f"{len(weights)} tensors of pruned.safetensors are the checkpoint's at the indices of plan.json, bit for bit")

    slim = copy.deepcopy(dense)
    narrow_(slim, plan)
    slim.load_state_dict(weights)
    masked = copy.deepcopy(dense)
    mask_(masked, plan)
    images = torch.randn(2, 3, side, side)
    with torch.no_grad():
        expected, found = masked(images), slim(images)
    difference = (expected - found).abs().max().item()
    print(f"masked and pruned outputs (up to {expected.abs().max():.3g}) differ by {difference:.1e} at most")
    assert difference <= 1e-4 * expected.abs().max(), "the pruned network is another function"
    one = images[:1]
    print(f"parameters {parameters(dense):,} -> {parameters(slim):,}; one image {milliseconds(dense, one):.1f} -> {milliseconds(slim, one):.1f} ms")


if __name__ == "__main__":
    sys.exit(main())
