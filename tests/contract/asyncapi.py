"""Holds an AsyncAPI document to the JSON Schema that AsyncAPI publishes for its version.

    asyncapi.py DOCUMENT SCHEMAS    DOCUMENT is a file or `-`, SCHEMAS the folder of @asyncapi/specs
"""

import json
import pathlib
import sys

import jsonschema_rs


def main() -> int:
    name, folder = sys.argv[1:]
    text = sys.stdin.read() if name == "-" else pathlib.Path(name).read_text(encoding="utf-8")
    document = json.loads(text)
    version = document["asyncapi"]
    schema = pathlib.Path(folder) / f"{version}-without-$id.json"
    validator = jsonschema_rs.validator_for(json.loads(schema.read_text(encoding="utf-8")))
    # A validator that takes anything would say nothing.
    if validator.is_valid({"asyncapi": version}):
        print(f"the schema of AsyncAPI {version} takes anything", file=sys.stderr)
        return 1
    faults = list(validator.iter_errors(document))
    for fault in faults[:20]:
        place = "/".join(str(part) for part in fault.instance_path)
        print(f"/{place}: {fault.message[:300]}", file=sys.stderr)
    if faults:
        return 1
    print(f"AsyncAPI {version}: {len(document['channels'])} channels, "
          f"{len(document['operations'])} operations, as its schema has them")
    return 0


sys.exit(main())
