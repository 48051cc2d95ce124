"""Network namespaces: machines of their own, as far as the network goes, in one kernel. Linux, and root, are needed.

A namespace lives as long as a process is in it or holds its descriptor, so nothing outlives its maker, not even when
that is killed. It has a loopback, and one interface, whose other end is a descriptor here: what is sent there is read
from it, packet by packet, and what is written to it arrives there.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

_HERE = "/proc/thread-self/ns/net"
_CLONE_NEWNET = 0x40000000
_TUN = "/dev/net/tun"
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x8914, 0x8916, 0x891C
_UP_AND_RUNNING = 0x0041
_NETMASK = "255.255.255.0"
_INTERFACE = "wire"
_libc = ctypes.CDLL(None, use_errno=True)


class NoNamespaces(Exception):
    """Namespaces cannot be made here; the message says what it takes."""


class Namespace:
    """A network namespace with one address."""

    def __init__(self, address: str) -> None:
        """Make one. Raises NoNamespaces."""
        self.address = address
        outside = os.open(_HERE, os.O_RDONLY)
        try:
            _call("unshare", _CLONE_NEWNET)
            try:
                self._descriptor = os.open(_HERE, os.O_RDONLY)
                _configure("lo", "127.0.0.1", "255.0.0.0")
                self.wire = _open_wire(address)
                """Its packets, one a read and one a write."""
            finally:
                _call("setns", outside, _CLONE_NEWNET)
        except OSError as error:
            raise NoNamespaces(_what_it_takes(error)) from error
        finally:
            os.close(outside)

    @property
    def path(self) -> str:
        """By this, other processes of the same user may `enter` it while this process lives."""
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread is in it meanwhile, and so is what it starts: threads and processes."""
        outside = os.open(_HERE, os.O_RDONLY)
        try:
            _call("setns", self._descriptor, _CLONE_NEWNET)
            try:
                yield
            finally:
                _call("setns", outside, _CLONE_NEWNET)
        finally:
            os.close(outside)

    def close(self) -> None:
        """Release it: it is gone when the last process in it is."""
        os.close(self.wire)
        os.close(self._descriptor)


def enter(path: str) -> None:
    """Move the calling thread, and all that it will start, into the namespace that another process has made."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _call("setns", descriptor, _CLONE_NEWNET)
    finally:
        os.close(descriptor)


def _open_wire(address: str) -> int:
    """An interface of the namespace that the thread is in. What it sends has whole checksums and no headers before."""
    wire = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(wire, _TUNSETIFF, struct.pack("16sH22x", _INTERFACE.encode(), _IFF_TUN | _IFF_NO_PI))
    _configure(_INTERFACE, address, _NETMASK)
    return wire


def _configure(interface: str, address: str, netmask: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for request, given in ((_SIOCSIFADDR, address), (_SIOCSIFNETMASK, netmask)):
            place = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(given))
            fcntl.ioctl(asked, request, struct.pack("16s24s", interface.encode(), place))
        fcntl.ioctl(asked, _SIOCSIFFLAGS, struct.pack("16sH22x", interface.encode(), _UP_AND_RUNNING))


def _call(name: str, *arguments: int) -> None:
    if getattr(_libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _what_it_takes(error: OSError) -> str:
    if error.errno in (errno.EPERM, errno.EACCES):
        return (
            f"network namespaces cannot be made here ({error.strerror}): that takes root. Run as root"
            " (sudo), or in a container with --cap-add NET_ADMIN --cap-add SYS_ADMIN"
        )
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return f"{_TUN} is not there ({error.strerror}): load the module `tun`, or give the container --device {_TUN}"
    return f"network namespaces cannot be made here: {error}. It takes Linux with namespaces and {_TUN}"
