#!/usr/bin/env python3
"""Many SRT callers on Debian's libsrt in one process, each a publisher or a player of numbered messages. They tell what
they see, a line of JSON each; on SIGTERM all close.
usage: srt_callers.py JSON      a list of callers: name, host, port, stream_id (hex); optional: publishes, passphrase,
                                key_bytes, latency and timeout (ms), bind (a UDP port that callers may share), rate (messages/s),
                                rekey (packets until another key is used), congestion (live, file), filter"""
import ctypes
import json
import signal
import sys
import threading
import time

import srt_lib as srt
from srt_lib import LIB

# After how many messages a player says that its stream flows, each time.
ENOUGH = 20
PADDING = b"x" * (1316 - 8)

leaving = threading.Event()
# Threads that wait for it, to close what players are blocked in.
closing = []


def call(caller):
    started, name = time.monotonic(), caller["name"]
    sock = srt.checked(LIB.srt_create_socket(), "a socket")
    srt.set_bytes(sock, srt.STREAMID, bytes.fromhex(caller["stream_id"])) if caller["stream_id"] else None
    srt.encrypt(sock, caller.get("passphrase"), caller.get("key_bytes"))
    if "rekey" in caller:
        srt.set_number(sock, srt.KMREFRESHRATE, caller["rekey"])
        srt.set_number(sock, srt.KMPREANNOUNCE, caller["rekey"] // 2 - 1)
    if "latency" in caller:
        srt.set_number(sock, srt.RCVLATENCY, caller["latency"])
        srt.set_number(sock, srt.PEERLATENCY, caller["latency"])
    for option, number in ("congestion", srt.CONGESTION), ("filter", srt.PACKETFILTER):
        if option in caller:
            srt.set_bytes(sock, number, caller[option].encode())
    if "timeout" in caller:
        srt.set_number(sock, srt.CONNTIMEO, caller["timeout"])
    if "bind" in caller:
        address = srt.pack("::" if ":" in caller["host"] else "127.0.0.1", caller["bind"])
        srt.checked(LIB.srt_bind(sock, address, len(address)), "bind")
    address = srt.pack(caller["host"], caller["port"])
    failed = LIB.srt_connect(sock, address, len(address)) < 0
    took = int((time.monotonic() - started) * 1000)
    if failed:
        srt.tell("refused", name=name, code=LIB.srt_getrejectreason(sock), why=srt.why(), ms=took)
        LIB.srt_close(sock)
        return
    local = srt.name(sock, LIB.srt_getsockname)
    srt.tell("connected", name=name, ms=took, local=local, **srt.negotiated(sock))
    count, gaps = publish(sock, caller) if caller.get("publishes") else play(sock, name)
    srt.tell("closed", name=name, messages=count, gaps=gaps, **srt.losses(sock))
    LIB.srt_close(sock)


def publish(sock, caller):
    count, pause = 0, 1 / caller.get("rate", 100)
    while not leaving.wait(pause):
        message = count.to_bytes(8, "big") + PADDING
        if LIB.srt_sendmsg(sock, message, len(message), -1, 0) < 0:
            break
        count += 1
    return count, 0


def play(sock, name):
    thread = threading.Thread(target=close_when_leaving, args=(sock,), daemon=True)
    thread.start()
    closing.append(thread)
    buffer, count, gaps, expected = ctypes.create_string_buffer(srt.MESSAGE), 0, 0, None
    while (size := LIB.srt_recvmsg(sock, buffer, srt.MESSAGE)) > 0:
        number, whole = int.from_bytes(buffer.raw[:8], "big"), buffer.raw[8:size] == PADDING
        gaps += not whole or (expected is not None and number != expected)
        expected = number + 1
        count += 1
        if count % ENOUGH == 0:
            srt.tell("flows", name=name)
    return count, gaps


def close_when_leaving(sock):
    leaving.wait()
    LIB.srt_close(sock)


def main():
    signal.signal(signal.SIGTERM, lambda *_: leaving.set())
    LIB.srt_startup()
    callers = [threading.Thread(target=call, args=(caller,)) for caller in json.loads(sys.argv[1])]
    for caller in callers:
        caller.start()
    for caller in callers:
        # In pieces, for signals are handled between them.
        while caller.is_alive():
            caller.join(0.05)
    leaving.set()
    for thread in closing:
        thread.join()
    LIB.srt_cleanup()


main()
