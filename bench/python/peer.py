"""PyTorch's side of the comparison: answers `compare`, line by line, JSON in and JSON out, until its input ends.

It computes only between a request and its answer, and times only what it is asked to.
"""

import copy
import json
import sys
import time
import traceback
import warnings
from importlib.metadata import version

import torch
import torch_pruning
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn

# Names and layers are those of the reference implementation of Network Slimming.
VGG19 = [64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512, 512, 512, 512]


class Vgg(nn.Module):
    def __init__(self, cfg, classes):
        super().__init__()
        layers, channels = [], 3
        for stage in cfg:
            if stage == "M":
                layers.append(nn.MaxPool2d(2, 2))
            else:
                layers += [nn.Conv2d(channels, stage, 3, padding=1, bias=False), nn.BatchNorm2d(stage), nn.ReLU(inplace=True)]
                channels = stage
        self.feature = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x):
        return self.classifier(nn.functional.avg_pool2d(self.feature(x), 2).flatten(1))


def dense(network, classes):
    return Vgg(VGG19, classes) if network == "vgg19" else torchvision.models.get_model(network, weights=None, num_classes=classes)


def narrow(model, state):
    """Makes every layer as wide as its tensors in `state`."""
    for name, module in model.named_modules():
        weight = state.get(f"{name}.weight")
        if isinstance(module, nn.Conv2d):
            module.out_channels = weight.shape[0]
            module.groups = module.groups and weight.shape[0] if module.groups == module.in_channels else module.groups
            module.in_channels = weight.shape[1] * module.groups
        elif isinstance(module, nn.BatchNorm2d):
            module.num_features = weight.shape[0]
        elif isinstance(module, nn.Linear):
            module.out_features, module.in_features = weight.shape
        for own in (module._parameters, module._buffers):
            for key, old in own.items():
                if f"{name}.{key}" in state:
                    new = state[f"{name}.{key}"].clone()
                    own[key] = nn.Parameter(new) if isinstance(old, nn.Parameter) else new
    return model


def load(network, classes, weights, device):
    """A network in evaluation mode with the weights of a file, dense or slimmed."""
    state = load_file(weights)
    model = narrow(dense(network, classes), state)
    missing, unexpected = model.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ValueError(f"{network}: the file lacks {missing}, and the network {unexpected}")
    return model.to(device).eval()


def pruner(model, sample, everywhere):
    """Half of all channels, with |γ| for importance: the largest of those that go together. `everywhere`: of all ranked together."""
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    importance = torch_pruning.importance.BNScaleImportance(group_reduction="max", normalizer=None)
    return torch_pruning.pruner.BNScalePruner(
        model, sample, importance, pruning_ratio=0.5, global_pruning=everywhere, ignored_layers=[last]
    )


class Peer:
    def __init__(self):
        self.device = torch.device("cpu")
        self.models = {}
        self.inputs = {}

    def wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def timed(self, work):
        self.wait()
        begun = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - begun

    def hello(self, threads, device):
        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        self.device = torch.device(device)
        return {"versions": {name: version(name) for name in ("torch", "torchvision", "torch-pruning")}, "threads": torch.get_num_threads()}

    def load(self, model, network, classes, weights):
        self.models[model] = load(network, classes, weights, self.device)

    def input(self, input, file):
        self.inputs[input] = load_file(file)["input"].to(self.device)

    def optimize(self, model, of, input):
        """What PyTorch offers for serving without a compiler: a frozen trace, batch norms folded, operators fused for this CPU."""
        with torch.no_grad():
            frozen = torch.jit.freeze(torch.jit.trace(self.models[of], self.inputs[input]))
            self.models[model] = torch.jit.optimize_for_inference(frozen)

    def prune(self, model, input, everywhere, passes):
        """Graph, ranking and surgery, each time of a fresh copy."""
        seconds = []
        for _ in range(passes):
            network = copy.deepcopy(self.models[model])
            seconds.append(self.timed(lambda: pruner(network, self.inputs[input], everywhere).step()))
        return {"seconds": seconds}

    def pruned(self, model, input, everywhere, file):
        """What pruning leaves."""
        network = copy.deepcopy(self.models[model])
        pruner(network, self.inputs[input], everywhere).step()
        state = network.state_dict().items()
        save_file({name: value.contiguous().cpu() for name, value in state if not name.endswith("num_batches_tracked")}, file)

    def forward(self, model, input, passes):
        with torch.no_grad():
            network, images = self.models[model], self.inputs[input]
            return {"seconds": [self.timed(lambda: network(images)) for _ in range(passes)]}

    def output(self, model, input, file):
        with torch.no_grad():
            save_file({"output": self.models[model](self.inputs[input]).contiguous().cpu()}, file)

    def forget(self):
        self.models.clear()
        self.inputs.clear()


def main():
    # What libraries print must not get between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    warnings.filterwarnings("ignore")
    peer = Peer()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(peer, request.pop("do"))(**request) or {}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
