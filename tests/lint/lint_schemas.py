"""Records are what docs/schemas says, and the schemas refuse what is none."""

import json
import os
import subprocess
import sys

import jsonschema

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCHEMAS = {"transcript": "transcript.v1.json", "session_started": "sessions.v1.json", "session_ended": "sessions.v1.json",
           "session_erased": "sessions.v1.json"}


def validator(kind):
    with open(os.path.join(ROOT, "docs", "schemas", SCHEMAS[kind]), encoding="utf-8") as file:
        schema = json.load(file)
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def complaints_of(record):
    """About one record, and about what the schema lets through when a field of it is missing."""
    check = validator(record["type"])
    for error in check.iter_errors(record):
        yield f"{record['type']}: {error.message}"
    for field in record:
        rest = {name: value for name, value in record.items() if name != field}
        if field != "approximate" and check.is_valid(rest):
            yield f"{record['type']}: the schema does not miss {field}"


def main():
    program = os.path.join(os.environ["VC_BUILD"], "tests", "unit", "store", "print-records")
    run = subprocess.run([program], stdout=subprocess.PIPE, text=True, check=True)
    records = [json.loads(line) for line in run.stdout.splitlines()]
    complaints = [text for record in records for text in complaints_of(record)]
    for kind in set(SCHEMAS) - {record["type"] for record in records}:
        complaints.append(f"no {kind} was printed")
    print("\n".join(complaints) or f"{len(records)} records are as their schemas say")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
