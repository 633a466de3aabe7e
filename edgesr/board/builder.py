"""An engine from an ONNX file through TensorRT's Python interface, 8.2 to 11 and RTX."""

import importlib
import os
import re
import sys
from typing import Any, Dict, List, Tuple

from edgesr.board.cache import write_atomically
from edgesr.board.choice import OLDEST
from edgesr.board.facts import SMALLEST_WORKSPACE
from edgesr.board.failed import Failed, NoTensorRT, say
from edgesr.board.sparse_log import SparseLayers

LADDER_STEPS = 4
MEMORY_WORDS = re.compile(
    r"out ?of ?memory|memory alloc|insufficient memory|cudaMalloc|bad_alloc", re.IGNORECASE
)


class PythonTensorRT:
    """TensorRT through the module `name`; `version` is (major, minor).

    Raises NoTensorRT when it does not load or is too old.
    """

    def __init__(self, name: str) -> None:
        self._trt = import_tensorrt(name)
        self.version, self.rtx = version_of(self._trt), is_rtx(self._trt)
        self.name = f"{self._trt.__name__} {self._trt.__version__}"

    def build_plan(
        self, path: str, attempt: Dict[str, Any], options: Dict[str, Any]
    ) -> Tuple[bytes, Dict[str, Any]]:
        """(plan, what was found), as the function of that name."""
        return build_plan(self._trt, path, attempt, options)


def import_tensorrt(name: str) -> Any:
    """The TensorRT module. Raises NoTensorRT with the cause and the remedy."""
    try:
        module = importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise NoTensorRT(import_remedy(name, error)) from error
    version = version_of(module)
    if not is_rtx(module) and version < OLDEST:
        raise NoTensorRT(
            f"TensorRT {module.__version__} is older than 8.2; JetPack 4.6.1 or newer has it"
        )
    return module


def import_remedy(name: str, error: BaseException) -> str:
    """Why TensorRT does not load, and what to do."""
    if isinstance(error, ModuleNotFoundError) and error.name == name:
        return (
            f"no module '{name}' for {sys.executable}; on a Jetson install JetPack's own (sudo "
            "apt-get install python3-libnvinfer) and use the system's python3, or a virtual "
            "environment made with --system-site-packages"
        )
    line = (str(error) or type(error).__name__).splitlines()[0]
    if "libnvdla_compiler" in line:
        return (
            f"import {name}: {line}. This TensorRT was built for a JetPack with DLA, which this "
            "one has not: install the TensorRT of this JetPack (python3-libnvinfer)"
        )
    return (
        f"import {name}: {line}. Its libraries are missing or of another version: sudo apt-get "
        "install --reinstall tensorrt libnvinfer-bin python3-libnvinfer"
    )


def version_of(trt: Any) -> Tuple[int, int]:
    """(major, minor) of the module."""
    numbers = re.findall(r"\d+", trt.__version__)
    return int(numbers[0]), int(numbers[1])


def is_rtx(trt: Any) -> bool:
    """TensorRT-RTX counts its versions from 1 and behaves as TensorRT 11 does."""
    return "rtx" in trt.__name__


def make_logger(trt: Any, verbose: bool) -> Any:
    """A logger that keeps errors for the message and what is said of sparse layers."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: List[str] = []
            self.sparse = SparseLayers()

        def log(self, severity: Any, message: str) -> None:
            level = trt.ILogger.Severity
            if severity in (level.INTERNAL_ERROR, level.ERROR):
                self.errors.append(" ".join(message.split()))
            self.sparse.read(message)
            if verbose:
                print("  trt: " + message, file=sys.stderr)

    return Log()


def parse(trt: Any, builder: Any, logger: Any, path: str, network_flags: List[str]) -> Any:
    """The network in the ONNX file, and its parser. Raises Failed with the parser's words."""
    bits = 0
    for name in network_flags:
        flag = getattr(trt.NetworkDefinitionCreationFlag, name, None)
        if flag is not None:
            bits |= 1 << int(flag)
    network = builder.create_network(bits)
    parser = trt.OnnxParser(network, logger)
    with open(path, "rb") as file:
        data = file.read()
    if not parser.parse(data):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        reasons = [parser_error(error) for error in errors] or logger.errors
        reason = " ".join("; ".join(reasons[:3]).split())[:400] or "no reason given"
        raise Failed(
            f"{os.path.basename(path)} is not an ONNX file that TensorRT {trt.__version__} takes: "
            f"{reason}. Copy the bundle again, or export it again"
        )
    return network, parser  # the parser owns memory that the network reads


def parser_error(error: Any) -> str:
    """What the parser says, with the node's name where this TensorRT tells it."""
    if not hasattr(error, "node_operator"):  # before 10
        return str(error.desc())
    return f"{error.node_operator()} '{error.node_name()}': {error.desc()}"


def configure(
    trt: Any, builder: Any, network: Any, attempt: Dict[str, Any], options: Dict[str, Any]
) -> Any:
    """The builder's configuration; `options` are those of `build_plan`."""
    config = builder.create_builder_config()
    if hasattr(config, "set_memory_pool_limit"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options["workspace"])
    else:  # before 8.4
        config.max_workspace_size = options["workspace"]
    for name in attempt["flags"] + (["SPARSE_WEIGHTS"] if options["sparse"] else []):
        config.set_flag(getattr(trt.BuilderFlag, name))
    if attempt["precision"] == "fp32" and hasattr(trt.BuilderFlag, "TF32"):
        config.clear_flag(trt.BuilderFlag.TF32)  # fp32 means 24 bits here, not TF32's 11
    if -1 in tuple(network.get_input(0).shape):
        profile = builder.create_optimization_profile()
        height, width = options["largest"]
        middle = (1, 3, max(1, height // 2), max(1, width // 2))
        profile.set_shape("input", (1, 3, 1, 1), middle, (1, 3, height, width))
        config.add_optimization_profile(profile)
    return config


def use_timing_cache(config: Any, path: str) -> bool:
    """Start from the timings of earlier builds; True where this TensorRT can."""
    if not hasattr(config, "create_timing_cache"):
        return False
    data = b""
    if os.path.isfile(path):
        with open(path, "rb") as file:
            data = file.read()
    # A damaged cache, or one of another board, must not keep the next from being written.
    for content in (data, b"") if data else (b"",):
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):
            return True
    return False


def keep_timings(config: Any, path: str) -> None:
    """Write the timings for the next build; a full disk costs them, never the engine."""
    cache = config.get_timing_cache()
    if cache is not None:
        try:
            write_atomically(path, bytes(cache.serialize()))
        except Failed as error:
            say(f"  {error}; the next build takes as long")


def build_plan(
    trt: Any, path: str, attempt: Dict[str, Any], options: Dict[str, Any]
) -> Tuple[bytes, Dict[str, Any]]:
    """(plan, what was found). Raises Failed with TensorRT's own words.

    `options`: workspace (bytes), largest (H, W), sparse, verbose, timing_cache (path).
    Halves the workspace when the builder ran out of memory, LADDER_STEPS times at most.
    Found: `workspace_bytes`, and `sparse_layers` where sparse kernels were allowed.
    """
    options = dict(options)
    for _ in range(LADDER_STEPS):
        logger = make_logger(trt, options["verbose"])
        plan = try_build(trt, logger, path, attempt, options)
        if plan:
            found = {"workspace_bytes": options["workspace"]}
            if options["sparse"]:
                found["sparse_layers"] = logger.sparse.facts()
                say("  " + logger.sparse.words())
            return plan, found
        words = "; ".join(logger.errors)
        if not MEMORY_WORDS.search(words) or options["workspace"] // 2 < SMALLEST_WORKSPACE:
            break
        options["workspace"] //= 2
        say("  out of memory; trying a workspace of {} MiB".format(options["workspace"] >> 20))
    raise Failed(
        f"TensorRT {trt.__version__} could not build {os.path.basename(path)}: "
        f"{words[-400:] or 'no reason given'}"
    )


def try_build(
    trt: Any, logger: Any, path: str, attempt: Dict[str, Any], options: Dict[str, Any]
) -> bytes:
    """The plan's bytes, or nothing; `logger` then knows why."""
    builder = open_builder(trt, logger)
    precision = attempt["precision"]
    if precision != "fp32" and not getattr(builder, "platform_has_fast_" + precision, True):
        raise Failed(f"this GPU has no fast {precision}")
    # The parser is kept: it owns memory that the network reads.
    network, _parser = parse(trt, builder, logger, path, attempt["network"])
    config = configure(trt, builder, network, attempt, options)
    # TensorRT-RTX has no timings to keep: it tunes where it runs.
    cached = not is_rtx(trt) and use_timing_cache(config, options["timing_cache"])
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        return b""
    if cached:
        keep_timings(config, options["timing_cache"])
    return bytes(plan)


def open_builder(trt: Any, logger: Any) -> Any:
    """TensorRT's builder. Raises NoTensorRT where it finds no GPU to build for."""
    try:
        return trt.Builder(logger)
    except TypeError as error:  # the bindings' answer to a builder that CUDA did not give
        reason = "; ".join(logger.errors)[-300:] or "CUDA does not start"
        raise NoTensorRT(
            f"TensorRT {trt.__version__} has no GPU to build for: {reason}. Run it on the board; "
            "a container needs --runtime nvidia"
        ) from error
