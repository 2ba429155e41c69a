"""What `clary test` runs inside the environment a wheel was installed into: imports, loads, and compares a call.

Its argument is JSON: modules, libraries (relative to the packages' folder), call ("module:function" or ""), gpu, tolerance.
Its last line of output is JSON: a list of [what, name, state, text], state being ok, failed or skipped.
"""

import ctypes
import importlib
import importlib.util
import inspect
import json
import os
import sys
import sysconfig

results = []


def note(what, name, state, text=""):
    results.append([what, name, state, str(text)[:600]])


def attempt(what, name, action):
    try:
        note(what, name, "ok", action() or "")
        return True
    except BaseException as error:  # a module may raise anything, SystemExit included
        note(what, name, "failed", f"{type(error).__name__}: {error}")
        return False


def find_call(modules):
    """The first function of a module whose first three parameters are q, k and v."""
    for module in map(sys.modules.get, modules):
        for name, value in sorted(vars(module).items()) if module else ():
            try:
                parameters = list(inspect.signature(value).parameters) if callable(value) else []
            except (TypeError, ValueError):
                continue
            if parameters[:3] == ["q", "k", "v"] and not name.startswith("_"):
                return f"{module.__name__}:{name}"
    return ""


def compare(torch, call, gpu, tolerance):
    """The function against torch's own attention in f64, on (batch, heads, length, head_dim) tensors; N(0, 1), seed 0."""
    module, _, name = call.partition(":")
    function = getattr(importlib.import_module(module), name)
    on_gpu = torch.cuda.is_available()
    if gpu and not on_gpu:
        raise RuntimeError("no GPU that torch can use")
    device, dtype = ("cuda", torch.float16) if on_gpu else ("cpu", torch.float32)
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, 160, 64, generator=generator) for _ in range(3))
    wanted = torch.nn.functional.scaled_dot_product_attention(q.double(), k.double(), v.double())
    try:
        got = function(*(t.to(device, dtype) for t in (q, k, v)))
    except Exception as error:
        if on_gpu:
            raise
        return None, f"no GPU here, and {type(error).__name__}: {error}"
    got = (got[0] if isinstance(got, tuple) else got).double().cpu()
    error = float((got - wanted).norm() / wanted.norm())
    if not error <= tolerance:
        raise AssertionError(f"relative L2 error {error:.4f} against f64 attention, allowed {tolerance}")
    return True, f"relative L2 error {error:.4f} against f64 attention, on {device}"


def main():
    asked = json.loads(sys.argv[1])
    torch = None
    if importlib.util.find_spec("torch"):
        try:
            torch = importlib.import_module("torch")
        except Exception as error:
            note("torch", "torch", "failed", f"{type(error).__name__}: {error}")
    for module in asked["modules"]:
        attempt("import", module, lambda module=module: importlib.import_module(module) and "")
    folder = sysconfig.get_paths()["platlib"]
    for library in asked["libraries"]:
        path = os.path.join(folder, library)
        attempt("load", library, lambda path=path: ctypes.CDLL(path, mode=os.RTLD_NOW) and "")
    call = asked["call"] or find_call(asked["modules"])
    if not call:
        note("call", "", "skipped", "no function of q, k and v found; name one with --call MODULE:FUNCTION")
    elif torch is None:
        note("call", call, "failed" if asked["gpu"] else "skipped", "no torch to compare with")
    else:
        try:
            done, text = compare(torch, call, asked["gpu"], asked["tolerance"])
            note("call", call, "ok" if done else "skipped", text)
        except Exception as error:
            note("call", call, "failed", f"{type(error).__name__}: {error}")
    print(json.dumps(results))


main()
