#!/usr/bin/env python3
"""Checks ONNX files of slim: by ONNX's checker, by strict inference of shapes, and by the outputs of ONNX Runtime and OpenVINO.

    python3 -m venv .venv
    .venv/bin/pip install onnx onnxruntime openvino safetensors
    .venv/bin/python examples/python/check_onnx.py target/serving/resnet50.onnx
    .venv/bin/python examples/python/check_onnx.py net.onnx inputs.safetensors outputs.safetensors

The inputs and expected outputs are tensors with the names that they have in the file. Without further arguments both are in FILE.safetensors beside FILE.onnx. For a folder, all of its .onnx files are checked. Where the batch is free, the samples are also run one by one. The exit code is 1 if a file fails.
"""

import argparse
import sys
from pathlib import Path

import numpy
import onnx
import onnxruntime
import openvino
from safetensors.numpy import load_file


def runtimes(path):
    """Each runtime's name and version, and a function from named inputs to outputs in the file's order."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    yield f"ONNX Runtime {onnxruntime.__version__}", lambda inputs: session.run(None, inputs)
    # OpenVINO computes in half precision or bfloat16 where that is faster, unless told otherwise.
    compiled = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    version = openvino.__version__.split("-")[0]
    yield f"OpenVINO {version}", lambda inputs: [numpy.array(compiled(inputs)[output]) for output in compiled.outputs]


def first_dimension(value):
    """The name of the first dimension if it is free, else its size; `None` for a scalar."""
    dimensions = value.type.tensor_type.shape.dim
    return (dimensions[0].dim_param or dimensions[0].dim_value) if dimensions else None


def passes(run, graph, inputs):
    """Runs all samples at once and, where the batch is free, one by one: each batch size with its outputs."""
    outputs = run(inputs)
    batches = {len(values) for values in inputs.values() if values.ndim}
    (batch,) = batches if len(batches) == 1 else [None]
    yield batch, outputs
    dimensions = {first_dimension(value) for value in [*graph.input, *graph.output]}
    if len(dimensions) == 1 and isinstance(dimensions.pop(), str) and batch and batch > 1:
        parts = [run({name: values[index : index + 1] for name, values in inputs.items()}) for index in range(batch)]
        yield 1, [numpy.concatenate(part) for part in zip(*parts)]


def difference(expected, found):
    """The largest difference, relative to the largest expected output."""
    if found.shape != expected.shape:
        raise ValueError(f"shape {found.shape}, expected {expected.shape}")
    if expected.size == 0:
        return 0.0
    expected, found = (values.astype(numpy.float64) for values in (expected, found))
    # Equal infinities are no difference.
    apart = numpy.where(expected == found, 0, numpy.abs(expected - found)).max()
    return apart / (numpy.abs(expected).max() or 1)


def check(path, inputs, outputs, tolerance):
    """Prints a line for each runtime and batch size. Returns whether the file passes."""
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path, load_external_data=False)
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True).graph
    sized = {value.name for value in [*inferred.value_info, *inferred.output] if value.type.tensor_type.HasField("shape")}
    unsized = sorted({name for node in inferred.node for name in node.output if name} - sized)
    if unsized:
        raise ValueError(f"ONNX infers no shape of {', '.join(unsized)}")
    names = [value.name for value in inferred.output]
    missing = {value.name for value in inferred.input} - inputs.keys() | set(names) - outputs.keys()
    if missing:
        raise ValueError(f"the samples have no {', '.join(sorted(missing))}")
    inputs = {value.name: inputs[value.name] for value in inferred.input}
    good = True
    for runtime, run in runtimes(path):
        for batch, found in passes(run, inferred, inputs):
            for name, values in zip(names, found):
                apart = difference(outputs[name], values)
                # False for NaN, too.
                close = bool(apart <= tolerance)
                good &= close
                verdict = "" if close else f"  more than {tolerance:g}"
                print(f"{path.name:<28} {runtime:<22} {batch or '-':>5}  {name:<16} {apart:10.1e}{verdict}")
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="a file, or a folder of files")
    parser.add_argument("inputs", type=Path, nargs="?", help="safetensors with the inputs [default: beside the file]")
    parser.add_argument("outputs", type=Path, nargs="?", help="safetensors with the expected outputs [default: the inputs' file]")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest difference that passes, relative to the largest output [default: 1e-4]")
    args = parser.parse_args()
    files = sorted(args.file.glob("*.onnx")) if args.file.is_dir() else [args.file]
    if not files:
        parser.error(f"{args.file} has no .onnx files")
    if args.inputs and args.file.is_dir():
        parser.error("the files of a folder have their samples beside them")
    print(f"{'file':<28} {'runtime':<22} {'batch':>5}  {'output':<16} {'difference':>10}")
    failed = 0
    for path in files:
        try:
            beside = args.inputs or path.with_suffix(".safetensors")
            failed += not check(path, load_file(beside), load_file(args.outputs or beside), args.tolerance)
        except Exception as error:  # of any of the tools: the next file is checked all the same
            failed += 1
            print(f"{path.name:<28} {error}")
    print(f"{len(files) - failed} of {len(files)} files pass")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
