"""The wire format holds what its first version promised, and the generated code is that of the schema files."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor

from pipeline.messages import hushword_pb2, internal_pb2

FIRST_VERSION = Path(__file__).parent / "schema" / "hushword_v1.json"
MESSAGES = Path(hushword_pb2.__file__).parent
TYPE_NAMES = {
    getattr(FieldDescriptor, name): name.removeprefix("TYPE_").lower()
    for name in dir(FieldDescriptor)
    if name.startswith("TYPE_")
}

# {"messages": {name: {field: [number, type]}}, "enums": {name: {value: number}}}, names without the package.
Schema = dict[str, dict[str, dict[str, Any]]]


# ---- what the generated code says ------------------------------------------------------------------------------------


def generated_schema(file: FileDescriptor) -> Schema:
    schema: Schema = {"messages": {}, "enums": {}}
    for enum in file.enum_types_by_name.values():
        _add_enum(schema, enum)
    for message in file.message_types_by_name.values():
        _add_message(schema, message)
    return schema


def _local(full_name: str, file: FileDescriptor) -> str:
    return full_name.removeprefix(f"{file.package}.")


def _add_enum(schema: Schema, enum: EnumDescriptor) -> None:
    schema["enums"][_local(enum.full_name, enum.file)] = {value.name: value.number for value in enum.values}


def _add_message(schema: Schema, message: Descriptor) -> None:
    fields = {field.name: [field.number, _type(field)] for field in message.fields}
    schema["messages"][_local(message.full_name, message.file)] = fields
    for enum in message.enum_types:
        _add_enum(schema, enum)
    for nested in message.nested_types:
        if not nested.GetOptions().map_entry:
            _add_message(schema, nested)


def _type(field: FieldDescriptor) -> str:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return f"map<{_type(field.message_type.fields[0])}, {_type(field.message_type.fields[1])}>"
    if field.enum_type is not None:
        name = _local(field.enum_type.full_name, field.file)
    elif field.message_type is not None:
        name = _local(field.message_type.full_name, field.file)
    else:
        name = TYPE_NAMES[field.type]
    return f"repeated {name}" if field.is_repeated else name


# ---- what the text of a schema file says -----------------------------------------------------------------------------

_STATEMENT = re.compile(
    r"(?P<open>message|enum)\s+(?P<name>\w+)\s*\{"
    r"|(?P<close>\})"
    r"|(?P<type>map\s*<[^>]+>|(?:repeated\s+)?[\w.]+)\s+(?P<field>\w+)\s*=\s*(?P<number>\d+)\s*;"
    r"|(?P<value>\w+)\s*=\s*(?P<value_number>-?\d+)\s*;"
)


def written_schema(text: str) -> Schema:
    """Read the part of the language that these files use; whatever is not understood fails."""
    text = re.sub(r"//[^\n]*", "", text)
    text = re.sub(r'^\s*(syntax\s*=\s*"proto3"|package\s+[\w.]+)\s*;', "", text, flags=re.MULTILINE)
    schema: Schema = {"messages": {}, "enums": {}}
    scope: list[tuple[str, str]] = []
    for found in _statements(text):
        path = ".".join(name for _, name in scope)
        if found["open"]:
            scope.append((found["open"], found["name"]))
            kind = "messages" if found["open"] == "message" else "enums"
            schema[kind][f"{path}.{found['name']}".lstrip(".")] = {}
        elif found["close"]:
            scope.pop()
        elif scope[-1][0] == "enum":
            schema["enums"][path][found["value"]] = int(found["value_number"])
        else:
            schema["messages"][path][found["field"]] = [int(found["number"]), " ".join(found["type"].split())]
    assert not scope
    for name, fields in schema["messages"].items():
        for entry in fields.values():
            entry[1] = _resolved(entry[1], name, schema)
    return schema


def _statements(text: str) -> Iterator[re.Match[str]]:
    at = 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        found = _STATEMENT.match(text, at)
        assert found is not None, f"not understood: {text[at : at + 60]!r}"
        at = found.end()
        yield found


def _resolved(kind: str, message: str, schema: Schema) -> str:
    """Give a type's name with the messages that it is declared in."""
    label, _, name = kind.rpartition(" ") if not kind.startswith("map") else ("", "", kind)
    around = message.split(".")
    for depth in range(len(around), -1, -1):
        full_name = ".".join([*around[:depth], name])
        if full_name in schema["messages"] or full_name in schema["enums"]:
            name = full_name
            break
    return f"{label} {name}".strip()


# ---- tests -----------------------------------------------------------------------------------------------------------


def breaks(first: Schema, now: Schema) -> list[str]:
    """Say where `now` takes back something that `first` promised."""
    broken = []
    for name, values in first["enums"].items():
        broken += [f"{name}.{value}" for value, at in values.items() if now["enums"].get(name, {}).get(value) != at]
    for name, fields in first["messages"].items():
        current = now["messages"].get(name, {})
        broken += [f"{name}.{field}" for field, entry in fields.items() if current.get(field) != entry]
    for kind in ("messages", "enums"):
        for name, entries in now[kind].items():
            numbers = [entry[0] if isinstance(entry, list) else entry for entry in entries.values()]
            broken += [f"{name} uses a number twice"] * (len(numbers) != len(set(numbers)))
    return broken


def test_nothing_of_the_first_version_was_renumbered_retyped_or_removed() -> None:
    """Messages of the first version are read by every later one, and the other way round."""
    first = json.loads(FIRST_VERSION.read_text(encoding="utf-8"))
    assert breaks(first, generated_schema(hushword_pb2.DESCRIPTOR)) == []


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        (lambda now: now["messages"]["AudioChunk"].update(seq=[99, "uint32"]), ["AudioChunk.seq"]),
        (lambda now: now["messages"]["AudioChunk"].update(seq=[6, "string"]), ["AudioChunk.seq"]),
        (lambda now: now["messages"]["Decision"].pop("late"), ["Decision.late"]),
        (lambda now: now["enums"]["Decision.Reason"].update(KNOWN=7), ["Decision.Reason.KNOWN"]),
        (lambda now: now["messages"]["AudioChunk"].update(more=[1, "bytes"]), ["AudioChunk uses a number twice"]),
        (lambda now: now["messages"]["AudioChunk"].update(more=[400, "bytes"]), []),
        (lambda now: now["messages"].update(Other={"more": [1, "bytes"]}), []),
    ],
)
def test_the_comparison_sees_what_breaks_and_lets_fields_be_added(change: Any, broken: list[str]) -> None:
    """The check itself is checked."""
    first = json.loads(FIRST_VERSION.read_text(encoding="utf-8"))
    now = json.loads(FIRST_VERSION.read_text(encoding="utf-8"))
    change(now)
    assert breaks(first, now) == broken


@pytest.mark.parametrize(("name", "module"), [("hushword", hushword_pb2), ("internal", internal_pb2)])
def test_the_generated_code_is_that_of_the_schema_file(name: str, module: Any) -> None:
    """Whoever edits one of the two and forgets the other hears of it; no compiler is needed."""
    written = written_schema((MESSAGES / f"{name}.proto").read_text(encoding="utf-8"))
    assert written == generated_schema(module.DESCRIPTOR)


@pytest.mark.parametrize(("name", "module"), [("hushword", hushword_pb2), ("internal", internal_pb2)])
def test_the_type_stub_names_every_field(name: str, module: Any) -> None:
    """mypy reads the stub, not the code."""
    stub = (MESSAGES / f"{name}_pb2.pyi").read_text(encoding="utf-8")
    for fields in generated_schema(module.DESCRIPTOR)["messages"].values():
        for field in fields:
            assert re.search(rf"^\s+{field}: ", stub, re.MULTILINE), f"{name}_pb2.pyi has no field {field}"
