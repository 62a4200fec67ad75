"""The other runtimes of the comparison of serving: answers line by line, JSON in and JSON out, until its input ends.

A model is an ONNX file that slim has exported; a sample is a safetensors file with an input and the network's output.
"""

import json
import sys
import time
import warnings

import numpy as np
from safetensors.numpy import load_file

THREADS = int(sys.argv[1])
runs = {}


def load(runtime, model, sample):
    sample = load_file(sample)
    x, expected = sample["input"], sample["output"].ravel()
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
        answer = load(request["runtime"], request["model"], request["sample"]) if request["do"] == "load" else passes(request["runtime"])
    except Exception as error:
        answer = {"error": repr(error)[:500]}
    print(json.dumps(answer), flush=True)
