"""Writes the pages as C arrays: embed.py OUTPUT FILE..."""

import os
import sys


def main():
    output, files = sys.argv[1], sys.argv[2:]
    with open(output, "w", encoding="utf-8") as out:
        out.write("#pragma once\n#include <stddef.h>\n")
        out.write("struct page_data {\n  const char *name;\n  const unsigned char *bytes;\n  size_t size;\n};\n")
        for number, name in enumerate(files):
            with open(name, "rb") as file:
                data = file.read()
            rows = [", ".join(str(byte) for byte in data[at:at + 24]) for at in range(0, len(data), 24)]
            out.write(f"static const unsigned char page_{number}[] = {{\n" + ",\n".join(rows) + "};\n")
        out.write("static const struct page_data pages[] = {\n")
        for number, name in enumerate(files):
            out.write(f'  {{"{os.path.basename(name)}", page_{number}, sizeof page_{number}}},\n')
        out.write(f"}};\nstatic const size_t n_pages = {len(files)};\n")


if __name__ == "__main__":
    main()
