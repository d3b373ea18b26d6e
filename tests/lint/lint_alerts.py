"""deploy/alerts.yml: every metric it names is one of the tables', every alarm and its runbook entry name each other."""

import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ALARM = re.compile(r"^ +- alert: (\w+)\n((?:(?! +- (?:alert|name):).*\n)*)", re.M)
PARTS = ("expr:", "for:", "severity:", "summary:", "description:", "runbook:")
BESIDES = re.compile(r"`(verbacast_\w+)(?:\{\w+(?:,\w+)*\})?`")


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as file:
        return file.read()


def known_metrics():
    program = os.path.join(os.environ["VC_BUILD"], "src", "main", "print-docs")
    text = subprocess.run([program, "metrics"], stdout=subprocess.PIPE, text=True, check=True).stdout
    names = {"verbacast_" + name.replace(".", "_") for name in re.findall(r"^\| `([\w.]+)` \|", text, re.M)}
    return names | {match for match in BESIDES.findall(text) if match != "verbacast_"}


def anchor_of(heading):
    """As GitHub and others make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def sections(runbook):
    parts = re.split(r"^## (.*)\n", runbook, flags=re.M)[1:]
    return {anchor_of(heading): text for heading, text in zip(parts[::2], parts[1::2])}


def complaints_of(name, body, metrics, entries):
    for part in PARTS:
        if part not in body:
            yield f"{name} has no {part}"
    for metric in set(re.findall(r"\bverbacast_\w+", body)) - metrics:
        yield f"{name}: there is no metric {metric}"
    link = re.search(r"runbook: docs/runbook\.md#(\S+)", body)
    if link is None or link[1] not in entries:
        yield f"{name}: its runbook entry {link and link[1]} is not in docs/runbook.md"
    elif f"`{name}`" not in entries[link[1]]:
        yield f"{name}: the entry {link[1]} of docs/runbook.md does not name it"


def main():
    alarms = dict(ALARM.findall(read("deploy", "alerts.yml")))
    runbook, metrics = read("docs", "runbook.md"), known_metrics()
    entries = sections(runbook)
    complaints = [text for name, body in alarms.items() for text in complaints_of(name, body, metrics, entries)]
    complaints += [f"docs/runbook.md: there is no alarm {name}" for name in re.findall(r"`(Verbacast\w+)`", runbook)
                   if name not in alarms]
    print("\n".join(complaints) or f"{len(alarms)} alarms are in the runbook, their metrics in the tables")
    return 1 if complaints or not alarms else 0


if __name__ == "__main__":
    sys.exit(main())
