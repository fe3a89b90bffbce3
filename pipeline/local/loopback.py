"""Keeps Beam's job server on the loopback address, which it has no option for.

Every gRPC server of Beam's Java code is made by one call, `NettyServerBuilder.forPort(address.getPort())`: it knows the
address, mostly loopback, and listens on all of them. Whoever reaches such a port can run code here. So a copy of that
one class is put first on the class path in which the call reads `NettyServerBuilder.forAddress(address)`.
"""

import struct
from collections.abc import Sequence
from pathlib import Path

from pipeline.local import LocalServiceError
from pipeline.local.changed_class import write_changed_class

FACTORY = "org/apache/beam/sdk/fn/server/ServerFactory$InetSocketAddressServerFactory.class"
_UTF8, _CLASS, _METHOD, _NAME_AND_TYPE = 1, 7, 10, 12
# Bytes of each constant after its tag (the class file format, chapter 4.4 of the JVM specification).
_SIZES = {3: 4, 4: 4, 5: 8, 6: 8, 7: 2, 8: 2, 9: 4, 10: 4, 11: 4, 12: 4, 15: 3, 16: 2, 17: 4, 18: 4, 19: 2, 20: 2}
_INVOKE_VIRTUAL, _INVOKE_STATIC = 0xB6, 0xB8
_COUNT_AT = 8
_BUILDER = "/NettyServerBuilder"  # its package has the version of gRPC in it


def write_loopback_jar(jars: Sequence[Path], target: Path) -> Path:
    """Write a jar with the changed class to `target`, made from the one in `jars`."""
    return write_changed_class(jars, "beam-sdks-java-core-", FACTORY, bind_to_the_address, target)


def bind_to_the_address(class_file: bytes) -> bytes:
    """Return the class with `forPort(address.getPort())` replaced by `forAddress(address)`."""
    constants, end = _constants(class_file)

    def described(index: int) -> tuple[str, ...]:
        """Class, name and type of the method at `index`."""
        _, owner, name_and_type = constants[index]
        _, name, kind = constants[int(name_and_type)]
        return tuple(str(constants[int(i)][1]) for i in (constants[int(owner)][1], name, kind))

    methods = {described(index): index for index, constant in constants.items() if constant[0] == _METHOD}
    get_port = methods.get(("java/net/InetSocketAddress", "getPort", "()I"), 0)
    for_port, builder = next(
        (
            (index, owner)
            for (owner, name, _), index in methods.items()
            if owner.endswith(_BUILDER) and name == "forPort"
        ),
        (0, ""),
    )
    call = struct.pack(">BHBH", _INVOKE_VIRTUAL, get_port, _INVOKE_STATIC, for_port)
    if class_file.count(call, end) != 1:
        raise LocalServiceError(f"{FACTORY} is not the class that was expected: its servers would listen everywhere")
    count = _count(class_file)  # also the index of the first constant added
    added = (
        _text("forAddress")
        + _text(f"(Ljava/net/SocketAddress;)L{builder};")
        + struct.pack(">BHH", _NAME_AND_TYPE, count, count + 1)
        + struct.pack(">BHH", _METHOD, int(constants[for_port][1]), count + 2)
    )
    instead = struct.pack(">3xBH", _INVOKE_STATIC, count + 3)  # three bytes of 0: do nothing
    head = class_file[:_COUNT_AT] + struct.pack(">H", count + 4) + class_file[_COUNT_AT + 2 : end]
    return head + added + class_file[end:].replace(call, instead)


def _text(value: str) -> bytes:
    return struct.pack(">BH", _UTF8, len(value)) + value.encode("ascii")


def _count(class_file: bytes) -> int:
    """Return the number of constants plus one, as the format has it."""
    return int.from_bytes(class_file[_COUNT_AT : _COUNT_AT + 2])


def _constants(class_file: bytes) -> tuple[dict[int, tuple[int | str, ...]], int]:
    """Return the constants by index (tag, then a string's text or the indices pointed to), and where they end."""
    constants: dict[int, tuple[int | str, ...]] = {}
    offset, index = _COUNT_AT + 2, 1
    while index < _count(class_file):
        tag = class_file[offset]
        if tag == _UTF8:
            size = 2 + struct.unpack_from(">H", class_file, offset + 1)[0]
            constants[index] = (tag, class_file[offset + 3 : offset + 1 + size].decode(errors="replace"))
        else:
            size = _SIZES[tag]
            if tag in {_CLASS, _METHOD, _NAME_AND_TYPE}:
                constants[index] = (tag, *struct.unpack_from(f">{size // 2}H", class_file, offset + 1))
        offset += 1 + size
        index += 2 if tag in {5, 6} else 1  # long and double take two
    return constants, offset
