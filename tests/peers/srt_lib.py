"""What the SRT peers need of Debian's libsrt, through ctypes. Knows no stream."""
import ctypes
import json
import socket
import struct
import sys
import threading

LIB = ctypes.CDLL("libsrt-gnutls.so.1.5")
HOOK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)
LIB.srt_getlasterror_str.restype = ctypes.c_char_p

# SRT_SOCKOPT of srt.h
SNDSYN, PASSPHRASE, PBKEYLEN, CONNTIMEO = 1, 26, 27, 36
SNDKMSTATE, RCVKMSTATE, RCVLATENCY, PEERLATENCY, STREAMID, CONGESTION = 40, 41, 43, 44, 46, 47
KMREFRESHRATE, KMPREANNOUNCE, IPV6ONLY, PEERIDLETIMEO, PACKETFILTER = 51, 52, 54, 55, 60

# The most one message of live mode carries, bytes.
MESSAGE = 1456
# The longest text of an option, such as a stream id, bytes.
LONGEST_TEXT = 512

_output = threading.Lock()


def tell(event, **more):
    """One line of JSON on standard output."""
    with _output:
        print(json.dumps({"event": event, **more}), flush=True)


def why():
    return LIB.srt_getlasterror_str().decode()


def checked(result, what):
    if result < 0:
        sys.exit(f"{what}: {why()}")
    return result


def pack(host, port):
    """A sockaddr."""
    if ":" in host:
        return struct.pack("=HHI16sI", socket.AF_INET6, socket.htons(port), 0, socket.inet_pton(socket.AF_INET6, host), 0)
    return struct.pack("=HH4s8x", socket.AF_INET, socket.htons(port), socket.inet_aton(host))


def unpack(address):
    """The text of a sockaddr."""
    family, port = struct.unpack_from("=HH", address)
    if family == socket.AF_INET6:
        return f"[{socket.inet_ntop(family, address[8:24])}]:{socket.ntohs(port)}"
    return f"{socket.inet_ntoa(address[4:8])}:{socket.ntohs(port)}"


def name(sock, call):
    """What srt_getsockname or srt_getpeername says."""
    buffer, size = ctypes.create_string_buffer(28), ctypes.c_int(28)
    checked(call(sock, buffer, ctypes.byref(size)), "an address")
    return unpack(buffer.raw)


def set_number(sock, option, value):
    number = ctypes.c_int(value)
    checked(LIB.srt_setsockflag(sock, option, ctypes.byref(number), 4), f"option {option} = {value}")


def set_bool(sock, option, value):
    flag = ctypes.c_bool(value)
    checked(LIB.srt_setsockflag(sock, option, ctypes.byref(flag), 1), f"option {option} = {value}")


def set_bytes(sock, option, value):
    checked(LIB.srt_setsockflag(sock, option, value, len(value)), f"option {option} = {value}")


def number(sock, option):
    value, size = ctypes.c_int(), ctypes.c_int(4)
    checked(LIB.srt_getsockflag(sock, option, ctypes.byref(value), ctypes.byref(size)), f"option {option}")
    return value.value


def text(sock, option):
    buffer, size = ctypes.create_string_buffer(LONGEST_TEXT + 1), ctypes.c_int(LONGEST_TEXT + 1)
    checked(LIB.srt_getsockflag(sock, option, buffer, ctypes.byref(size)), f"option {option}")
    return buffer.raw[: size.value]


def encrypt(sock, passphrase, key_bytes):
    if passphrase:
        set_bytes(sock, PASSPHRASE, passphrase.encode())
    if key_bytes:
        set_number(sock, PBKEYLEN, key_bytes)


def negotiated(sock):
    """What both sides have agreed on. Latencies in ms; key state 0 is none, 2 is secured; a key's length in bytes."""
    return {
        "latency": number(sock, RCVLATENCY),
        "peer_latency": number(sock, PEERLATENCY),
        "receives_key": number(sock, RCVKMSTATE),
        "sends_key": number(sock, SNDKMSTATE),
        "key_bytes": number(sock, PBKEYLEN),
        "congestion": text(sock, CONGESTION).rstrip(b"\0").decode(),
        "filter": text(sock, PACKETFILTER).rstrip(b"\0").decode(),
    }


def losses(sock):
    """Packets: lost on the way here, never received in time, sent again."""
    stats = ctypes.create_string_buffer(4096)
    if LIB.srt_bstats(sock, stats, 0) < 0:
        return {}
    _, lost, again = struct.unpack_from("=iii", stats.raw, 24)
    return {"lost": lost, "dropped": struct.unpack_from("=i", stats.raw, 68)[0], "again": again}
