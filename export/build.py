#!/usr/bin/env python3
"""Build this bundle's TensorRT engines on the board that will run them.

    python3 build.py                      every engine of the bundle, into engines/
    python3 build.py --model student      the student's only
    python3 build.py --precision fp32     full precision

Needs the board's own TensorRT and nothing else; Python 3.6 or newer. Which ONNX file and
which flags are used depends on the TensorRT version:

    8.2 - 9.x    *.fp32.onnx, the builder flag FP16 where half precision is wanted
    10.x         *.fp16.onnx (its types are in the file), network flag STRONGLY_TYPED
    11.x, RTX    *.fp16.onnx, no flag: strongly typed is all there is

Beside each NAME.engine lies NAME.engine.json: what it was built from and for. An engine is
rebuilt when any of that changed; one line says what. The .engine file is the plain plan:
trtexec --loadEngine=engines/NAME.engine takes it.

Exit code: 0 done, 1 failed, 2 wrong usage, 4 no usable TensorRT on this machine,
130 interrupted.
"""

import argparse
import ctypes
import hashlib
import importlib
import json
import os
import re
import subprocess
import sys
import time

OLDEST = (8, 2)
NEWEST = (11, 4)
STRONGLY_TYPED_FROM = (10, 0)
MEMORY_SHARE = 0.4  # of what is available: the board's GPU shares memory with everything else
SMALLEST_WORKSPACE = 32 << 20
LADDER_STEPS = 4
MEMORY_WORDS = re.compile(
    r"out ?of ?memory|memory alloc|insufficient memory|cudaMalloc|bad_alloc", re.IGNORECASE
)
CUDART_NAMES = (
    "libcudart.so",
    "libcudart.so.13",
    "libcudart.so.12",
    "libcudart.so.11.0",
    "libcudart.so.10.2",
    "/usr/local/cuda/lib64/libcudart.so",  # where ldconfig was not told of it
)
PLAIN_NAME = re.compile(r"[a-z0-9_-]+")


class Failed(Exception):
    """One line that says what is wrong and what to do."""

    exit_code = 1


class NoTensorRT(Failed):
    """TensorRT cannot be used on this machine."""

    exit_code = 4


# ---------------------------------------------------------------- the machine


def read_text(path):
    """The file's text without trailing NULs and newlines; empty if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "replace").strip("\0\n ")
    except OSError:
        return ""


def l4t_version(root="/"):
    """L4T release such as 36.4.3, or an empty string off a Jetson."""
    text = read_text(os.path.join(root, "etc/nv_tegra_release"))
    found = re.search(r"R(\d+)\D.*?REVISION:\s*([\d.]+)", text)
    if found:
        return "{}.{}".format(*found.groups())
    try:
        command = ["dpkg-query", "--show", "--showformat=${Version}", "nvidia-l4t-core"]
        out = subprocess.check_output(command, stderr=subprocess.DEVNULL)
        return out.decode("ascii", "replace").split("-")[0]
    except (OSError, subprocess.CalledProcessError):
        return ""


def available_bytes(root="/"):
    """MemAvailable of /proc/meminfo, or 0 where there is none."""
    found = re.search(r"MemAvailable:\s*(\d+) kB", read_text(os.path.join(root, "proc/meminfo")))
    return int(found.group(1)) * 1024 if found else 0


def compute_capability():
    """Such as 8.7, asked of the CUDA runtime; empty where there is no GPU or no CUDA."""
    for name in CUDART_NAMES:
        try:
            cudart = ctypes.CDLL(name)
        except OSError:
            continue
        values = []
        for attribute in (75, 76):  # cudaDevAttrComputeCapabilityMajor, …Minor
            value = ctypes.c_int(0)
            if cudart.cudaDeviceGetAttribute(ctypes.byref(value), attribute, 0) != 0:
                return ""
            values.append(str(value.value))
        return ".".join(values)
    return ""


def machine(root="/"):
    """What an engine depends on besides TensorRT."""
    return {
        "device": read_text(os.path.join(root, "proc/device-tree/model")) or os.uname().machine,
        "compute_capability": compute_capability(),
        "l4t": l4t_version(root),
    }


# ---------------------------------------------------------------- TensorRT


def import_tensorrt(name):
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


def import_remedy(name, error):
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


def version_of(trt):
    """(major, minor) of the module."""
    numbers = re.findall(r"\d+", trt.__version__)
    return int(numbers[0]), int(numbers[1])


def is_rtx(trt):
    """TensorRT-RTX counts its versions from 1 and behaves as TensorRT 11 does."""
    return "rtx" in trt.__name__


def attempts(version, rtx, precision, files):
    """What to try, best first: dicts of onnx, precision, builder flags, network flags, why.

    `files` maps fp32 and perhaps fp16 to ONNX names; `why` is empty for the first choice.
    """
    typed = rtx or version >= STRONGLY_TYPED_FROM
    network = [] if rtx else ["STRONGLY_TYPED"] if typed else ["EXPLICIT_BATCH"]
    full = {"onnx": files["fp32"], "precision": "fp32", "flags": [], "network": network, "why": ""}
    if precision == "fp32":
        return [full]
    if not typed:
        half = dict(full, precision="fp16", flags=["FP16"])
        return [half, full]
    if "fp16" not in files:
        return [dict(full, why="the bundle has this shape in fp32 only")]
    return [dict(full, onnx=files["fp16"], precision="fp16"), full]


def make_logger(trt, verbose):
    """A logger that keeps errors for the message and prints the rest on request."""

    class Log(trt.ILogger):
        def __init__(self):
            trt.ILogger.__init__(self)
            self.errors = []

        def log(self, severity, message):
            level = trt.ILogger.Severity
            if severity in (level.INTERNAL_ERROR, level.ERROR):
                self.errors.append(" ".join(message.split()))
            if verbose:
                print("  trt: " + message, file=sys.stderr)

    return Log()


def parse(trt, builder, logger, path, network_flags):
    """The network in the ONNX file. Raises Failed with the parser's own words."""
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


def parser_error(error):
    """What the parser says, with the node's name where this TensorRT tells it."""
    if not hasattr(error, "node_operator"):  # before 10
        return error.desc()
    return f"{error.node_operator()} '{error.node_name()}': {error.desc()}"


def configure(trt, builder, network, attempt, workspace, largest, sparse):
    """The builder's configuration; `largest` is (H, W) for a network of open shape."""
    config = builder.create_builder_config()
    if hasattr(config, "set_memory_pool_limit"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    else:  # before 8.4
        config.max_workspace_size = workspace
    for name in attempt["flags"] + (["SPARSE_WEIGHTS"] if sparse else []):
        config.set_flag(getattr(trt.BuilderFlag, name))
    if attempt["precision"] == "fp32" and hasattr(trt.BuilderFlag, "TF32"):
        config.clear_flag(trt.BuilderFlag.TF32)  # fp32 means 24 bits here, not TF32's 11
    if -1 in tuple(network.get_input(0).shape):
        profile = builder.create_optimization_profile()
        height, width = largest
        middle = (1, 3, max(1, height // 2), max(1, width // 2))
        profile.set_shape("input", (1, 3, 1, 1), middle, (1, 3, height, width))
        config.add_optimization_profile(profile)
    return config


def use_timing_cache(config, path):
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


def keep_timings(config, path):
    """Write the timings for the next build; a full disk costs them, never the engine."""
    cache = config.get_timing_cache()
    if cache is not None:
        try:
            write_atomically(path, bytes(cache.serialize()))
        except Failed as error:
            say(f"  {error}; the next build takes as long")


def build_plan(trt, path, attempt, options):
    """(plan bytes, workspace used). Raises Failed with TensorRT's own words.

    `options`: workspace (bytes), largest (H, W), sparse, verbose, timing_cache (path).
    Halves the workspace when the builder ran out of memory, LADDER_STEPS times at most.
    """
    workspace = options["workspace"]
    for _ in range(LADDER_STEPS):
        logger = make_logger(trt, options["verbose"])
        plan = try_build(trt, logger, path, attempt, options, workspace)
        if plan:
            return plan, workspace
        words = "; ".join(logger.errors)
        if not MEMORY_WORDS.search(words) or workspace // 2 < SMALLEST_WORKSPACE:
            break
        workspace //= 2
        say(f"  out of memory; trying a workspace of {workspace >> 20} MiB")
    raise Failed(
        f"TensorRT {trt.__version__} could not build {os.path.basename(path)}: "
        f"{words[-400:] or 'no reason given'}"
    )


def try_build(trt, logger, path, attempt, options, workspace):
    """The plan's bytes, or nothing; `logger` then knows why."""
    builder = open_builder(trt, logger)
    if attempt["precision"] == "fp16" and not getattr(builder, "platform_has_fast_fp16", True):
        raise Failed("this GPU has no fast fp16")
    # The parser is kept: it owns memory that the network reads.
    network, _parser = parse(trt, builder, logger, path, attempt["network"])
    config = configure(
        trt, builder, network, attempt, workspace, options["largest"], options["sparse"]
    )
    # TensorRT-RTX has no timings to keep: it tunes where it runs.
    cached = not is_rtx(trt) and use_timing_cache(config, options["timing_cache"])
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        return b""
    if cached:
        keep_timings(config, options["timing_cache"])
    return bytes(plan)


def open_builder(trt, logger):
    """TensorRT's builder. Raises NoTensorRT where it finds no GPU to build for."""
    try:
        return trt.Builder(logger)
    except TypeError as error:  # the bindings' answer to a builder that CUDA did not give
        reason = "; ".join(logger.errors)[-300:] or "CUDA does not start"
        raise NoTensorRT(
            f"TensorRT {trt.__version__} has no GPU to build for: {reason}. Run it on the board; "
            "a container needs --runtime nvidia"
        ) from error


# ---------------------------------------------------------------- the engine cache


def sha256_of(path):
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def write_atomically(path, data):
    """The whole file or none of it."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if os.path.exists(temporary):
            os.remove(temporary)
        raise Failed(f"cannot write {path}: {error.strerror}") from error


def stale(engine, key):
    """Why the engine must be built; an empty string when it is current."""
    sidecar = engine + ".json"
    if not os.path.isfile(engine) or not os.path.isfile(sidecar):
        return "not built yet"
    try:
        built = json.loads(read_text(sidecar))
        old = built["key"]
        for name in sorted(set(key) | set(old)):
            if old.get(name) != key.get(name):
                return f"{name} was {short(old.get(name))}, is {short(key.get(name))}"
        built["precision"], built["reason"]
        if built["plan_sha256"] != sha256_of(engine):
            return "the engine file is not the one that was built"
    except (ValueError, KeyError, TypeError, AttributeError):
        return "its description cannot be read"
    return ""


def short(value):
    """A digest by its first digits, anything else as it is."""
    text = "unknown" if value in (None, "") else str(value)
    return text[:12] if re.match("^[0-9a-f]{64}$", text) else text


# ---------------------------------------------------------------- the bundle


def load_manifest(folder):
    """The bundle's manifest. Raises Failed if there is none."""
    path = os.path.join(folder, "manifest.json")
    try:
        with open(path, encoding="utf-8") as file:
            manifest = json.load(file)
        for role, model in manifest["models"].items():
            for shape, files in model["onnx"].items():
                # They become file names; "fp32" is what every attempt can fall back to.
                plain = PLAIN_NAME.fullmatch(role) and PLAIN_NAME.fullmatch(shape)
                if not plain or len(model["tile"]) != 2 or "fp32" not in files:
                    raise ValueError(role)
        manifest["files"], manifest["precision"]
        return manifest
    except OSError as error:
        raise Failed(f"no manifest.json in {folder}: run build.py inside a bundle") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Failed(f"{path} is damaged: copy the bundle again") from error


def checked(folder, manifest, name):
    """The path of a bundle file whose hash is right."""
    if os.path.basename(name) != name or name not in manifest["files"]:
        raise Failed(f"manifest.json names {name!r}, which is no file of this bundle")
    path = os.path.join(folder, name)
    if not os.path.isfile(path):
        raise Failed(f"{name} is missing: copy the bundle again")
    if sha256_of(path) != manifest["files"][name]["sha256"]:
        raise Failed(f"{name} is not the file that was exported: copy the bundle again")
    return path


def jobs(manifest, model):
    """(name, ONNX files by precision, largest tile) of each engine to build."""
    known = sorted(manifest["models"])
    if model != "all" and model not in known:
        raise Failed("no model '{}' in this bundle; known: {}".format(model, ", ".join(known)))
    found = []
    for role in known:
        if model in ("all", role):
            shapes = manifest["models"][role]["onnx"]
            for shape in sorted(shapes, reverse=True):  # tile before dynamic
                largest = tuple(manifest["models"][role]["tile"])
                found.append((f"{role}.{shape}", shapes[shape], largest))
    return found


def build_one(trt, folder, manifest, job, args, facts):
    """Build one engine unless it is current; returns its description."""
    name, files, largest = job
    precision = manifest["precision"] if args.precision == "auto" else args.precision
    tries = attempts(version_of(trt), is_rtx(trt), precision, files)
    engine = os.path.join(args.engines, name + ".engine")
    paths = dict((t["onnx"], checked(folder, manifest, t["onnx"])) for t in tries)
    key = dict(
        facts,
        precision=precision,
        sparse_weights=args.sparse_weights,
        tensorrt=f"{trt.__name__} {trt.__version__}",
        largest=list(largest),
    )
    for onnx, path in paths.items():
        key["sha256 of " + onnx] = sha256_of(path)
    why = "--force" if args.force else stale(engine, key)
    if not why:
        built = json.loads(read_text(engine + ".json"))
        fallen = ", since " + built["reason"] if built["reason"] else ""
        say(f"{name}: current, {built['precision']}{fallen}")
        return built
    say(f"{name}: building ({why})")
    workspace = args.workspace_mb << 20 if args.workspace_mb else default_workspace()
    cache = "timing-{}-{}-{}.cache".format(
        trt.__name__, trt.__version__, facts["compute_capability"] or "unknown"
    )
    options = {
        "workspace": workspace,
        "largest": largest,
        "sparse": args.sparse_weights,
        "verbose": args.verbose,
        "timing_cache": os.path.join(args.engines, cache),
    }
    start = time.time()
    attempt, plan, used, fell_back = first_that_builds(trt, tries, paths, options)
    write_atomically(engine, plan)
    built = {
        "key": key,
        "onnx": attempt["onnx"],
        "precision": attempt["precision"],
        "reason": fell_back,
        "plan_bytes": len(plan),
        "workspace_bytes": used,
        "plan_sha256": hashlib.sha256(plan).hexdigest(),
        "build_s": round(time.time() - start, 2),
    }
    write_atomically(engine + ".json", json.dumps(built, indent=1, sort_keys=True).encode())
    say(f"{name}: {attempt['precision']}, {len(plan) / 1e6:.2f} MB, {built['build_s']:.1f} s")
    return built


def first_that_builds(trt, tries, paths, options):
    """(attempt, plan, workspace, why not the first choice)."""
    reasons = []
    for attempt in tries:
        try:
            plan, used = build_plan(trt, paths[attempt["onnx"]], attempt, options)
            return attempt, plan, used, attempt["why"] or "; ".join(reasons)
        except NoTensorRT:
            raise  # no other file or flag changes that
        except Failed as error:
            reasons.append("{}: {}".format(attempt["precision"], error))
            if attempt is not tries[-1]:
                say(f"  {reasons[-1]}; trying fp32")
    raise Failed("; ".join(reasons))


def default_workspace():
    """Bytes: a share of what is free, since a Jetson's GPU and CPU have one memory."""
    return max(SMALLEST_WORKSPACE, int(available_bytes() * MEMORY_SHARE))


def say(line):
    """Progress, on stderr."""
    print(line, file=sys.stderr, flush=True)


def arguments(argv):
    """The command line."""
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description="Build this bundle's TensorRT engines, here.")
    parser.add_argument("--model", default="all", help="student, teacher or all")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp16", "fp32"])
    parser.add_argument("--engines", default=os.path.join(here, "engines"), metavar="DIR")
    parser.add_argument(
        "--workspace-mb",
        type=int,
        default=0,
        metavar="N",
        help="builder memory; 40 %% of what is free if not given",
    )
    parser.add_argument(
        "--sparse-weights",
        action="store_true",
        help="let TensorRT try 2:4 kernels where weights have that pattern",
    )
    parser.add_argument(
        "--trt-module",
        default=os.environ.get("EDGESR_TRT_MODULE", "tensorrt"),
        help="tensorrt, or tensorrt_rtx on a desktop",
    )
    parser.add_argument("--force", action="store_true", help="rebuild what is current, too")
    parser.add_argument("--json", action="store_true", help="print the descriptions as JSON")
    parser.add_argument("--verbose", action="store_true", help="print TensorRT's log")
    args = parser.parse_args(argv)
    if args.workspace_mb < 0:
        parser.error("--workspace-mb must be positive")
    args.folder = here
    return args


def main(argv=None):
    """Build what the command line asks for; returns the exit code."""
    args = arguments(argv)
    try:
        manifest = load_manifest(args.folder)
        wanted = jobs(manifest, args.model)
        trt = import_tensorrt(args.trt_module)
        if version_of(trt) > NEWEST and not is_rtx(trt):
            say(f"TensorRT {trt.__version__} is newer than what this was written for (11.4)")
        facts = machine()
        try:
            os.makedirs(args.engines, exist_ok=True)
        except OSError as error:
            raise Failed(f"cannot make {args.engines}: {error.strerror}") from error
        built = {}
        for job in wanted:
            built[job[0]] = build_one(trt, args.folder, manifest, job, args, facts)
    except Failed as error:
        print(f"build.py: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"build.py: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if args.json:
        print(json.dumps(built, indent=1, sort_keys=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
