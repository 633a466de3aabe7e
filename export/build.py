#!/usr/bin/env python3
"""Build this bundle's TensorRT engines on the board that will run them.

    python3 build.py                      every engine of the bundle, into engines/
    python3 build.py --model student      the student's only
    python3 build.py --precision fp32     full precision

Needs the board's own TensorRT and nothing else; Python 3.6 or newer. Which ONNX file and
which flags are used depends on the TensorRT version:

    8.2 - 9.x    *.fp32.onnx, *.int8.trt.onnx; the builder flags FP16 and INT8
    10.x         *.fp16.onnx, *.int8.trt-fp16.onnx (types are in the file), STRONGLY_TYPED
    11.x, RTX    the same, no flag: strongly typed is all there is

Beside each NAME.engine lies NAME.engine.json: what it was built from and for. An engine is
rebuilt when any of that changed; one line says what. The .engine file is the plain plan:
trtexec --loadEngine=engines/NAME.engine takes it. What does not build in int8 is built in
fp16, then in fp32, with the reason. On JetPack 4, and where TensorRT has no Python, trtexec
builds, and times each engine.

Exit code: 0 done, 1 failed, 2 wrong usage, 4 no usable TensorRT on this machine,
130 interrupted.
"""

import argparse
import json
import os
import sys

try:
    from edgesr.board import bundle, engine, facts
    from edgesr.board.choice import NEWEST, PRECISIONS
    from edgesr.board.failed import Failed, say
except (ImportError, SyntaxError, ValueError) as error:  # a lost or damaged file
    sys.exit(f"build.py: its own modules do not load ({error}): copy the bundle again")


def arguments(argv):
    """The command line."""
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description="Build this bundle's TensorRT engines, here.")
    add = parser.add_argument
    add("--model", default="all", help="student, teacher or all")
    add("--precision", default="auto", choices=["auto", *reversed(PRECISIONS)])
    add("--engines", default=os.path.join(here, "engines"), metavar="DIR")
    share = "builder memory; 40 %% of what is free if not given"
    add("--workspace-mb", type=int, default=0, metavar="N", help=share)
    sparse = "let TensorRT try 2:4 kernels (default: where the bundle was exported for them)"
    add("--sparse-weights", action="store_true", default=None, help=sparse)
    add("--no-sparse-weights", action="store_false", dest="sparse_weights")
    tool = "TensorRT's Python, or trtexec (default: what is there)"
    add("--builder", default="auto", choices=["auto", "python", "trtexec"], help=tool)
    add("--trtexec", metavar="PATH", help="where trtexec is")
    module = os.environ.get("EDGESR_TRT_MODULE", "tensorrt")
    add("--trt-module", default=module, help="tensorrt, or tensorrt_rtx on a desktop")
    add("--force", action="store_true", help="rebuild what is current, too")
    add("--json", action="store_true", help="print the descriptions as JSON")
    add("--verbose", action="store_true", help="print TensorRT's log")
    args = parser.parse_args(argv)
    if args.workspace_mb < 0:
        parser.error("--workspace-mb must be positive")
    args.folder = here
    return args


def settings_of(args, manifest, here):
    """How the engines are built."""
    sparse = args.sparse_weights
    return engine.Settings(
        engines=args.engines,
        precision=manifest["precision"] if args.precision == "auto" else args.precision,
        facts=here,
        sparse=bundle.wants_sparse(manifest) if sparse is None else sparse,
        workspace_mb=args.workspace_mb,
        force=args.force,
        verbose=args.verbose,
    )


def build_all(args):
    """Every engine that was asked for: its description by its name."""
    manifest = bundle.load_manifest(args.folder)
    wanted = bundle.jobs(args.folder, manifest, args.model)
    here = facts.machine()
    tool = engine.open_tool(args.builder, args.trt_module, args.trtexec, here["l4t"])
    if tool.version > NEWEST and not tool.rtx:
        say(f"{tool.name} is newer than what this was written for (11.4)")
    settings = settings_of(args, manifest, here)
    try:
        os.makedirs(args.engines, exist_ok=True)
    except OSError as error:
        raise Failed(f"cannot make {args.engines}: {error.strerror}") from error
    return {job.name: engine.build(tool, job, settings) for job in wanted}


def main(argv=None):
    """Build what the command line asks for; returns the exit code."""
    args = arguments(argv)
    try:
        built = build_all(args)
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
