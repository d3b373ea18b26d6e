"""The walls between rooms: who may include whom, and which foreign header may stand where."""

import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FLOORS = ["base", "wire", "flow", "net"]
ROOMS = ["ingest", "decode", "stt", "ledger", "broadcast", "store", "journal", "kafka", "redis", "livekit",
         "control", "sttd"]

# What a room may include beyond the floors and itself. The programs (main) may include everything.
# journal and control write to and read from the store: it is a library of tables, not a stage.
NEIGHBOURS = {"journal": {"store"}, "control": {"store"}}

# Foreign header (regular expression) -> folders of src/ where it may stand.
FOREIGN = {
    r"libav\w+/|libsw\w+/": ["decode"],
    r"civetweb\.h": ["net"],
    r"curl/": ["net"],
    r"sqlite3\.h": ["store", "journal"],
    r"ck_\w+\.h": ["base"],
    r"jansson\.h": ["wire", "control", "sttd", "store", "journal", "kafka", "ledger", "broadcast",
                       "ingest", "livekit"],
    r"openssl/": ["wire", "base"],
    r"jwt\.h": ["wire"],
    r"sherpa-onnx/": ["sttd"],
    r"pocketsphinx": ["sttd"],
    r"librdkafka/": ["kafka"],
    r"hiredis": ["redis"],
    r"libpq-fe\.h": ["store"],
    r"rtmp\w*\.h": ["ingest"],
}


def includes_of(path):
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            match = re.match(r'\s*#\s*include\s+([<"])([^>"]+)[>"]', line)
            if match:
                yield number, match.group(1), match.group(2)


def room_of_header(name):
    """`verbacast/net/front.h` -> net; `verbacast/ingest.h` -> ingest."""
    first = name.split("/")[1]
    return first[:-2] if first.endswith(".h") else first


def may_include(room, other):
    if room == "main" or other == room:
        return True
    if room in FLOORS:
        return other in FLOORS and FLOORS.index(other) <= FLOORS.index(room)
    return other in FLOORS or other in NEIGHBOURS.get(room, set())


def check(path, room, complaints):
    shown = os.path.relpath(path, ROOT)
    for number, quote, name in includes_of(path):
        where = f"{shown}:{number}"
        if ".." in name:
            complaints.append(f"{where}: '..' in an include: {name}")
        elif name.startswith("verbacast/"):
            other = room_of_header(name)
            if not may_include(room, other):
                complaints.append(f"{where}: room {room} may not include {name}")
        elif quote == '"':
            if "/" in name:
                complaints.append(f"{where}: a private header stands beside its .c file: {name}")
        else:
            for pattern, rooms in FOREIGN.items():
                if re.match(pattern, name) and room != "main" and room not in rooms:
                    complaints.append(f"{where}: {name} may stand in {', '.join(rooms)} only")


def main():
    complaints = []
    seen = 0
    for base, room_at in ((os.path.join(ROOT, "src"), 0), (os.path.join(ROOT, "include", "verbacast"), 0)):
        for folder, _, files in os.walk(base):
            for name in files:
                if name.endswith((".c", ".h")):
                    relative = os.path.relpath(os.path.join(folder, name), base)
                    room = relative.split(os.sep)[room_at]
                    check(os.path.join(folder, name), room[:-2] if room.endswith(".h") else room, complaints)
                    seen += 1
    if seen == 0:
        complaints.append("no source was found")
    print("\n".join(complaints) or f"{seen} files, no wall is broken")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
