"""clang-format agrees with every C file; no line has trailing blanks; every Python file compiles."""

import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def tracked():
    run = subprocess.run(["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE,
                         check=True)
    return [name for name in run.stdout.decode().split("\0") if name and os.path.exists(os.path.join(ROOT, name))]


def main():
    complaints = []
    files = tracked()
    sources = [name for name in files if name.endswith((".c", ".h"))]
    run = subprocess.run(["clang-format", "--dry-run", "-Werror", *sources], cwd=ROOT, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True)
    if run.returncode != 0:
        complaints.append(run.stdout[-6000:])
    for name in files:
        if not name.endswith((".c", ".h", ".py", ".js", ".css", ".html", ".md", ".build", ".sh")):
            continue
        with open(os.path.join(ROOT, name), encoding="utf-8") as file:
            text = file.read()
        for number, line in enumerate(text.split("\n"), 1):
            if line != line.rstrip():
                complaints.append(f"{name}:{number}: trailing blanks")
        if name.endswith(".py"):
            try:
                compile(text, name, "exec")
            except SyntaxError as error:
                complaints.append(f"{name}: {error}")
    print("\n".join(complaints) or f"{len(files)} files are in order")
    return 1 if complaints or not sources else 0


if __name__ == "__main__":
    sys.exit(main())
