"""Publishes or plays with aiortc, and prints what was seen as one line of JSON.

usage: aiortc_client.py whip|whep|publish|play STREAM API FRAMES SECONDS [FILM]

STREAM is app/stream?query, API the host and port that is signalled to; publish and play are SRS's JSON forms of WHIP and
WHEP. FILM is what is published. Says FLOWS when FRAMES are sent or decoded. Ends with DELETE (WHIP and WHEP have one) on
SIGTERM or after SECONDS, and at once when it is refused. All on loopback.
"""

import asyncio
import json
import signal
import sys
import time
from urllib.parse import urljoin

import aiohttp
import aioice.ice
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.contrib.media import MediaPlayer
from aiortc.mediastreams import MediaStreamError

LOOK_EVERY = 0.05  # seconds

# It leaves out loopback otherwise.
aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]


class Counted(MediaStreamTrack):
    """A track whose frames are counted when they are taken."""

    def __init__(self, track, seen):
        super().__init__()
        self.kind = track.kind
        self.track = track
        self.seen = seen

    async def recv(self):
        frame = await self.track.recv()
        if self.kind == "video":
            self.seen["frames"] += 1
            self.seen["size"] = [frame.width, frame.height]
        return frame

    def stop(self):
        super().stop()
        self.track.stop()


async def drain(track):
    try:
        while True:
            await track.recv()
    except MediaStreamError:
        pass


async def signalled(http, role, stream, api, sdp):
    """Sends the offer; gives the status, the answer's SDP and the resource."""
    path, _, query = stream.partition("?")
    if role in ("publish", "play"):
        url = f"http://{api}/rtc/v1/{role}/"
        envelope = {"api": url, "clientip": None, "sdp": sdp, "streamurl": f"webrtc://{api}/{stream}", "tid": "2b45a06"}
        async with http.post(url, json=envelope) as response:
            answer = json.loads(await response.text())
            return response.status, answer.get("sdp"), None
    app, _, name = path.rpartition("/")
    url = f"http://{api}/rtc/v1/{role}/?app={app}&stream={name}" + (f"&{query}" if query else "")
    headers = {"Content-Type": "application/sdp", "Authorization": "Bearer aiortc"}
    async with http.post(url, data=sdp, headers=headers) as response:
        location = response.headers.get("Location")
        answer = await response.text() if response.status == 201 else None
        return response.status, answer, location and urljoin(url, location)


async def main(role, stream, api, frames, seconds, film=None):
    begin = time.monotonic()
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    seen = {"role": role, "signalled": [], "deleted": [], "failure": None, "frames": 0, "size": [0, 0], "remote": None}
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))

    @peer.on("connectionstatechange")
    def changed():
        if peer.connectionState == "connected":
            seen.setdefault("connected", round((time.monotonic() - begin) * 1000))

    if role in ("whip", "publish"):
        player = MediaPlayer(film, loop=True)
        for track in (player.audio, player.video):
            peer.addTransceiver(Counted(track, seen), direction="sendonly")
    else:
        for kind in ("audio", "video"):
            peer.addTransceiver(kind, direction="recvonly")
        peer.on("track", lambda track: asyncio.ensure_future(drain(Counted(track, seen))))

    await peer.setLocalDescription(await peer.createOffer())
    async with aiohttp.ClientSession() as http:
        status, answer, resource = await signalled(http, role, stream, api, peer.localDescription.sdp)
        seen["signalled"].append(status)
        if answer:
            seen["candidates"] = [line[12:] for line in answer.splitlines() if line.startswith("a=candidate:")]
            await peer.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
        else:
            seen["failure"] = f"no answer, status {status}"
            over.set()
        flows = False
        while not over.is_set() and time.monotonic() - begin < seconds:
            if not flows and seen["frames"] >= frames and peer.connectionState == "connected":
                flows = True
                print("FLOWS", flush=True)
            await asyncio.sleep(LOOK_EVERY)
        # Before goodbye: a connection that is closed has no statistics.
        reports = (await peer.getStats()).values()
        pairs = [t.receiver.transport.transport._connection._nominated.get(1) for t in peer.getTransceivers()]
        for pair in filter(None, pairs):
            seen["remote"] = "{}:{}".format(*pair.remote_addr)
            seen["local"] = "{}:{}".format(*pair.local_addr)
        for kind, field in (("inbound-rtp", "packetsReceived"), ("outbound-rtp", "packetsSent")):
            seen["packets"] = seen.get("packets", 0) + sum(getattr(r, field) for r in reports if r.type == kind)
        seen["lost"] = sum(r.packetsLost for r in reports if r.type == "inbound-rtp")
        if resource:
            async with http.delete(resource, headers={"Authorization": "Bearer aiortc"}) as response:
                seen["deleted"].append(response.status)
    await peer.close()
    print(json.dumps(seen), flush=True)


arguments = sys.argv[1:]
asyncio.run(main(*arguments[:3], int(arguments[3]), float(arguments[4]), *arguments[5:]))
