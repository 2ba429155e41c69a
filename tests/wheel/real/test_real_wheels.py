"""clary inspect and verify on real wheels of the package index, against auditwheel and cuobjdump.

wheels.toml lists them. Each wheel is downloaded, compared and deleted; CLARY_REAL_WHEELS names a folder to keep them in.
CLARY_TOOL is the program. Without the index everything is skipped, with the reason.
"""

from __future__ import annotations

import collections
import json
import os
import posixpath
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomllib

HERE = Path(__file__).resolve().parent
TOOL = os.environ.get("CLARY_TOOL", str(HERE.parents[2] / "build/release/bin/clary"))
ROWS = tomllib.loads((HERE / "wheels.toml").read_text(encoding="utf-8"))["wheel"]
CUOBJDUMP = "nvidia-cuda-cuobjdump==13.5.37"
GLIBC = ["2_39", "2_38", "2_35", "2_34", "2_31", "2_28", "2_27", "2_26", "2_24", "2_17", "2_12", "2_5"]
PLATFORMS = {
    "linux": [f"manylinux_{v}_x86_64" for v in GLIBC] + ["manylinux2014_x86_64", "manylinux1_x86_64", "any"],
    "aarch64": [f"manylinux_{v}_aarch64" for v in GLIBC[:-2]] + ["manylinux2014_aarch64", "any"],
    "musl": ["musllinux_1_2_x86_64"],
    "macos": ["macosx_14_0_arm64"],
    "windows": ["win_amd64"],
}

# What tells a platform's wheel in a folder of all.
KINDS = {
    "linux": "manylinux.*x86_64|-any[.]whl",
    "aarch64": "aarch64",
    "musl": "musllinux",
    "macos": "macosx",
    "windows": "win_amd64",
}


def download(requirement: str, platform: str, folder: Path) -> Path:
    """The wheel of `requirement` in `folder`; one that is there already is not fetched again."""
    folder.mkdir(parents=True, exist_ok=True)
    name, _, version = requirement.partition("==")
    for wheel in folder.glob(f"{name.replace('-', '_')}-{version}-*.whl"):
        if re.search(KINDS[platform], wheel.name):
            return wheel
    before = set(folder.iterdir())
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--python-version", "3.12", "--dest", str(folder), requirement]
    command += [word for tag in PLATFORMS[platform] for word in ("--platform", tag)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"pip download {requirement}: {done.stderr.strip()[-400:]}")
    return (set(folder.iterdir()) - before).pop()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kept = os.environ.get("CLARY_REAL_WHEELS")
    return Path(kept) if kept else tmp_path_factory.mktemp("wheels")


@pytest.fixture(scope="session")
def cuobjdump(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """NVIDIA's lister, from the index; where that cannot be reached, so cannot the wheels."""
    probe = subprocess.run(
        [sys.executable, "-m", "pip", "index", "versions", "nvidia-cuda-cuobjdump"], capture_output=True, check=False
    )
    if probe.returncode:
        pytest.skip("the package index cannot be reached")
    with zipfile.ZipFile(download(CUOBJDUMP, "linux", folder)) as wheel:
        member = next(name for name in wheel.namelist() if name.endswith("/bin/cuobjdump"))
        program = Path(wheel.extract(member, tmp_path_factory.mktemp("cuobjdump")))
    program.chmod(0o755)
    return program


@pytest.fixture(scope="module", params=ROWS, ids=lambda row: row["requirement"] + "-" + row.get("platform", "linux"))
def wheel(request: pytest.FixtureRequest, cuobjdump: Path, folder: Path) -> Iterator[tuple[dict, Path, dict]]:
    """A row of wheels.toml, its file, and what inspect says of it."""
    row = request.param
    file = download(row["requirement"], row.get("platform", "linux"), folder)
    yield row, file, clary("inspect", file)["files"][0]
    if "CLARY_REAL_WHEELS" not in os.environ:
        file.unlink()


def clary(verb: str, *arguments: object) -> dict:
    done = subprocess.run([TOOL, verb, "--json", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)


def elves(facts: dict) -> list[dict]:
    return [binary for binary in facts["binaries"] if binary["format"] == "ELF"]


def test_verify_finds_what_is_known_of_it(wheel):
    row, file, _ = wheel
    (result,) = clary("verify", file)["files"]
    found = {f["rule"] for f in result["findings"] if f["severity"] == "error"}
    texts = [f"{f['rule']} {f['where']}: {f['text']}" for f in result["findings"] if f["severity"] == "error"]
    assert found == set(row.get("errors", [])), "\n".join(texts)


def test_nothing_is_unreadable(wheel):
    _, _, facts = wheel
    assert [b["path"] + ": " + fault for b in facts["binaries"] for fault in b["faults"]] == []
    assert facts["wheel"]["faults"] == []


def test_auditwheel_agrees(wheel):
    row, file, facts = wheel
    if not elves(facts):
        pytest.skip("auditwheel reads Linux libraries")
    command = [sys.executable, "-m", "auditwheel", "show", "--json", "--ldpaths", "/nowhere", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    theirs = json.loads(done.stdout)
    if row.get("platform") != "musl":  # of which auditwheel takes the file name's word
        assert facts["wheel"]["fits"]["policy"] == theirs["sym_tag"]

    versions: dict[str, set[str]] = collections.defaultdict(set)
    for binary in elves(facts):
        for library, names in binary["versions"].items():
            if not library.startswith("ld-linux"):  # which auditwheel leaves out
                versions[library] |= set(names)
    assert {library: sorted(names) for library, names in sorted(versions.items())} == theirs["versioned_symbols"]

    # What auditwheel calls external: needed, not in the list of the newest policy, and not in the wheel where the library that
    # needs it looks for it.
    members = {m["name"] for m in facts["wheel"]["members"]}
    external = {
        name for b in elves(facts) for name in b["needed"] if not any(p in members for p in candidates(b, name))
    }
    assert external - system_libraries(theirs["sym_tag"]) == set(theirs["external_libs"])


def candidates(binary: dict, name: str) -> list[str]:
    """Members of the wheel where the loader would look for a library, by the one's RUNPATH that needs it."""
    origin = posixpath.dirname(binary["path"])
    paths = (binary.get("runpath") or binary.get("rpath") or "").split(":")
    inside = [p.replace("${ORIGIN}", "$ORIGIN") for p in paths if p.startswith(("$ORIGIN", "${ORIGIN}"))]
    return [posixpath.normpath(p.replace("$ORIGIN", origin) + "/" + name) for p in inside]


def system_libraries(tag: str) -> set[str]:
    import auditwheel.policy

    kind = "musllinux" if tag.startswith("musllinux") else "manylinux"
    rows = json.loads((Path(auditwheel.policy.__file__).parent / f"{kind}-policy.json").read_text(encoding="utf-8"))
    lists = [row["lib_whitelist"] for row in rows if row["name"] != "linux"]
    return set().union(*lists) | {
        "ld-linux-x86-64.so.2",
        "ld-linux-aarch64.so.1",
        "ld-musl-x86_64.so.1",
        "libc.musl-x86_64.so.1",
    }


def images(program: Path, file: Path, what: str, suffix: str) -> tuple[list[str], bool]:
    """["sm_80", "sm_90a", ...] in the order of the file, relocatable code included; False when cuobjdump gave up before the end,
    as 13.5 does at sm_90 cubins of CUDA 12.0 to 12.2 ("Invalid ELF")."""
    done = subprocess.run([program, what, "-all", file], capture_output=True, text=True, check=False)
    found = re.findall(rf"\.(sm_\d+[af]?)\.{suffix}$", done.stdout, re.MULTILINE)
    return [name.removesuffix("f") for name in found], "Invalid ELF" not in done.stderr


def sections(library: Path) -> list[tuple[int, bytes]]:
    """Where cuobjdump looks for containers: offset and content. Some libraries have more in their data: libcheckpoint of CUPTI, and
    libtorch_cuda, whose .lrodata holds cubins of libcublasLt."""
    from elftools.elf.elffile import ELFFile

    with library.open("rb") as file:
        elf = ELFFile(file)
        found = [elf.get_section_by_name(name) for name in ("__nv_relfatbin", ".nv_fatbin")]
        return [(section["sh_offset"], section.data()) for section in found if section]


def containers(parts: list[tuple[int, bytes]], folder: Path) -> list[Path]:
    """The GPU containers of a library, each as a file: where cuobjdump gives up, it does so in one of them."""
    found = []
    for _, data in parts:
        at = 0
        while at < len(data):
            if data[at : at + 4] != b"\x50\xed\x55\xba":  # padding
                at += 8
                continue
            end = at + 16 + int.from_bytes(data[at + 8 : at + 16], "little")
            found.append(folder / f"{len(found)}.fatbin")
            found[-1].write_bytes(data[at:end])
            at = (end + 7) // 8 * 8
    return found


def name_of(image: dict) -> str:
    """As cuobjdump prints it, which shows family code (sm_100f) as plain."""
    return image["name"].replace("compute_", "sm_").removesuffix("f")


def test_cuobjdump_agrees(wheel, cuobjdump, tmp_path):
    _, file, facts = wheel
    compared = 0
    with zipfile.ZipFile(file) as archive:
        for binary in elves(facts):
            library = tmp_path / "library.so"
            with archive.open(binary["path"]) as packed, library.open("wb") as plain:
                shutil.copyfileobj(packed, plain, 1 << 20)
            parts = sections(library)
            ours = [
                i
                for i in binary["gpu"]["images"]
                if not i.get("bare") and any(0 <= i["offset"] - at < len(data) for at, data in parts)
            ]
            for what, suffix, kind in (("--list-elf", "cubin", "SASS"), ("--list-ptx", "ptx", "PTX")):
                names = [name_of(i) for i in ours if i["kind"] == kind]
                theirs, whole = images(cuobjdump, library, what, suffix)
                if whole:
                    assert sorted(names) == sorted(theirs), f"{binary['path']} {what}"
                    compared += len(names)
                    continue
                modules = sorted({i["module"] for i in ours})
                for module, part in zip(modules, containers(parts, tmp_path), strict=True):
                    names = [name_of(i) for i in ours if i["kind"] == kind and i["module"] == module]
                    theirs, whole = images(cuobjdump, part, what, suffix)
                    assert names[: None if whole else len(theirs)] == theirs, f"{binary['path']} module {module} {what}"
                    compared += len(theirs)
            library.unlink()
    if not compared:
        pytest.skip("no GPU code inside, and cuobjdump finds none either")
