#!/usr/bin/env python3
"""Takes each fix back in a copy of the tree, and reports whether the simulator finds it.

    python3 crates/simulation/mutants/run.py [NAME...]     without a name: every one
    python3 crates/simulation/mutants/run.py --check       only: does each edit match the tree?

A file NAME.edit says what a fix is taken back by: lines `== path`, then `--` and the text
that is there, then `++` and the text that takes its place; `#` lines before are a title.
Found is a violation of a class in a seed in which the tree without the edit has none of it.
Set TREE to look at another tree, TARGET for where to put the copy, SCHEDULES for how many
schedules at most.
"""

import functools
import os
import pathlib
import re
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = pathlib.Path(os.environ.get("TREE", HERE.parents[2]))
TARGET = pathlib.Path(os.environ.get("TARGET", ROOT / "target" / "mutants"))
MOST = int(os.environ.get("SCHEDULES", "10000"))
COPY = TARGET / "tree"
BUILD = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", TARGET / "build"))


def copy():
    COPY.mkdir(parents=True, exist_ok=True)
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    for name in names.decode().split("\0"):
        source, to = ROOT / name, COPY / name
        if not name or not source.is_file():
            continue
        data = source.read_bytes()
        # Only what changes is written: the build goes by the times of files.
        if not to.is_file() or to.read_bytes() != data:
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(data)


def edits(path):
    title, at, old, new, part = "", None, [], [], None
    found = []

    def done():
        if at:
            found.append((at, "\n".join(old), "\n".join(new)))

    for line in path.read_text().splitlines():
        if at is None and line.startswith("# "):
            title = (title + " " + line[2:]).strip()
        elif line.startswith("== "):
            done()
            at, old, new, part = line[3:].strip(), [], [], None
        elif line == "--":
            if part is new and part is not None:
                done()
                old, new = [], []
            part = old
        elif line == "++":
            part = new
        elif part is not None:
            part.append(line)
    done()
    return title, found


def apply(path, tree=COPY):
    for name, old, new in edits(path)[1]:
        file = tree / name
        text = file.read_text() if file.is_file() else ""
        if text.count(old) != 1:
            return f"the text is {text.count(old)} times in {name}"
        if tree == COPY:
            file.write_text(text.replace(old, new))
    return None


def build(name):
    command = ["cargo", "build", "--release", "--locked", "--quiet", "-p", "ringcentral-simulation"]
    built = subprocess.run(command, cwd=COPY, env=os.environ | {"CARGO_TARGET_DIR": str(BUILD)}, capture_output=True, text=True)
    if built.returncode:
        return "\n".join(line for line in built.stderr.splitlines() if line.startswith("error"))[:400] or built.stderr[-400:]
    (TARGET / name).unlink(missing_ok=True)
    shutil.copy2(BUILD / "release" / "ringcentral-simulation", TARGET / name)
    return None


@functools.cache
def known(first, count):
    return run("base", first, count)


def run(name, first, count):
    command = [str(TARGET / name), "--suite", "all", "--seed", str(first), "--schedules", str(count), "--shrink", "0", "--lines"]
    out = subprocess.run(command, capture_output=True, text=True).stdout
    all_lines = {tuple(line.split()[1:4]) for line in out.splitlines() if line.startswith("violation ")}
    # Two runs of a seed that differ do so by chance, and show no fix.
    return {it for it in all_lines if it[2] != "nondeterminism"}


def chunks():
    first = 0
    for size in (300, 700, 2000, 3000, 4000):
        size = min(size, MOST - first)
        if size <= 0:
            return
        yield first, size
        first += size


def main(names):
    all_edits = sorted(HERE.glob("*.edit"), key=lambda it: [int(n) for n in re.findall(r"\d+", it.stem)])
    if names == ["--check"]:
        stale = [f"{path.name}: {trouble}" for path in all_edits if (trouble := apply(path, ROOT))]
        sys.exit("\n".join(stale) or 0)
    wanted = [it for it in all_edits if not names or it.stem in names]
    copy()
    trouble = build("base")
    if trouble:
        sys.exit(f"the tree does not build: {trouble}")
    print(f"{'fix':<6} {'found as':<20} {'first seed':<16} {'schedules':>9}  what", flush=True)
    missed = 0
    for path in wanted:
        copy()
        title = edits(path)[0]
        trouble = apply(path) or build("mutant")
        if trouble:
            print(f"{path.stem:<6} {'BROKEN':<20} {trouble}", flush=True)
            missed += 1
            continue
        for first, size in chunks():
            new = run("mutant", first, size) - known(first, size)
            if new:
                suite, seed, kind = min(new, key=lambda it: (int(it[1]), it))
                also = sorted({it[2] for it in new} - {kind})
                print(f"{path.stem:<6} {kind:<20} {suite + ' ' + seed:<16} {first + size:>9}  {title}"
                      + (f" (also {', '.join(also)})" if also else ""), flush=True)
                break
        else:
            print(f"{path.stem:<6} {'NOT FOUND':<20} {'':<16} {MOST:>9}  {title}", flush=True)
            missed += 1
    copy()
    sys.exit(1 if missed else 0)


main(sys.argv[1:])
