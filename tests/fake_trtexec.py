"""A trtexec of the version in FAKE_TENSORRT: it refuses options that its version has not.

Options as in sampleOptions.cpp of TensorRT 8.2 and in the help of 10.6; 11 has no precision
flags. The log lines are those of 8.2 on a Jetson Nano. Python 3.6.
"""

import os
import sys

version = os.environ["FAKE_TENSORRT"]
numbers = tuple(int(n) for n in version.split("."))
unit = 10000 if numbers[0] >= 10 else 1000
code = numbers[0] * unit + numbers[1] * 100 + numbers[2]
print("&&&& RUNNING TensorRT.trtexec [TensorRT v{}] # {}".format(code, " ".join(sys.argv)))

known = ["--onnx", "--saveEngine", "--loadEngine", "--noTF32", "--sparsity", "--verbose",
         "--timingCacheFile", "--minShapes", "--optShapes", "--maxShapes", "--help"]  # fmt: skip
known += ["--fp16", "--int8"] if numbers < (11,) else []
known += ["--workspace"] if numbers < (10,) else []
known += ["--memPoolSize"] if numbers >= (8, 4) else []
known += ["--stronglyTyped"] if numbers >= (10,) else []
options = dict((word + "=").split("=", 2)[:2] for word in sys.argv[1:])
unknown = [name for name in options if name not in known]
if unknown:
    print("[E] Unknown option: " + unknown[0])
    sys.exit(f"&&&& FAILED TensorRT.trtexec [TensorRT v{code}]")
if "--help" in options:
    sys.exit(0)
with open(os.environ["FAKE_TENSORRT_LOG"], "a") as file:
    file.write(" ".join(sys.argv[1:]) + "\n")
pool = options.get("--workspace") or options["--memPoolSize"].split(":")[1]
if int(pool) > int(os.environ.get("FAKE_TENSORRT_LIMIT", "999999")):
    print("[E] Error[2]: [virtualMemoryBuffer.cpp] OutOfMemory (no further information)")
    sys.exit(1)
if "--sparsity" in options:
    print("[I] [TRT] (Sparsity) Layers eligible for sparse math: Conv_2 + Relu_3, Conv_4")
    print("[I] [TRT] (Sparsity) TRT inference plan picked sparse implementation for layers:")
with open(options["--onnx"], "rb") as source, open(options["--saveEngine"], "wb") as plan:
    plan.write(b"plan of " + source.read())
print("[I] Throughput: 72.1 qps")
print("[I] Latency: min = 13.9 ms, max = 15.1 ms, mean = 14.0 ms, median = 14.0 ms")
print("[I] GPU Compute Time: min = 13.5784 ms, max = 14.7576 ms, mean = 13.6963 ms, "
      "median = 13.6698 ms, percentile(99%) = 14.6803 ms")  # fmt: skip
print(f"&&&& PASSED TensorRT.trtexec [TensorRT v{code}]")
