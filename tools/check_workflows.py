"""Whether .github/workflows say what GitHub will understand.

    check_workflows.py [CLARY]

  - each file fits the published schema of workflows (check-jsonschema carries it);
  - in ${{ }}: needs.JOB is in the job's `needs` and has that output, steps.ID is an earlier step, matrix.KEY is one that the matrix has
    (of a matrix from `clary plan --format github`: one that CLARY prints), functions and contexts exist;
  - scripts pass shellcheck, as bash; ./dev is called with a verb and steps that it has.
Exit 1 on a finding.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))
BIN = Path(sys.executable).parent
FUNCTIONS = set(
    "contains startsWith endsWith format join toJSON fromJSON hashFiles success always cancelled failure".split()
)
CONTEXTS = {"github", "env", "vars", "job", "steps", "runner", "secrets", "strategy", "matrix", "needs", "inputs"}


def texts(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            # `if:` is an expression without its brackets
            yield from [f"${{{{ {value} }}}}"] if key == "if" and "${{" not in str(value) else texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from texts(value)
    elif isinstance(node, str):
        yield node


def expressions(node: object) -> Iterator[str]:
    for text in texts(node):
        yield from (re.sub(r"'[^']*'", "''", found) for found in re.findall(r"\$\{\{(.*?)\}\}", text, re.DOTALL))


def matrix_keys(job: dict, clary: str | None) -> set[str] | None:
    """None: they cannot be known here."""
    matrix = job.get("strategy", {}).get("matrix", {})
    if isinstance(matrix, dict):
        return set(matrix) | {key for row in matrix.get("include", []) for key in row}
    if not clary:
        return None
    said = subprocess.run([clary, "plan", "--format", "github"], capture_output=True, text=True, check=True, cwd=ROOT)
    line = next(line for line in said.stdout.splitlines() if line.startswith("matrix="))
    return set(json.loads(line.removeprefix("matrix="))["include"][0])


def check_job(jobs: dict, name: str, clary: str | None) -> Iterator[str]:
    job = jobs[name]
    needs = [job["needs"]] if isinstance(job.get("needs"), str) else job.get("needs", [])
    yield from (f"needs {other}, which is no job" for other in needs if other not in jobs)
    keys = matrix_keys(job, clary)
    # `outputs` see every step; a step sees those before it.
    steps = job.get("steps", [])
    parts = [({k: v for k, v in job.items() if k != "steps"}, steps)]
    parts += [(step, steps[:i]) for i, step in enumerate(steps)]
    for part, before in parts:
        ids = {step["id"] for step in before if "id" in step}
        for text in expressions(part):
            for function in re.findall(r"\b(\w+)\s*\(", text):
                if function not in FUNCTIONS:
                    yield f"no function {function}: {text.strip()}"
            for context, first, rest in re.findall(r"\b(\w+)\.([\w-]+)((?:\.[\w-]+)*)", text):
                if context not in CONTEXTS:
                    yield f"no context {context}: {text.strip()}"
                if context == "steps" and first not in ids:
                    yield f"no earlier step {first}: {text.strip()}"
                if context == "matrix" and keys is not None and first not in keys:
                    yield f"the matrix has no {first}"
                if context == "needs" and first not in needs:
                    yield f"{first} is not among its needs"
                output = rest.removeprefix(".outputs.")
                known = jobs.get(first, {}).get("outputs", {}) if context == "needs" else {output}
                if rest != output and output not in known:
                    yield f"{first} has no output {output}"


def check_script(script: str) -> Iterator[str]:
    plain = re.sub(r"\$\{\{.*?\}\}", "x", script)
    done = subprocess.run(
        [BIN / "shellcheck", "-s", "bash", "-"], input=plain, capture_output=True, text=True, check=False
    )
    if done.returncode:
        yield done.stdout
    for call in re.findall(r"\./dev\s+(\w+)(?:\s+--only\s+([\w,]+))?", plain):
        verb, only = call
        dev = (ROOT / "dev").read_text()
        names = [f"verb_{verb}()", *(f"step_{step}()" for step in only.split(",") if step)]
        yield from (f"./dev has no {wanted}" for wanted in names if f"\n{wanted} " not in dev)


def main() -> int:
    clary = sys.argv[1] if len(sys.argv) > 1 else None
    schema = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.github-workflows", *map(str, FILES)]
    bad = subprocess.run(schema, check=False).returncode
    for file in FILES:
        jobs = yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"]
        found = [f"{name}: {text}" for name in jobs for text in check_job(jobs, name, clary)]
        scripts = [step["run"] for job in jobs.values() for step in job.get("steps", []) if "run" in step]
        found += [text for script in scripts for text in check_script(script)]
        for text in found:
            print(f"{file.relative_to(ROOT)}: {text}")
        bad |= bool(found)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
