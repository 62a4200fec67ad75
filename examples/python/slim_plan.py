"""Applies slim's plan.json to a PyTorch network.

    plan = json.load(open("pruned/plan.json"))
    narrow_(model, plan)                                             # the dense network becomes as narrow as the pruned one
    model.load_state_dict(load_file("pruned/pruned.safetensors"))    # safetensors.torch

Each tensor of the plan has its name in the state_dict (`variable`) and says, dimension by dimension, which list of channels it follows (`dims`, `axes`).
"""

import torch
from torch import nn


def kept(keep):
    """The positions of a keep-list: "0-2,5" is 0, 1, 2 and 5."""
    runs = ([int(end) for end in run.split("-")] for run in keep.split(",") if run)
    return torch.tensor([position for run in runs for position in range(run[0], run[-1] + 1)], dtype=torch.long)


def indices(plan):
    """By name in the state_dict: for each dimension the positions that stay, or None where it follows no channels."""
    found = {}
    for layer in plan["layers"]:
        axes = {axis["name"]: kept(axis["keep"]) for axis in layer.get("axes", [])}
        for tensor in layer.get("tensors", []):
            found[tensor["variable"]] = [axes[dim] if isinstance(dim, str) else None for dim in tensor["dims"]]
    return found


def sliced(tensor, positions):
    """What stays of a tensor."""
    for dim, of_dim in enumerate(positions):
        if of_dim is not None:
            tensor = tensor.index_select(dim, of_dim.to(tensor.device))
    return tensor


@torch.no_grad()
def narrow_(model, plan):
    """Cuts the parameters and buffers of a dense network, in place, and tells its layers their new widths."""
    for name, positions in indices(plan).items():
        path, _, leaf = name.rpartition(".")
        module = model.get_submodule(path)
        old = getattr(module, leaf)
        new = sliced(old, positions)
        if isinstance(old, nn.Parameter):
            setattr(module, leaf, nn.Parameter(new, requires_grad=old.requires_grad))
        else:
            setattr(module, leaf, new)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            depthwise = module.groups == module.in_channels > 1
            multiplier = module.out_channels // module.in_channels
            module.out_channels = module.weight.shape[0]
            if depthwise:
                module.groups = module.out_channels // multiplier
            module.in_channels = module.weight.shape[1] * module.groups
        elif isinstance(module, nn.BatchNorm2d):
            module.num_features = module.running_mean.shape[0]
        elif isinstance(module, nn.Linear):
            module.out_features, module.in_features = module.weight.shape


@torch.no_grad()
def mask_(model, plan):
    """Sets γ and β of the channels that go to zero: the dense network that the pruned one has to equal."""
    for layer in plan["layers"]:
        if layer["kind"] == "batch_norm":
            for tensor in layer["tensors"]:
                if tensor["name"] in ("weight", "bias"):
                    values = model.get_parameter(tensor["variable"])
                    goes = torch.ones(len(values), dtype=torch.bool)
                    goes[kept(layer["axes"][0]["keep"])] = False
                    values[goes] = 0
