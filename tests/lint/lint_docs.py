"""The generated documents are what the programs print now, and groff finds no fault in the manual pages."""

import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GENERATED = {"configuration": "docs/configuration.md", "metrics": "docs/metrics.md",
             "verbacast.8": "docs/man/verbacast.8", "verbacast-stt.8": "docs/man/verbacast-stt.8",
             "verbacast-sink.8": "docs/man/verbacast-sink.8",
             "verbacast-bench.8": "docs/man/verbacast-bench.8"}


def faults_of(page):
    run = subprocess.run(["groff", "-man", "-Kutf8", "-Tutf8", "-ww", "-z", page], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True)
    return [f"{page}: {line}" for line in run.stdout.splitlines()] or [f"{page}: groff failed"] * (run.returncode != 0)


def main():
    program = os.path.join(os.environ["VC_BUILD"], "src", "main", "print-docs")
    write = sys.argv[1:] == ["--write"]
    complaints = []
    for what, name in GENERATED.items():
        run = subprocess.run([program, what], stdout=subprocess.PIPE, text=True, check=True)
        path = os.path.join(ROOT, name)
        if write:
            with open(path, "w", encoding="utf-8") as file:
                file.write(run.stdout)
        with open(path, encoding="utf-8") as file:
            if file.read() != run.stdout:
                complaints.append(f"{name} is stale: VC_BUILD=BUILD tests/lint/lint_docs.py --write")
        if name.startswith("docs/man/"):
            complaints += faults_of(path)
    print("\n".join(complaints) or "the generated documents are up to date")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
