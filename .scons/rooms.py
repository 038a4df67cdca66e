"""What keeps the rooms of core/sched and the files of worker/flow apart, beside their includes: who calls whom, and, by
marks in the structs of a room called state, who writes which field.

Calls are those between object files, as nm tells them: headers say who may call, and circles are about who does. What a
header holds inline belongs to whoever includes it."""

import os
import re
import subprocess

CIRCLE_MAX = 5   # files that call each other, round and round; all of one room
HEADER_MAX = 250  # lines

COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
STRUCT = re.compile(r"^struct (\w+) \{[^\n]*\n(.*?)^\};", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"/\* --- written by ([\w, ]+) --- \*/")
INDEX = r"(?:\[(?:[^\[\]]|\[[^\[\]]*\])*\])*"
PLACE = r"([A-Za-z_]\w*(?:\((?:[^()]|\([^()]*\))*\))?" + INDEX + r"(?:(?:->|\.)\w+" + INDEX + ")+)"
WRITE = re.compile(r"(?:\+\+|--|tessi_grow\(&)" + PLACE + r"|(?<![\w.>])" + PLACE
                   + r"\s*(?:=(?!=)|[-+*/|&^]=|<<=|>>=|\+\+|--)")
TYPED = re.compile(r"\bstruct (\w+) [*]*(?:const )?(\w+)")


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def sources(root, top, ends):
    for folder, _, files in os.walk(os.path.join(root, top)):
        for file in sorted(files):
            if file.endswith(ends):
                yield os.path.relpath(os.path.join(folder, file), root)


def room_of(path, top):
    """The folder below the top one; of files that lie there themselves: step."""
    folder = os.path.relpath(os.path.dirname(path), top)
    return "step" if folder == "." else folder


# --- who writes which field ---

def blank(match):
    return re.sub(r"[^\n]", " ", match.group())


def declared(line):
    """The names that a line of a struct declares."""
    text = re.sub(r"\[[^\]]*\]|:\s*\d+|_Alignas\(\d+\)", "", COMMENT.sub("", line)).strip()
    if not text.endswith(";") or text.startswith("}") or "(" in text:
        return []
    return [name for part in text[:-1].split(",") for name in re.findall(r"(\w+)\s*$", part)]


def owners(root, top):
    """(struct, field) → the rooms that may write it, by the marks in the structs of the state."""
    allowed = {}
    for path in sources(root, top + "/state", ".h"):
        for struct, body in STRUCT.findall(read(path)):
            rooms = None
            for line in body.split("\n"):
                mark = MARK.search(line)
                rooms = set(mark.group(1).split(", ")) if mark else rooms
                allowed.update({(struct, name): rooms for name in declared(line) if rooms is not None})
    return allowed


def typed_fields(root, top):
    """(struct, field) → the struct that the field is, or leads to."""
    found = {}
    for path in sources(root, top, (".c", ".h")):
        for struct, body in STRUCT.findall(read(path)):
            for of, names in re.findall(r"struct (\w+) ([^;{}]*);", COMMENT.sub("", body)):
                found.update({(struct, name): of for name in re.findall(r"\w+", re.sub(r"\[[^\]]*\]", "", names))})
    return found


class Types:
    """What struct a place belongs to, as far as declarations of the same file say: our names are seldom used for two."""

    def __init__(self, root, top):
        self.fields = typed_fields(root, top)
        self.functions = {name: of for path in sources(root, top, ".h")
                          for of, name in re.findall(r"struct (\w+) \*(\w+)\(", read(path))}

    def struct_of(self, text, place, at):
        """Of the last field of the place, found at that position of the text."""
        plain = re.sub(r"\[[^\[\]]*\]|\([^()]*\)", "", re.sub(r"\[[^\[\]]*\]|\([^()]*\)", "()", place)).replace("()", "")
        name, *fields = re.split(r"->|\.", plain)
        call = re.match(r"\w+\(", place)
        of = self.functions.get(name) if call else None
        for match in TYPED.finditer(text, 0, at):
            of = match.group(1) if not call and match.group(2) == name else of
        for field in fields[:-1]:
            of = self.fields.get((of, field))
        return of, fields[-1]


def writes(root, top):
    """(file, line, room, struct, field) of each assignment to a field."""
    types = Types(root, top)
    for path in sources(root, top, (".c", ".h")):
        text = COMMENT.sub(blank, read(path))
        for match in WRITE.finditer(text):
            struct, field = types.struct_of(text, match.group(1) or match.group(2), match.start())
            yield path, text.count("\n", 0, match.start()) + 1, room_of(path, top), struct, field


def foreign_writes(root, top):
    allowed = owners(root, top)
    return ["%s:%d writes `%s` of %s: only %s may" % (path, line, field, struct, ", ".join(sorted(allowed[struct, field])))
            for path, line, room, struct, field in writes(root, top) if room not in allowed.get((struct, field), {room})]


def idle_marks(root, top):
    """Marks that name a room which writes none of the fields below them, though others do."""
    seen = {}
    for _, _, room, struct, field in writes(root, top):
        seen.setdefault((struct, field), set()).add(room)
    wrong = []
    for path in sources(root, top + "/state", ".h"):
        for struct, body in STRUCT.findall(read(path)):
            for rooms, group in zip(MARK.findall(body), MARK.split(body)[2::2]):
                fields = [name for line in group.split("\n") for name in declared(line)]
                active = {room for name in fields for room in seen.get((struct, name), ())}
                idle = set(rooms.split(", ")) - active if active else set()
                wrong += ["%s: %s does not write `%s` of %s" % (path, room, ", ".join(fields), struct) for room in sorted(idle)]
    return wrong


def long_headers(root, top):
    counted = [(path, read(path).count("\n")) for path in sources(root, top, ".h")]
    return ["%s has %d lines: %d at most" % (path, lines, HEADER_MAX) for path, lines in counted if lines > HEADER_MAX]


# --- who calls whom ---

def calls(objects):
    """object → the others that define what it leaves undefined."""
    defined, wanted = {}, {}
    for path in objects:
        text = subprocess.run(["nm", "--extern-only", "--portability", path], stdout=subprocess.PIPE, check=True,
                              universal_newlines=True).stdout
        for name, kind in (line.split()[:2] for line in text.splitlines()):
            if kind == "U":
                wanted.setdefault(path, set()).add(name)
            else:
                defined[name] = path
    return {path: {defined[name] for name in wanted.get(path, ()) if name in defined} - {path} for path in objects}


def reach(graph, start):
    done, waiting = set(), list(graph[start])
    while waiting:
        node = waiting.pop()
        if node not in done:
            done.add(node)
            waiting.extend(graph[node])
    return done


def circles(graph):
    """Groups of nodes that all reach each other, of two and more."""
    reached = {node: reach(graph, node) for node in graph}
    groups = {tuple(sorted(other for other in reached[node] if node in reached[other])) for node in graph
              if node in reached[node]}
    return sorted(group for group in groups if len(group) > 1)


def bad_circles(objects, top):
    """`objects`: source → object file."""
    source = {path: name for name, path in objects.items()}
    wrong = []
    for circle in circles(calls(sorted(source))):
        files = [source[path] for path in circle]
        if len(files) > CIRCLE_MAX or len({room_of(file, top) for file in files}) > 1:
            wrong.append("%d files call each other round and round, %d of one room may: %s" % (
                len(files), CIRCLE_MAX, ", ".join(os.path.relpath(file, top) for file in files)))
    return wrong
