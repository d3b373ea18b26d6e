"""Every alarm has its place in the runbook: what may be degraded, what is logged as an error; and no metric there is invented."""

import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CONDITION = re.compile(r'vc_health_set\(\s*[^,]+,\s*"(\w+)"|#define CONDITION "(\w+)"|\.what = "(\w+)"|\\"what\\":\\"(\w+)')
ERROR_EVENT = re.compile(r'VC_LOG_ERROR,\s*VC_EVENT\("([\w.]+)"\)|\.event = "([\w.]+)"')


def sources():
    for folder, _, names in os.walk(os.path.join(ROOT, "src")):
        for name in sorted(names):
            if name.endswith(".c"):
                with open(os.path.join(folder, name), encoding="utf-8") as file:
                    yield file.read()


def found(pattern):
    return sorted({next(filter(None, match)) for text in sources() for match in pattern.findall(text)})


def is_named(event, runbook):
    """As an event, as its counter, or by a heading that takes many together."""
    names = (f"event={event}`", f"`{event}_total`", f"`{event}`", f"event=*.{event.split('.')[1]}`")
    return any(name in runbook for name in names)


def main():
    with open(os.path.join(ROOT, "docs", "runbook.md"), encoding="utf-8") as file:
        runbook = file.read()
    program = os.path.join(os.environ["VC_BUILD"], "src", "main", "print-docs")
    metrics = subprocess.run([program, "metrics"], stdout=subprocess.PIPE, text=True, check=True).stdout
    conditions, events = found(CONDITION), found(ERROR_EVENT)
    complaints = [f"docs/runbook.md: no entry for `{name}` is degraded" for name in conditions
                  if f"`{name}` is degraded" not in runbook]
    complaints += [f"docs/runbook.md: nothing of event={name}" for name in events if not is_named(name, runbook)]
    complaints += [f"docs/runbook.md: there is no metric {name}" for name in re.findall(r"`([a-z]+\.\w+_total)`", runbook)
                   if f"| `{name}` |" not in metrics]
    print("\n".join(complaints) or f"{len(conditions)} conditions and {len(events)} events are in the runbook")
    return 1 if complaints or not conditions or not events else 0


if __name__ == "__main__":
    sys.exit(main())
