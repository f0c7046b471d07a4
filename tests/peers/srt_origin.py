#!/usr/bin/env python3
"""An SRT origin on Debian's libsrt: fans a stream out from who publishes it to those who play it, and tells what it
sees, a line of JSON each. A stream id that contains "deny" is refused by the code 1403, or the one behind it ("deny3404").
usage: srt_origin.py [--host H] [--port P] [--latency MS] [--passphrase TEXT] [--key-bytes N] [--idle MS]
                     [--congestion live|file]"""
import argparse
import ctypes
import hashlib
import threading

import srt_lib as srt
from srt_lib import LIB

FORBIDDEN = 1403
BACKLOG = 512

players, lock = {}, threading.Lock()


def parse(text):
    """The resource and whether it is published. Forms: #!::r=…,m=publish, #!::h=host/app/stream, publish:app/stream, app/stream."""
    if text.startswith("#!::"):
        keys = dict(pair.split("=", 1) for pair in text[4:].split(",") if "=" in pair)
        resource = keys.get("r") or keys.get("h", "").partition("/")[2]
        return resource.partition("?")[0], keys.get("m") == "publish"
    mode, colon, rest = text.partition(":")
    return (rest.partition(":")[0], mode == "publish") if colon else (text, False)


@srt.HOOK
def hook(_opaque, sock, version, peer, stream_id):
    stream_id = stream_id or b""
    peer = srt.unpack(ctypes.string_at(peer, 28))
    srt.tell("hook", stream_id=stream_id.hex(), version=version, peer=peer)
    if b"deny" in stream_id:
        code = stream_id.partition(b"deny")[2][:4]
        LIB.srt_setrejectreason(sock, int(code) if code.isdigit() else FORBIDDEN)
        return -1
    return 0


def fan_out(resource, message):
    with lock:
        targets = list(players.get(resource, ()))
    for player in targets:
        # A player that cannot keep up loses messages, nobody waits for it. One that is gone says so to its own thread.
        LIB.srt_sendmsg(player, message, len(message), -1, 0)


def serve(sock):
    text = srt.text(sock, srt.STREAMID).decode(errors="replace")
    resource, publishes = parse(text)
    about = {"id": sock, "resource": resource, "publishes": publishes}
    if not publishes:
        srt.set_bool(sock, srt.SNDSYN, False)
        with lock:
            players.setdefault(resource, set()).add(sock)
    srt.tell("accepted", peer=srt.name(sock, LIB.srt_getpeername), **about, **srt.negotiated(sock))
    buffer, digest, total = ctypes.create_string_buffer(srt.MESSAGE), hashlib.sha256(), 0
    while (count := LIB.srt_recvmsg(sock, buffer, srt.MESSAGE)) > 0:
        if not total:
            srt.tell("flows", **about)
        message = buffer.raw[:count]
        total += count
        digest.update(message)
        if publishes:
            fan_out(resource, message)
    with lock:
        players.get(resource, set()).discard(sock)
    srt.tell("closed", bytes=total, sha256=digest.hexdigest(), **about, **srt.losses(sock))
    LIB.srt_close(sock)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=int, default=0)
    options.add_argument("--latency", type=int)
    options.add_argument("--passphrase")
    options.add_argument("--key-bytes", type=int)
    options.add_argument("--idle", type=int)
    options.add_argument("--congestion")
    options = options.parse_args()
    LIB.srt_startup()
    listener = srt.checked(LIB.srt_create_socket(), "a socket")
    if ":" in options.host:
        srt.set_number(listener, srt.IPV6ONLY, 1)
    if options.latency is not None:
        srt.set_number(listener, srt.RCVLATENCY, options.latency)
    if options.idle is not None:
        srt.set_number(listener, srt.PEERIDLETIMEO, options.idle)
    if options.congestion:
        srt.set_bytes(listener, srt.CONGESTION, options.congestion.encode())
    srt.encrypt(listener, options.passphrase, options.key_bytes)
    address = srt.pack(options.host, options.port)
    srt.checked(LIB.srt_bind(listener, address, len(address)), "bind")
    LIB.srt_listen_callback(listener, hook, None)
    srt.checked(LIB.srt_listen(listener, BACKLOG), "listen")
    srt.tell("ready", addr=srt.name(listener, LIB.srt_getsockname))
    while True:
        sock = LIB.srt_accept(listener, None, None)
        if sock >= 0:
            threading.Thread(target=serve, args=(sock,), daemon=True).start()


main()
