"""python -m clary: doctor, info, explain, shim. Data on stdout; exit 0 fine, 1 a finding, 2 usage."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m clary", description="low-bit attention")
    verbs = parser.add_subparsers(dest="verb", required=True)
    doctor = verbs.add_parser("doctor", help="prove every backend on this machine against float64")
    doctor.add_argument("--json", action="store_true")
    doctor.add_argument("--one", metavar="TARGET", help=argparse.SUPPRESS)
    doctor.add_argument("--device", type=int, default=-1, help=argparse.SUPPRESS)
    verbs.add_parser("info", help="this machine as the library sees it, as JSON")
    explain = verbs.add_parser("explain", help="which variant a problem of this shape would get, and why")
    explain.add_argument("shape", help="of q: B,H,L,D")
    explain.add_argument("--kv", help="shape of k and v, B,H,L,D; default q's")
    explain.add_argument("--dtype", choices=("f16", "bf16", "f32"), default="f16")
    explain.add_argument("--accuracy", choices=("exact", "high", "standard", "fast"), default="standard")
    explain.add_argument("--causal", choices=("upper_left", "lower_right"), default=False)
    explain.add_argument("--cuda", type=int, default=-1, metavar="N", help="on GPU N, not on the CPU")
    explain.add_argument("--gpu", metavar="NAME", help='on a GPU that need not be here, such as "RTX 4090"')
    explain.add_argument("--json", action="store_true")
    shim = verbs.add_parser(
        "shim", help="put clary under another package's name, for programs that ask for its version"
    )
    shim.add_argument("names", nargs="*", metavar="NAME", help="sageattention, sageattn3 or spas_sage_attn")
    shim.add_argument(
        "--wheel", metavar="FOLDER", help="write the wheels there and install nothing; all, without names"
    )
    shim.add_argument("--replace", action="store_true", help="even where the real package is installed")
    args = parser.parse_args()

    from . import _call, _doctor, _lib

    if args.verb == "explain" and args.gpu:
        os.environ["CLARY_DEVICE"], args.cuda = args.gpu, 0
    try:
        if args.verb == "info":
            print(json.dumps(_lib.info(), indent=2))
        elif args.verb == "doctor" and args.one:
            print(json.dumps(_doctor.check_one(args.one, args.device)))
        elif args.verb == "doctor":
            return 0 if _doctor.main(args.json, sys.stdout) else 1
        elif args.verb == "shim":
            run_shim(args)
        else:
            code = {"f16": _lib.F16, "bf16": _lib.BF16, "f32": _lib.F32}[args.dtype]
            shapes = [tuple(int(n) for n in text.split(",")) for text in (args.shape, args.kv or args.shape)]
            q, kv = (_doctor.Floats(shape, False, code, args.cuda) for shape in shapes)
            call = _call.Arguments(q, kv, kv, causal=args.causal, accuracy=args.accuracy)
            answer = _call.explain(_doctor, "nothing", *call)
            print(json.dumps(answer.plan or {"variant": None, "reason": answer.reason}) if args.json else answer)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (FileExistsError, RuntimeError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run_shim(args: argparse.Namespace) -> None:
    from . import _shim

    unknown = set(args.names) - set(_shim.names())
    if unknown or not (args.names or args.wheel):
        raise ValueError(f"shim wants names of {', '.join(_shim.names())}, or --wheel.")
    for name in args.names or _shim.names():
        if args.wheel:
            print(_shim.build(name, Path(args.wheel)))
        else:
            _shim.install(name, args.replace)


if __name__ == "__main__":
    sys.exit(main())
