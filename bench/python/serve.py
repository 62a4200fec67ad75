"""The other runtimes of the comparison of serving: answers line by line, JSON in and JSON out, until its input ends.

`FILE.pt` is what slim has exported; it is converted to ONNX first.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np

THREADS = int(sys.argv[1])
runs, inputs = {}, {}


def converted(file):
    import torch
    target = Path(file).with_suffix(".onnx")
    shape = [int(n) for n in Path(file).with_suffix(".shape").read_text().split()]
    torch.onnx.export(
        torch.jit.load(file), (torch.zeros(shape),), target, dynamo=False, input_names=["input"], output_names=["output"]
    )
    return target


def load(runtime, file):
    model = Path(file).with_suffix(".onnx")
    if runtime == "convert":
        converted(file)
        return {}
    shape = [int(n) for n in Path(file).with_suffix(".shape").read_text().split()]
    x = np.fromfile(Path(file).with_suffix(".input"), dtype=np.float32).reshape(shape)
    if runtime == "openvino":
        import openvino
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(model), "CPU", {"INFERENCE_NUM_THREADS": THREADS, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"})
        request = compiled.create_infer_request()
        request.set_input_tensor(openvino.Tensor(x))
        def run():
            request.infer()
            return request.get_output_tensor().data
    else:
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        def run():
            return session.run(None, {"input": x})[0]
    runs[runtime] = run
    run()
    expected = np.fromfile(Path(file).with_suffix(".output"), dtype=np.float32)
    return {"off": float(np.abs(run().ravel() - expected).max() / np.abs(expected).max())}


def passes(runtime):
    run = runs[runtime]
    run()
    clock = time.process_time if THREADS == 1 else time.perf_counter
    begun = clock()
    run()
    return {"seconds": clock() - begun}


warnings.simplefilter("ignore")
for line in sys.stdin:
    request = json.loads(line)
    try:
        answer = load(request["runtime"], request["file"]) if request["do"] == "load" else passes(request["runtime"])
    except Exception as error:
        answer = {"error": repr(error)[:500]}
    print(json.dumps(answer), flush=True)
