# SPDX-License-Identifier: Apache-2.0
"""What a packet socket has taken is thrown away before Linux looks at it: an nftables chain at the device's ingress.

Linux hands every frame to the packet sockets that take all protocols, and then to its own stack, which in pyvpp's
namespace has no use for it and finds that out in the routing table: a fifth of what a worker spent when it sent to
another pyvpp over veth, where the sender pays for the receiver's stack. The hook lies between the two (net/core/dev.c,
__netif_receive_skb_core). The chain goes with its namespace, and when the device leaves it, however that happens.
"""

import os
import socket
import struct

_NETLINK_NETFILTER = 12
_NFPROTO_NETDEV = 5
_SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEWTABLE, _NEWCHAIN = 0, 3
_REQUEST, _ACK, _CREATE = 0x1, 0x4, 0x400
_NESTED = 0x8000
_TABLE_NAME = 1
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE = 1, 3, 4, 5, 7
_HOOK_NUMBER, _HOOK_PRIORITY, _HOOK_DEVICE = 1, 2, 3
_INGRESS, _DROP = 0, 0
_ERROR = 2  # NLMSG_ERROR, which carries acknowledgements, too
_PATIENCE = 5.0
_TABLE = b"pyvpp"


def drop_all(name: str) -> None:
    """Drops what arrives on an interface of the caller's namespace. Raises OSError: EOPNOTSUPP without nftables."""
    hook = _number(_HOOK_NUMBER, _INGRESS) + _number(_HOOK_PRIORITY, 0) + _text(_HOOK_DEVICE, name.encode())
    chain = (
        _text(_CHAIN_TABLE, _TABLE) + _text(_CHAIN_NAME, name.encode()) + _attribute(_CHAIN_HOOK | _NESTED, hook)
        + _number(_CHAIN_POLICY, _DROP) + _text(_CHAIN_TYPE, b"filter")
    )  # fmt: skip
    new = _REQUEST | _CREATE | _ACK
    batch = (
        _message(_BATCH_BEGIN, _REQUEST, 0, 0, b"", _SUBSYSTEM)
        + _message(_SUBSYSTEM << 8 | _NEWTABLE, new, 1, _NFPROTO_NETDEV, _text(_TABLE_NAME, _TABLE))
        + _message(_SUBSYSTEM << 8 | _NEWCHAIN, new, 2, _NFPROTO_NETDEV, chain)
        + _message(_BATCH_END, _REQUEST, 3, 0, b"", _SUBSYSTEM)
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as netlink:
        netlink.settimeout(_PATIENCE)
        netlink.send(batch)
        acknowledged = 0
        while acknowledged < 2:
            for error in _errors(netlink.recv(65536)):
                if error:
                    raise OSError(error, os.strerror(error))
                acknowledged += 1


def _attribute(kind: int, value: bytes) -> bytes:
    """struct nlattr and its value, padded to four bytes."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("!I", value))


def _text(kind: int, value: bytes) -> bytes:
    return _attribute(kind, value + b"\0")


def _message(kind: int, flags: int, sequence: int, family: int, attributes: bytes, resource: int = 0) -> bytes:
    """struct nlmsghdr, struct nfgenmsg and attributes."""
    body = struct.pack("=BB", family, 0) + struct.pack("!H", resource) + attributes
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body


def _errors(answers: bytes) -> list[int]:
    """The errno of each answer; 0 is an acknowledgement."""
    found = []
    while len(answers) >= 20:
        length, kind = struct.unpack_from("=IH", answers)
        if kind == _ERROR:
            found.append(-struct.unpack_from("=i", answers, 16)[0])
        answers = answers[max(length + 3 & ~3, 16) :]
    return found
