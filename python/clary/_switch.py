"""clary.enable(): clary in the place of packages that programs import, of torch's SDPA, and on other packages' lists.

One finder at the head of sys.meta_path answers for the enabled packages, to import and to importlib.metadata alike. The
modules are those of clary.compat, under both names, so that there is one of each. What is enabled is one State; going to
another one replaces, or puts back, only what differs.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from threading import RLock
from types import ModuleType
from typing import Any, NamedTuple

# What enable() takes -> the top-level packages it answers for.
PACKAGES = {
    "sageattention": ("sageattention",),
    "sageattn3": ("sageattn3", "sageattn"),  # the second is its spelling before release
    "spas_sage_attn": ("spas_sage_attn",),
}
# What else it takes -> the module to change, now or when it is imported, and ours whose install() and uninstall() do it.
PATCHES = {
    "sdpa": ("torch", "clary.compat.sdpa"),
    "transformers": ("transformers.modeling_utils", "clary.integrations.transformers"),
    "diffusers": ("diffusers.models.attention_dispatch", "clary.integrations.diffusers"),
}
VERSIONS = {"sageattention": "2.2.0", "sageattn3": "1.0.0", "spas_sage_attn": "0.1.0"}  # of the interfaces


class State(NamedTuple):
    names: frozenset[str] = frozenset()
    accuracy: str | None = None
    grad: str = "refuse"


class Enabled:
    """What enable() answers: leaving it as a context restores what was before."""

    def __init__(self, before: State, now: State) -> None:
        self._before, self.state = before, now

    def __enter__(self) -> State:
        return self.state

    def __exit__(self, *error: Any) -> None:
        with _lock:
            _go(self._before)


_lock = RLock()
_state = State()
_replaced: dict[str, ModuleType] = {}  # what stood in sys.modules under an enabled package's names


def version(package: str) -> str:
    """Of the distribution that clary shows for it."""
    return VERSIONS[package] + "+clary"


def state() -> State:
    return _state


def enable(names: Sequence[str], accuracy: str | None, grad: str | None) -> Enabled:
    from . import _call

    for name in names:
        if name not in PACKAGES and name not in PATCHES:
            raise ValueError(f"{name!r} cannot be enabled. There are {', '.join(map(repr, [*PACKAGES, *PATCHES]))}.")
    if accuracy is not None:
        _call._word("accuracy", accuracy, _call._ACCURACY)
    _call._word("grad", grad or "refuse", _call._GRAD)
    with _lock:
        before = _state
        new = State(before.names | set(names), accuracy or before.accuracy, grad or before.grad)
        _go(new)
        return Enabled(before, new)


def disable(names: Sequence[str]) -> None:
    with _lock:
        _go(_state._replace(names=_state.names - set(names)) if names else State())


def enable_from_environment() -> None:
    """CLARY_ENABLE: names, accuracy=WORD and grad=WORD, with commas between. A mistake in it is a warning."""
    words = [word.strip() for word in os.environ.get("CLARY_ENABLE", "").split(",") if word.strip()]
    options = dict(word.split("=", 1) for word in words if "=" in word)
    try:
        enable([word for word in words if "=" not in word], options.pop("accuracy", None), options.pop("grad", None))
        if options:
            raise ValueError(f"it has no {', '.join(options)}")
    except ValueError as error:
        warnings.warn(f"CLARY_ENABLE={os.environ['CLARY_ENABLE']}: {error}", RuntimeWarning, stacklevel=2)


def enable_from_shim(name: str, module: str, file: str) -> None:
    """What the module of a shim wheel does: `module` is its name, `file` where it is."""
    others = [p for p in sys.path if p and os.path.isfile(at := os.path.join(p, module, "__init__.py")) and at != file]
    if others:
        text = f"{module} is a shim of clary, in {os.path.dirname(file)}, and also a package in {others[0]}. Uninstall one."
        warnings.warn(text, RuntimeWarning, stacklevel=3)
    del sys.modules[module]  # the import that runs this takes what stands there in the end
    with _lock:
        _go(_state._replace(names=_state.names | {name}))
    importlib.import_module(module)


def _go(new: State) -> None:
    global _state
    old, _state = _state, new
    settings = importlib.import_module("clary.compat._serve").settings
    settings.accuracy, settings.grad = new.accuracy, new.grad
    for package in _packages(old) - _packages(new):
        _drop(package)
        for name in [name for name in _replaced if _root(name) == package]:
            sys.modules[name] = _replaced.pop(name)
    for package in _packages(new) - _packages(old):
        for name, module in _drop(package).items():
            _replaced[name] = module
            if name == package:
                text = f"{package} was imported before clary.enable(): what took names from it keeps the original."
                warnings.warn(text, RuntimeWarning, stacklevel=4)
    if new.names and _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    elif not new.names and _finder in sys.meta_path:
        sys.meta_path.remove(_finder)
    for name in (old.names ^ new.names) & set(PATCHES):
        there = sys.modules.get(PATCHES[name][0])
        if there is not None and not getattr(there.__spec__, "_initializing", False):
            _patch(name, name in new.names)


def _packages(state: State) -> set[str]:
    return {package for name in state.names for package in PACKAGES.get(name, ())}


def _root(name: str) -> str:
    return name.partition(".")[0]


def _drop(package: str) -> dict[str, ModuleType]:
    """Takes a package out of sys.modules."""
    return {name: sys.modules.pop(name) for name in list(sys.modules) if _root(name) == package}


def _patch(name: str, on: bool) -> None:
    ours = importlib.import_module(PATCHES[name][1])
    try:
        ours.install() if on else ours.uninstall()
    except ImportError as error:
        text = f"clary.enable({name!r}): this version of it has no such list of attentions ({error})."
        warnings.warn(text, RuntimeWarning, stacklevel=4)


class _Finder:
    """Finds the enabled packages, their distributions, and the modules to patch, to do that when they are there."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if _root(name) in _packages(_state):
            real = importlib.util.find_spec("clary.compat." + name)
            return real and ModuleSpec(
                name, _Alias(), origin=real.origin, is_package=bool(real.submodule_search_locations)
            )
        for patch in _state.names & set(PATCHES):
            if name == PATCHES[patch][0]:
                for finder in sys.meta_path:
                    spec = finder is not self and finder.find_spec(name, path, target)
                    if spec and spec.loader:
                        spec.loader = _ThenPatch(spec.loader, patch)
                        return spec
        return None

    def find_distributions(self, context: Any) -> Iterator[Any]:
        # A search along a path of its own (pip's, of an environment) is about files, which enable() does not make.
        if "path" not in vars(context):
            from ._shim import Shown

            for name in _state.names & set(VERSIONS):
                if context.name is None or context.name.lower().replace("-", "_") == name:
                    yield Shown(name)


class _Alias(Loader):
    """Loads a module of clary.compat under the name that the program asked for."""

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = importlib.import_module("clary.compat." + module.__name__)


class _ThenPatch(Loader):
    """A module's own loader, and then our patch of it."""

    def __init__(self, loader: Any, patch: str) -> None:
        self.loader, self.patch = loader, patch

    def create_module(self, spec: ModuleSpec) -> Any:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = module.__spec__.loader = self.loader  # type: ignore[union-attr]
        self.loader.exec_module(module)
        if self.patch in _state.names:
            try:
                _patch(self.patch, True)
            except RuntimeError as error:  # no library: the package is imported all the same
                warnings.warn(
                    f"{PATCHES[self.patch][0]} keeps its own attention: {error}", RuntimeWarning, stacklevel=2
                )


_finder = _Finder()
