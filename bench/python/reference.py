"""Network Slimming in PyTorch: trains a VGG with sparsity, prunes it, and fine-tunes it, on CIFAR-10.

The other side of the table in docs/choosing.md. It follows the procedure of Liu et al. (ICCV 2017) and of the authors' public code, and shares nothing with slim:
`γ.grad += s · sign(γ)` after `backward`, one threshold over all |γ|, masks, a network of the channels that are left, fine-tuning without sparsity.

    python3 reference.py --data data --save logs/reference-1 --seed 1

After each epoch, the folder has a checkpoint, with which a later call goes on. Prints a line an epoch, and a JSON object at the end (also in result.json).
"""

import argparse
import json
import pathlib
import time

import numpy
import torch
from torch import nn
from torch.nn import functional

MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
PAD = 4


class Vgg(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        layers, channels = [], 3
        for stage in cfg:
            if stage == "M":
                layers.append(nn.MaxPool2d(2, 2))
            else:
                layers += [nn.Conv2d(channels, stage, 3, padding=1, bias=False), nn.BatchNorm2d(stage), nn.ReLU(inplace=True)]
                channels = stage
        self.feature = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, 10)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                deviation = (2 / (module.kernel_size[0] * module.kernel_size[1] * module.out_channels)) ** 0.5
                nn.init.normal_(module.weight, 0, deviation)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.constant_(module.weight, 0.5)
                nn.init.constant_(module.bias, 0)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
                nn.init.constant_(module.bias, 0)

    def forward(self, images):
        return self.classifier(functional.adaptive_avg_pool2d(self.feature(images), 1).flatten(1))


def norms(model):
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def read(folder, names):
    """The images of the binary version, bytes `[N, 3, 32, 32]`, and their labels."""
    records = numpy.concatenate([numpy.fromfile(folder / name, numpy.uint8).reshape(-1, 3073) for name in names])
    return torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32).copy()), torch.from_numpy(records[:, 0].astype(numpy.int64))


def normalised(pixels):
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, DEVIATION))
    return (pixels.float() / 255 - mean) / deviation


def augmented(pixels, generator):
    """Crops out of the image with black pixels around it, and flips half of the images."""
    count, channels, side, _ = pixels.shape
    padded = functional.pad(pixels, (PAD, PAD, PAD, PAD))
    top, left = (torch.randint(0, 2 * PAD + 1, (count,), generator=generator) for _ in range(2))
    flipped = torch.rand(count, generator=generator) < 0.5
    along = torch.arange(side)
    rows, columns = top[:, None] + along, left[:, None] + along
    columns = torch.where(flipped[:, None], columns.flip(1), columns)
    return padded[torch.arange(count)[:, None, None, None], torch.arange(channels)[None, :, None, None], rows[:, None, :, None], columns[:, None, None, :]]


@torch.no_grad()
def accuracy(model, images, labels):
    model.eval()
    right = sum((model(normalised(images[i : i + 256])).argmax(1) == labels[i : i + 256]).sum().item() for i in range(0, len(labels), 256))
    return 100 * right / len(labels)


def train(model, data, options, epochs, rate, sparsity, file, name):
    """Trains in place, with SGD; goes on from the file if it is there. Returns the accuracy."""
    (images, labels), test = data
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=1e-4)
    first, score = 0, None
    if file.exists():
        state = torch.load(file, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first, score = state["epoch"], state["score"]
    for epoch in range(first, epochs):
        begun = time.perf_counter()
        falls = sum(milestone <= epoch for milestone in (epochs - epochs // 2, epochs - epochs // 4))
        for group in optimizer.param_groups:
            group["lr"] = rate * 0.1**falls
        generator = torch.Generator().manual_seed(1000 * options.seed + epoch)
        order = torch.randperm(len(labels), generator=generator)
        model.train()
        for i in range(0, len(order), options.batch_size):
            batch = order[i : i + options.batch_size]
            optimizer.zero_grad()
            functional.cross_entropy(model(normalised(augmented(images[batch], generator))), labels[batch]).backward()
            if sparsity > 0:
                for norm in norms(model):
                    norm.weight.grad.add_(sparsity * torch.sign(norm.weight.data))
            optimizer.step()
        score = accuracy(model, *test)
        part = file.with_suffix(".part")
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch + 1, "score": score}, part)
        part.replace(file)
        print(f"{name}: epoch {epoch + 1} of {epochs}, accuracy {score:.2f} %, {time.perf_counter() - begun:.0f} s", flush=True)
    return score


def prune(model, cfg, percent):
    """Masks the model in place, and returns the network of the channels that are left, with its cfg."""
    scales = torch.cat([norm.weight.data.abs() for norm in norms(model)]).sort()[0]
    threshold = scales[int(len(scales) * percent)]
    masks = [norm.weight.data.abs() > threshold for norm in norms(model)]
    # A layer without channels would be no network: the largest stays.
    masks = [mask if mask.any() else norm.weight.data.abs() == norm.weight.data.abs().max() for mask, norm in zip(masks, norms(model))]
    for norm, mask in zip(norms(model), masks):
        norm.weight.data.mul_(mask)
        norm.bias.data.mul_(mask)
    left = iter(int(mask.sum()) for mask in masks)
    slimmed_cfg = ["M" if stage == "M" else next(left) for stage in cfg]
    slimmed = Vgg(slimmed_cfg)
    inputs, at = torch.ones(3, dtype=torch.bool), -1
    for old, new in zip(model.feature, slimmed.feature):
        if isinstance(old, nn.Conv2d):
            at += 1
            new.weight.data = old.weight.data[masks[at]][:, inputs].clone()
            inputs = masks[at]
        elif isinstance(old, nn.BatchNorm2d):
            for name in ("weight", "bias", "running_mean", "running_var"):
                getattr(new, name).data = getattr(old, name).data[masks[at]].clone()
    slimmed.classifier.weight.data = model.classifier.weight.data[:, inputs].clone()
    slimmed.classifier.bias.data = model.classifier.bias.data.clone()
    return slimmed, slimmed_cfg


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with cifar-10-batches-bin")
    parser.add_argument("--save", type=pathlib.Path, required=True, help="folder for checkpoints and result.json")
    parser.add_argument("--cfg", type=json.loads, default=[32, 32, "M", 64, 64, "M", 128, 128, "M", 256, 256], help="widths, as JSON")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--refine-epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--refine-lr", type=float, default=0.01)
    parser.add_argument("--s", type=float, default=1e-3, help="factor of the penalty")
    parser.add_argument("--percent", type=float, default=0.5, help="share of the channels to remove")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="0 for as many as there are cores")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    options.save.mkdir(parents=True, exist_ok=True)

    folder = options.data / "cifar-10-batches-bin"
    test = read(folder, ["test_batch.bin"])
    data = (read(folder, [f"data_batch_{i}.bin" for i in range(1, 6)]), test)
    model = Vgg(options.cfg)
    dense = train(model, data, options, options.epochs, options.lr, options.s, options.save / "sparse.pt", "sparse")
    slimmed, cfg = prune(model, options.cfg, options.percent)
    result = {
        "seed": options.seed,
        "dense": dense,
        "masked": accuracy(model, *test),
        "slimmed": accuracy(slimmed, *test),
        "refined": train(slimmed, data, options, options.refine_epochs, options.refine_lr, 0, options.save / "refined.pt", "refined"),
        "cfg": cfg,
        "parameters": sum(parameter.numel() for parameter in slimmed.parameters()),
        "dense_parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    text = json.dumps(result, ensure_ascii=False)
    (options.save / "result.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
