"""What the files include: the ground for what a test links, and for the rule that imports go downward only."""

import os
import re

# Which folders a folder may include, besides itself; of a file named here, that one.
PURE = ["core/base", "core/array", "core/graph"]


def rooms(folder, *names):
    """The rooms of a pure machine, lowest first: each may include those before it, and the machine's own contract."""
    below = PURE + ["%s/%s.h" % (folder, os.path.basename(folder))]
    return {"%s/%s" % (folder, name): below + ["%s/%s" % (folder, lower) for lower in names[:place]]
            for place, name in enumerate(names)}


IMPORTS = {
    "core/base": [],
    "core/array": ["core/base"],
    "core/graph": ["core/base", "core/array"],
    "core/sched": PURE,
    "core/wire": PURE,
    "core/net": ["core/base"],
    "core/server": ["core"],
    "worker/flow": PURE,
    "worker/residency": PURE,
    "worker/kernel": PURE,
    "worker/store": PURE,
    "worker/trace": PURE,
    "worker/device": PURE + ["worker/kernel"],
    "worker/device/cpu": PURE + ["worker/device", "worker/kernel"],
    "worker/device/cuda": PURE + ["worker/device", "worker/kernel"],
    "worker/device/emulated": PURE + ["worker/device", "worker/kernel"],
    "worker/peer": PURE + ["core/wire", "core/net", "worker/flow", "worker/store"],
    "worker/gpu": PURE + ["worker/device", "worker/flow", "worker/residency", "worker/store", "worker/trace"],
    "worker": PURE + ["core/wire", "core/net", "worker"],
    "client/embedded": ["core", "worker"],
    "client/cli": ["core", "worker", "client"],
    "client": PURE + ["core/wire", "core/net", "client"],
}
SCHED_ROOMS = ["state", "workers", "order", "placement", "lineage", "submission", "recovery", "balance", "explain"]
IMPORTS.update(rooms("core/sched", *SCHED_ROOMS))
# The pure machines are functions of their events: nothing in them may reach the world outside.
PURE_FOLDERS = ["core/sched", "worker/flow", "worker/residency"]
PURE_HEADERS = {"stdbool.h", "stddef.h", "stdint.h", "inttypes.h", "limits.h", "string.h", "math.h", "stdlib.h",
                "float.h", "stdarg.h", "stdalign.h"}
IMPURE_OWN_HEADERS = {"core/base/clock.h", "core/base/log.h", "core/base/philox.h"}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+(["<])([^">]+)[">]', re.MULTILINE)


def read(root):
    """folder → {(file, kind, header)}; kind is the character that opens the header's name."""
    table = {}
    for top in ["core", "worker", "client", "tests"]:
        for folder, _, files in os.walk(os.path.join(root, top)):
            name = os.path.relpath(folder, root)
            for file in sorted(files):
                if file.endswith((".c", ".h", ".cu", ".cuh")):
                    with open(os.path.join(folder, file), encoding="utf-8") as text:
                        found = INCLUDE.findall(text.read())
                    table.setdefault(name, set()).update((name + "/" + file, kind, header) for kind, header in found)
    return table


def folders_of(rows):
    return {os.path.dirname(header) for _, kind, header in rows if kind == '"' and "/" in header}


def closure(table, folders):
    """The folders, and all that they include directly or through others."""
    done, waiting = set(), list(folders)
    while waiting:
        folder = waiting.pop()
        if folder not in done:
            done.add(folder)
            waiting.extend(folders_of(table.get(folder, ())))
    return sorted(done)


def own_files(table, folder, program, helpers):
    """What a program takes from its own folder: headers, directly or through others, and the helpers that include them."""
    def headers_of(files):
        return {header for file, kind, header in table[folder]
                if file in files and kind == '"' and os.path.dirname(header) == folder}

    known = {program}
    while True:
        headers = headers_of(known)
        more = headers | {helper for helper in helpers if headers_of([helper]) & headers}
        if more <= known:
            return known
        known |= more


def within(folder, parents):
    return any(folder == parent or folder.startswith(parent + "/") for parent in parents)


def breaches(table):
    """A line for each include that breaks the rule."""
    wrong = []
    for folder in sorted(table):
        rule = next((key for key in sorted(IMPORTS, key=len, reverse=True) if within(folder, [key])), None)
        for file, kind, header in sorted(table[folder]):
            other = os.path.dirname(header)
            allowed = rule is None or header in IMPORTS[rule] or within(other, [folder, rule] + IMPORTS[rule])
            if kind == '"' and not allowed:
                wrong.append("%s includes %s: %s may import %s only" % (
                    file, header, rule, ", ".join(IMPORTS[rule]) or "nothing"))
            outside = header not in PURE_HEADERS if kind == "<" else header in IMPURE_OWN_HEADERS
            if within(folder, PURE_FOLDERS) and outside:
                wrong.append("%s includes %s: %s is pure" % (file, header, folder))
    return wrong
