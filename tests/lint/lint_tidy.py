"""clang-tidy, with the checks of .clang-tidy, finds nothing in src/, subprojects/rtmp/ and bench/.

    VC_BUILD=BUILD tests/lint/lint_tidy.py [FILE ...]

The longest files are begun first, or the last of them would be waited for alone.
"""

import concurrent.futures
import json
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FOLDERS = ("src/", "subprojects/rtmp/", "bench/")
FINDING = re.compile(r"^(?P<file>\S+?):(?P<line>\d+):\d+: (?:warning|error): (?P<text>.*) \[[\w.,-]+\]$")

# The analyzer does not know that DL_DELETE and HASH_DEL change the head of their list, and so sees
# every loop that empties one come back to what it freed. Leaks and double frees do count.
UNFOLLOWED = "Use of memory after it is freed"


def sources(build):
    """Names below ROOT, the longest file first."""
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
        rows = json.load(file)
    paths = {os.path.realpath(os.path.join(row["directory"], row["file"])) for row in rows}
    names = [os.path.relpath(path, ROOT) for path in paths]
    return sorted((name for name in names if name.startswith(FOLDERS)),
                  key=lambda name: -os.path.getsize(os.path.join(ROOT, name)))


def complaints_of(build, name):
    run = subprocess.run(["clang-tidy", "-p", build, "--quiet", "--extra-arg=-Wno-unknown-warning-option", name],
                         cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    found = [match for match in map(FINDING.match, run.stdout.splitlines()) if match]
    if run.returncode != 0 and not found:
        return [f"{name}: clang-tidy ended with {run.returncode}: {run.stdout}{run.stderr}"]
    return [f"{os.path.relpath(os.path.join(build, match['file']), ROOT)}:" + match.group(0).split(":", 1)[1]
            for match in found if match["text"] != UNFOLLOWED]


def main():
    build = os.path.abspath(os.environ["VC_BUILD"])
    names = [os.path.relpath(name, ROOT) for name in sys.argv[1:]] or sources(build)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = list(pool.map(lambda name: complaints_of(build, name), names))
    complaints = sorted({text for row in rows for text in row})
    print("\n".join(complaints) or f"{len(names)} files, nothing is found in them")
    return 1 if complaints or not names else 0


if __name__ == "__main__":
    sys.exit(main())
