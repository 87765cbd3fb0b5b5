#!/usr/bin/env python3
"""Writes what the fuzz targets begin with: the records in src/jute/tests/golden.txt, which ZooKeeper's own classes printed,
each with what goes in front of it on the wire, below fuzz/corpus."""

import pathlib
import struct

ROOT = pathlib.Path(__file__).resolve().parent.parent
OPCODES = {
    "create": 1, "create2": 15, "create_container": 19, "create_ttl": 21, "delete": 2, "exists": 3, "get_data": 4,
    "set_data": 5, "get_acl": 6, "set_acl": 7, "get_children": 8, "get_children2": 12, "sync": 9, "ping": 11, "multi": 14,
    "multi_read": 22, "reconfig": 16, "check_watches": 17, "remove_watches": 18, "auth": 100, "set_watches": 101,
    "set_watches2": 105, "sasl": 102, "get_ephemerals": 103, "get_all_children_number": 104, "add_watch": 106,
    "who_am_i": 107, "close_session": -11, "get_all": 104,
}
# Replies whose names do not begin with their operation's.
REPLIES = {
    "stat_response": 3, "count_response": 104, "who_response": 107, "multi_ok": 14, "multi_failed": 14, "multi_read_ok": 22,
}


def opcode(name):
    """Returns the opcode of the longest name of an operation that this one begins with."""
    known = [op for op in OPCODES if name == op or name.startswith(op + "_")]
    return OPCODES[max(known, key=len)] if known else None


def inputs(name, record):
    """Yields the targets that a record concerns, each with the input that carries it."""
    if name.startswith("connect_"):
        yield "connect", struct.pack(">i", len(record)) + record
    elif name == "event":
        yield "reply", struct.pack(">iiqi", 0, -1, -1, 0) + record
    elif name in REPLIES:
        yield "reply", struct.pack(">iiqi", REPLIES[name], 1, 1, 0) + record
    elif opcode(name) is not None:
        if name.endswith("_response"):
            yield "reply", struct.pack(">iiqi", opcode(name), 1, 1, 0) + record
        else:
            yield "request", struct.pack(">ii", 1, opcode(name)) + record


def main():
    count = 0
    for line in (ROOT / "src/jute/tests/golden.txt").read_text().splitlines():
        name, record = line.split(" ")
        for target, data in inputs(name, bytes.fromhex(record)):
            folder = ROOT / "fuzz/corpus" / target
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
            count += 1
    print(f"fuzz: {count} records to begin with")


if __name__ == "__main__":
    main()
