"""Stand-ins for TensorRT 8.2 to 11.4 that have what each version has, and raise for the rest.

Table: the flags of NvInfer.h on NVIDIA/TensorRT's release branches. Python 3.6 and the standard
library, so that the builder meets them on the oldest interpreter of a board. Copied as
`tensorrt.py` into a folder on PYTHONPATH it is the module of a board whose version is in
FAKE_TENSORRT; a plan then holds the ONNX file, and engines run it in ONNX Runtime, on memory
that the stand-in of libcudart gives.

    FAKE_TENSORRT=10.3.0        the version
    FAKE_TENSORRT_LOG=FILE      gets a line for each build
    FAKE_TENSORRT_SLEEP=2       seconds that a build takes
    FAKE_TENSORRT_GAIN=0.9      engines multiply their output by it: a board that loses quality
"""

import ctypes
import json
import os
import sys
import time
import types

INTERNAL_ERROR, ERROR, WARNING, INFO = 0, 1, 2, 3


class Namespace:
    """Names that a version has; any other raises AttributeError, as an enum of TensorRT does."""

    def __init__(self, **names):
        self.__dict__.update(names)


def numbers_of(version):
    return tuple(int(n) for n in version.split(".")[:2])


class FakeTensorRt(types.ModuleType):
    """A TensorRT of a given version.

    `limit`: a workspace above it runs out of memory. `broken`: flags it cannot build with;
    "int8" and "fp16" stand for typed files of that precision. `slow`: precisions that the GPU
    has no fast kernels for. `sparse`: (eligible, picked) layers that the log tells of.
    """

    def __init__(self, version, limit=1 << 60, broken=(), slow=(), sparse=(0, 0)):
        types.ModuleType.__init__(self, "tensorrt")
        self.__version__ = version
        self.numbers = numbers = numbers_of(version)
        self.limit, self.broken, self.slow, self.sparse = limit, broken, slow, sparse
        self.tries = []
        self.BuilderFlag = Namespace(**{name: name for name in builder_flags(numbers)})
        self.NetworkDefinitionCreationFlag = Namespace(**network_flags(numbers))
        if numbers >= (8, 4):
            self.MemoryPoolType = Namespace(WORKSPACE="WORKSPACE")
        severity = Namespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2, INFO=3, VERBOSE=4)
        self.ILogger = type("ILogger", (), {"Severity": severity})
        self.Logger = type("Logger", (), {"ERROR": 1, "__init__": lambda s, level: None})
        self.Builder = builder_class(self)
        self.OnnxParser = parser_class(self)
        self.Runtime = lambda logger: Namespace(
            deserialize_cuda_engine=lambda plan: open_plan(self, plan)
        )


def builder_flags(numbers):
    """BuilderFlag's names; 11 took FP16, INT8 and BF16 away."""
    names = ["TF32", "SPARSE_WEIGHTS", "REFIT", "DEBUG", "GPU_FALLBACK"]
    if numbers < (11, 0):
        names += ["FP16", "INT8"]
    if (9, 0) <= numbers < (11, 0):
        names.append("BF16")
    if numbers >= (8, 6):
        names.append("VERSION_COMPATIBLE")
    return names


def network_flags(numbers):
    """NvInferRuntime.h: kEXPLICIT_BATCH = 0, kSTRONGLY_TYPED = 1; 10 has both."""
    names = {"EXPLICIT_BATCH": 0} if numbers < (11, 0) else {}
    if numbers >= (10, 0):
        names["STRONGLY_TYPED"] = 1
    return names


class AnyConfig:
    """IBuilderConfig; another attribute than those of its version raises."""

    __slots__ = ("cache", "flags", "profiles", "workspace")

    def __init__(self):
        self.flags = {"TF32"}
        self.cache = b""
        self.workspace = 1 << 62
        self.profiles = []

    def set_flag(self, flag):
        self.flags.add(flag)

    def clear_flag(self, flag):
        self.flags.discard(flag)

    def create_timing_cache(self, data):
        return data

    def set_timing_cache(self, cache, ignore_mismatch):
        self.cache = cache
        return True

    def get_timing_cache(self):
        return Namespace(serialize=lambda: self.cache + b"t")

    def add_optimization_profile(self, profile):
        self.profiles.append(profile.shapes)


class OldConfig(AnyConfig):
    """Before 8.4."""

    __slots__ = ()

    def _set(self, size):
        self.workspace = size

    max_workspace_size = property(fset=_set)


class NewConfig(AnyConfig):
    """Since 8.4."""

    __slots__ = ()

    def set_memory_pool_limit(self, pool, size):
        assert pool == "WORKSPACE"
        self.workspace = size


class Profile:
    """IOptimizationProfile."""

    def __init__(self):
        self.shapes = None

    def set_shape(self, name, least, middle, most):
        assert name == "input"
        self.shapes = [list(least), list(middle), list(most)]


class Network:
    """INetworkDefinition: the parser leaves the file in it."""

    def __init__(self, bits):
        self.bits, self.data = bits, b""

    def get_input(self, index):
        is_open = b"H*4" in self.data  # an output of open shape, times four
        return Namespace(shape=(-1, 3, -1, -1) if is_open else (1, 3, 64, 64))


def kind_of(data):
    """Which form of which precision an ONNX file of EdgeSR is, from its metadata."""
    for form in (b"int8.trt-fp16", b"int8.trt", b"int8.ort"):
        if form in data:
            return form.decode()
    return ""


def builder_class(fake):
    class Builder:
        platform_has_fast_fp16 = "fp16" not in fake.slow

        def __init__(self, logger):
            self.logger = logger
            if fake.numbers < (11, 0):
                self.platform_has_fast_int8 = "int8" not in fake.slow

        def create_network(self, bits):
            return Network(bits)

        def create_builder_config(self):
            return OldConfig() if fake.numbers < (8, 4) else NewConfig()

        def create_optimization_profile(self):
            return Profile()

        def build_serialized_network(self, network, config):
            fake.tries.append(
                {
                    "workspace": config.workspace,
                    "bits": network.bits,
                    "flags": sorted(config.flags),
                    "kind": kind_of(network.data),
                }
            )
            note_build(fake)
            reason = refusal(fake, network, config)
            if reason:
                self.logger.log(ERROR, reason)
                return None
            if "SPARSE_WEIGHTS" in config.flags:
                for line in sparse_lines(fake):
                    self.logger.log(INFO, line)
            head = {"version": fake.__version__, "profiles": config.profiles}
            return memoryview(json.dumps(head).encode() + b"\n" + network.data)

    return Builder


def note_build(fake):
    """What the tests of a whole board want to know, and how long it takes there."""
    if os.environ.get("FAKE_TENSORRT_LOG"):
        with open(os.environ["FAKE_TENSORRT_LOG"], "a") as file:
            file.write("build {}\n".format(fake.tries[-1]["flags"]))
    time.sleep(float(os.environ.get("FAKE_TENSORRT_SLEEP", "0")))


def refusal(fake, network, config):
    """Why this version does not build that; empty when it does."""
    kind = kind_of(network.data)
    typed = bool(network.bits & 2) or fake.numbers >= (11, 0)
    if config.workspace > fake.limit:
        return "[virtualMemoryBuffer.cpp] OutOfMemory (no further info)"
    if config.flags & set(fake.broken) or (kind and "int8" in fake.broken):
        return "no implementation for node Conv_3"
    if typed and config.flags & {"FP16", "INT8"}:
        return "precision flags are not allowed in a strongly typed network"
    if kind and not typed and "INT8" not in config.flags:
        return "a network with Q/DQ layers needs the flag INT8"
    return ""


def sparse_lines(fake):
    """The log's words on 2:4, of 8 and of 10."""
    eligible, picked = fake.sparse
    if fake.numbers >= (10, 0):
        yield f"(Sparsity) Found {eligible} layer(s) eligible to use sparse tactics"
        yield f"(Sparsity) Chose {picked} layer(s) using sparse tactics"
        return
    names = [f"Conv_{i} + Relu_{i + 1}" for i in range(eligible)]
    yield "(Sparsity) Layers eligible for sparse math: " + ", ".join(names)
    chosen = ", ".join(names[:picked])
    yield "(Sparsity) TRT inference plan picked sparse implementation for layers: " + chosen


def parser_class(fake):
    class OnnxParser:
        num_errors = 0

        def __init__(self, network, logger):
            self.network, self.logger = network, logger

        def parse(self, data):
            self.network.data = data
            if kind_of(data) == "int8.ort":
                self.logger.log(ERROR, "input has type Int32 but must have type Int8")
                return False
            if fake.numbers < (10, 0) and kind_of(data) == "int8.trt-fp16":
                self.logger.log(ERROR, "scales of QuantizeLinear must be fp32")
                return False
            return bool(data)

    return OnnxParser


# ---------------------------------------------------------------- running a plan


def open_plan(fake, plan):
    """ICudaEngine of a plan of this version, or None, as TensorRT answers."""
    head, _, data = bytes(plan).partition(b"\n")
    try:
        about = json.loads(head.decode())
    except ValueError:
        return None
    return Engine(fake, about, data) if about["version"] == fake.__version__ else None


class Engine:
    """ICudaEngine; calls by name since 8.5, by index before 10."""

    device_memory_size = 4096

    def __init__(self, fake, about, data):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        if kind_of(data):
            off = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.graph_optimization_level = off
        self.session = onnxruntime.InferenceSession(data, options, ["CPUExecutionProvider"])
        shape = [n if isinstance(n, int) else -1 for n in self.session.get_inputs()[0].shape]
        if fake.numbers >= (8, 5):
            self.num_io_tensors = 2
            self.get_tensor_shape = lambda name: shape
            self.get_tensor_profile_shape = lambda name, index: about["profiles"][index]
        if fake.numbers < (10, 0):
            self.get_binding_index = ["output", "input"].index
            self.get_binding_shape = lambda index: shape
            self.get_profile_shape = lambda profile, index: about["profiles"][profile]
        self.fake, self.shape, self.about = fake, shape, about

    def create_execution_context(self):
        return Context(self)


class Context:
    """IExecutionContext."""

    def __init__(self, engine):
        self.engine, self.at = engine, {}
        if engine.fake.numbers >= (8, 5):
            self.set_input_shape = lambda name, shape: self._shape(shape)
            self.set_tensor_address = self.at.__setitem__
            self.execute_async_v3 = self._run
        if engine.fake.numbers < (10, 0):
            self.set_binding_shape = lambda index, shape: self._shape(shape)
            self.execute_async_v2 = self._run_bindings

    def _shape(self, shape):
        self.shape = tuple(shape)
        if any(self.engine.shape[i] not in (-1, shape[i]) for i in (2, 3)):
            return False
        largest = [p[2] for p in self.engine.about["profiles"]]
        return all(shape[i] <= most[i] for most in largest for i in (2, 3))

    def _run_bindings(self, bindings, stream):
        self.at = {"output": bindings[0], "input": bindings[1]}
        return self._run(stream)

    def _run(self, stream):
        import numpy as np

        source = array_at(self.at["input"], self.shape)
        result = self.engine.session.run(None, {"input": source})[0]
        gain = np.float32(os.environ.get("FAKE_TENSORRT_GAIN", "1"))
        array_at(self.at["output"], result.shape)[:] = result * gain
        return True


def array_at(address, shape):
    import numpy as np

    floats = ctypes.c_float * int(np.prod(shape))
    return np.frombuffer(floats.from_address(address), np.float32).reshape(shape)


if __name__ == "tensorrt":  # a board's module, see above
    sys.modules[__name__] = FakeTensorRt(os.environ["FAKE_TENSORRT"])
