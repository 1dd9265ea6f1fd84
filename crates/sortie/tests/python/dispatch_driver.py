"""Drives a dispatcher as a stranger would: by the websockets of another library, by frames that are made and read here
and nowhere else, and by plain sockets as devices."""

import asyncio
import json
import os
import signal
import socket
import struct
import sys
import urllib.error
import urllib.request
from urllib.parse import urlencode

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

DEADLINE = 60
ADDRESS, SECRET, PID = sys.argv[1], sys.argv[2], int(sys.argv[3])
FAMILIES = ["/api/server", "/api/dispatch/v1"]
OPENED, CLOSED, RECEIVED, WRITE, CLOSE = range(5)
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
NOBODY = {"udp_listeners": {}, "tcp_listeners": {}, "tcp_clients": {}}


def frame(kind, ip, number, data=b""):
    return struct.pack(">B", kind) + ip.encode() + b"\0" + struct.pack(">QI", number, len(data)) + data


def parsed(message):
    assert not isinstance(message, str), message
    message = bytes(message)
    end = message.index(b"\0", 1)
    number, size = struct.unpack(">QI", message[end + 1 : end + 13])
    data = message[end + 13 :]
    assert len(data) == size, (len(data), size)
    return message[0], message[1:end].decode(), number, data


def pattern(whose, size):
    return bytes((place * 31 ^ place >> 8 ^ whose * 97) & 255 for place in range(size))


async def soon(work):
    return await asyncio.wait_for(work, DEADLINE)


class Driver:
    """A websocket for a port."""

    def __init__(self, socket):
        self.socket = socket

    async def next(self):
        fragments = [fragment async for fragment in self.socket.recv_streaming()]
        assert len(fragments) == 1, "a message came in fragments"
        return parsed(fragments[0])

    async def hear(self):
        return await soon(self.next())

    async def expect(self, kind, ip=None, number=None):
        heard = await self.hear()
        assert heard[0] == kind, (kind, heard[:3], heard[3][:50])
        assert ip in (None, heard[1]) and number in (None, heard[2]), heard[:3]
        return heard

    async def opened(self, ip):
        _, _, number, data = await self.expect(OPENED, ip)
        assert data == b""
        return number

    async def received(self, ip, number, size):
        data = b""
        while len(data) < size:
            part = (await self.expect(RECEIVED, ip, number))[3]
            assert part, "a message of nothing"
            data += part
        return data

    async def send(self, kind, ip, number, data=b""):
        await soon(self.socket.send(frame(kind, ip, number, data)))

    async def write(self, ip, number, data):
        await self.send(WRITE, ip, number, data)

    async def settle(self):
        """Returns once everything that was sent has been carried out: a ping may be answered before what was read
        together with it, and what comes after the answer is read later."""
        for _ in range(2):
            await soon(await soon(self.socket.ping()))

    async def leave(self):
        await soon(self.socket.close())

    async def end(self):
        """The code and reason of the close frame, whatever comes before it."""
        try:
            while True:
                await self.hear()
        except ConnectionClosed as closed:
            assert closed.rcvd is not None, "there was no close frame"
            return closed.rcvd.code, closed.rcvd.reason


def url(family, protocol, parameters):
    return f"ws://{ADDRESS}{family}/{protocol}_dispatch?{urlencode(parameters)}"


async def driver(protocol, port, accept, family=FAMILIES[1], in_query=False):
    parameters, headers = {"port": port, "accept": accept}, {}
    if in_query:
        parameters["bearer_token"] = SECRET
    else:
        headers["Authorization"] = f"Bearer {SECRET}"
    where = url(family, protocol, parameters)
    return Driver(await soon(connect(where, additional_headers=headers, proxy=None, max_size=None)))


async def refused(where, headers=None):
    """Status and text of an answer that is no websocket."""
    try:
        await soon(connect(where, additional_headers=headers, proxy=None))
    except InvalidStatus as refusal:
        document = json.loads(refusal.response.body)
        assert list(document) == ["error"], document
        return refusal.response.status_code, document["error"]
    raise AssertionError(f"{where} was let in")


def call(path, token=None):
    request = urllib.request.Request(f"http://{ADDRESS}{path}")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        answer = OPENER.open(request, timeout=DEADLINE)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, json.load(answer)


async def get(path, token=SECRET):
    return await asyncio.to_thread(call, path, token)


async def statistics(family=FAMILIES[1]):
    status, document = await get(family)
    assert status == 200, document
    return document


async def until(wanted):
    async def ask():
        while (found := await statistics()) != wanted:
            await asyncio.sleep(0.02)

    try:
        await soon(ask())
    except TimeoutError:
        raise AssertionError((wanted, await statistics())) from None


def free_port():
    """A port that is free for both protocols, now."""
    while True:
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
            stream.bind(("0.0.0.0", 0))
            try:
                datagram.bind(("0.0.0.0", stream.getsockname()[1]))
            except OSError:
                continue
            return stream.getsockname()[1]


class Device:
    """A TCP connection from an address of this machine."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def at(cls, ip, port, host="127.0.0.1"):
        return cls(*await soon(asyncio.open_connection(host, port, local_addr=(ip, 0))))

    async def send(self, data):
        self.writer.write(data)
        await soon(self.writer.drain())

    async def exactly(self, size):
        return await soon(self.reader.readexactly(size))

    async def rest(self):
        return await soon(self.reader.read())

    def leave(self):
        self.writer.close()


class Peer:
    """A UDP socket at an address of this machine."""

    def __init__(self, ip, port, family=socket.AF_INET, host="127.0.0.1"):
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind((ip, 0))
        self.to, self.number = (host, port), self.socket.getsockname()[1]

    def say(self, data):
        self.socket.sendto(data, self.to)

    async def hear(self):
        return await soon(asyncio.get_running_loop().sock_recv(self.socket, 65536))

    def leave(self):
        self.socket.close()


async def http_routes():
    for family in FAMILIES:
        assert (await get(f"{family}/healthz", None))[0] == 200
        status, version = await get(f"{family}/version", None)
        assert status == 200 and version["service"] == "dispatch", version
        needed = {"service", "version", "commit", "build_time"}
        assert needed <= set(version) <= needed | {"platform_version"}, version
        assert await get(family) == (200, NOBODY)
        assert await get(f"{family}?{urlencode({'bearer_token': SECRET})}", None) == (200, NOBODY)
        for path, token in [(family, None), (family, "wrong"), (f"{family}?bearer_token=wrong", None)]:
            status, document = await get(path, token)
            assert status == 401 and list(document) == ["error"], (status, document)


async def refusals():
    bearer = {"Authorization": f"Bearer {SECRET}"}
    good = {"port": free_port(), "accept": "127.0.0.1"}
    for family in FAMILIES:
        for protocol in ["tcp", "udp"]:
            where = lambda parameters: url(family, protocol, parameters)
            assert (await refused(where(good)))[0] == 401
            assert (await refused(where(good), {"Authorization": "Bearer wrong"}))[0] == 401
            assert (await refused(where(good), {"Authorization": f"Basic {SECRET}"}))[0] == 401
            assert (await refused(where({**good, "bearer_token": ""})))[0] == 401
            # Strangers learn nothing of parameters.
            assert (await refused(where({})))[0] == 401
            for name in ["port", "accept"]:
                rest = {key: value for key, value in good.items() if key != name}
                status, text = await refused(where(rest), bearer)
                assert status == 422 and name in text, (status, text)
            for port in ["0", "65536", "70000", "-1", "", "six", "6001x", "0x10"]:
                status, text = await refused(where({**good, "port": port}), bearer)
                assert status == 400 and "port" in text, (port, status, text)
            for accept in ["", ",", "example.org", "127.0.0.1/33", "127.0.0", "127.0.0.1:80", "::1/129"]:
                status, text = await refused(where({**good, "accept": accept}), bearer)
                assert status == 400 and "accept" in text, (accept, status, text)
    kinds = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
    for protocol, kind in kinds.items():
        with socket.socket(type=kind) as taken:
            taken.bind(("0.0.0.0", 0))
            if kind == socket.SOCK_STREAM:
                taken.listen()
            port = taken.getsockname()[1]
            status, text = await refused(url(FAMILIES[0], protocol, {**good, "port": port}), bearer)
            assert status >= 400 and str(port) in text and "in use" in text, (status, text)
    status, document = await get(f"{FAMILIES[1]}/tcp_dispatch?{urlencode(good)}")
    assert status == 426 and "websocket" in document["error"], (status, document)
    assert await statistics() == NOBODY


async def streams(family):
    port = free_port()
    ips = [f"127.0.0.{last}" for last in range(1, 6)]
    one = await driver("tcp", port, "127.0.0.0/8,127.0.0.1,127.0.0.1", family, in_query=True)
    devices, numbers = [], []
    for ip in ips:
        devices.append(await Device.at(ip, port))
        numbers.append(await one.opened(ip))
    assert len(set(numbers)) == len(ips)
    wanted = {"udp_listeners": {}, "tcp_listeners": {str(port): 1}, "tcp_clients": {str(port): len(ips)}}
    assert await statistics(family) == wanted
    for place, (ip, number, device) in enumerate(zip(ips, numbers, devices)):
        for size in [1, 2048, 200_000]:
            data = pattern(place, size)
            await device.send(data)
            assert await one.received(ip, number, size) == data
            await one.write(ip, number, data[::-1])
            assert await device.exactly(size) == data[::-1]
        # Nothing to write is no reason to end anything.
        await one.write(ip, number, b"")
    # A device that sends nothing more is still written to, and disconnected when the driver says so.
    devices[0].writer.write_eof()
    await one.expect(CLOSED, ips[0], numbers[0])
    await one.write(ips[0], numbers[0], b"last words")
    await one.send(CLOSE, ips[0], numbers[0])
    assert await devices[0].rest() == b"last words"
    # What was written before CLOSE arrives, and CLOSED comes last.
    last = pattern(7, 1_000_000)
    for start in range(0, len(last), 50_000):
        await one.write(ips[1], numbers[1], last[start : start + 50_000])
    await one.send(CLOSE, ips[1], numbers[1])
    assert await devices[1].rest() == last
    await one.expect(CLOSED, ips[1], numbers[1])
    # What a device sent before it left arrives before CLOSED.
    await devices[2].send(last)
    devices[2].leave()
    assert await one.received(ips[2], numbers[2], len(last)) == last
    await one.expect(CLOSED, ips[2], numbers[2])
    # To those that have gone, nothing can be done, and nothing comes of it.
    await one.write(ips[1], numbers[1], b"late")
    await one.send(CLOSE, ips[2], numbers[2])
    await devices[3].send(b"still here")
    assert await one.received(ips[3], numbers[3], 10) == b"still here"
    # With the last driver the port closes, and so do its devices.
    await one.leave()
    assert await devices[3].rest() == b"" and await devices[4].rest() == b""
    await until(NOBODY)
    try:
        await Device.at("127.0.0.1", port)
        raise AssertionError("the port is still open")
    except ConnectionRefusedError:
        pass


async def two_drivers():
    port = free_port()
    first = await driver("tcp", port, "127.0.0.2")
    second = await driver("tcp", port, "127.0.0.2/31", FAMILIES[0])
    both, only = await Device.at("127.0.0.2", port), await Device.at("127.0.0.3", port)
    number = await first.opened("127.0.0.2")
    numbers = {ip: number for _, ip, number, _ in [await second.expect(OPENED), await second.expect(OPENED)]}
    assert set(numbers) == {"127.0.0.2", "127.0.0.3"} and numbers["127.0.0.2"] == number
    wanted = {"udp_listeners": {}, "tcp_listeners": {str(port): 2}, "tcp_clients": {str(port): 2}}
    assert await statistics() == wanted
    # Nobody accepts this one.
    assert await (await Device.at("127.0.0.4", port)).rest() == b""
    await both.send(b"for both")
    for one in [first, second]:
        assert await one.received("127.0.0.2", number, 8) == b"for both"
    await first.write("127.0.0.2", number, b"first")
    assert await both.exactly(5) == b"first"
    await second.write("127.0.0.2", number, b"second")
    assert await both.exactly(6) == b"second"
    # The first has no business with the other's device, whatever address it gives.
    foreign = numbers["127.0.0.3"]
    await first.write("127.0.0.3", foreign, b"not yours")
    await first.write("127.0.0.2", foreign, b"not yours")
    await first.send(CLOSE, "127.0.0.2", foreign)
    await first.settle()
    await second.write("127.0.0.3", foreign, b"mine")
    assert await only.exactly(4) == b"mine"
    await first.leave()
    await both.send(b"for one")
    assert await second.received("127.0.0.2", number, 7) == b"for one"
    await second.leave()
    assert (await both.rest(), await only.rest()) == (b"", b"")
    await until(NOBODY)


async def datagrams(family):
    port = free_port()
    one = await driver("udp", port, "127.0.0.1,127.0.0.2", family, in_query=True)
    assert await statistics(family) == {"udp_listeners": {str(port): 1}, "tcp_listeners": {}, "tcp_clients": {}}
    peers = [("127.0.0.1", Peer("127.0.0.1", port)), ("127.0.0.2", Peer("127.0.0.2", port))]
    for size in [0, 1, 64, 2048, 2049, 9000, 65507]:
        for ip, peer in peers:
            data = pattern(size, size)
            peer.say(data)
            assert (await one.expect(RECEIVED, ip, peer.number))[3] == data
            await one.write(ip, peer.number, data[::-1])
            assert await peer.hear() == data[::-1]
    # An address that nobody accepts is not heard, and one that has not spoken is not written to.
    stranger, silent = Peer("127.0.0.3", port), Peer("127.0.0.1", port)
    stranger.say(b"hello?")
    await one.write("127.0.0.3", stranger.number, b"nobody asked")
    await one.write("127.0.0.1", silent.number, b"nobody asked")
    await one.settle()
    silent.say(b"now")
    assert (await one.expect(RECEIVED, "127.0.0.1", silent.number))[3] == b"now"
    await one.write("127.0.0.1", silent.number, b"answer")
    assert await silent.hear() == b"answer"
    # Two drivers hear what both accept.
    two = await driver("udp", port, "127.0.0.2/31", FAMILIES[0])
    assert (await statistics())["udp_listeners"] == {str(port): 2}
    peers[1][1].say(b"for both")
    for listener in [one, two]:
        assert (await listener.expect(RECEIVED, "127.0.0.2", peers[1][1].number))[3] == b"for both"
    stranger.say(b"for one")
    assert (await two.expect(RECEIVED, "127.0.0.3", stranger.number))[3] == b"for one"
    await two.write("127.0.0.3", stranger.number, b"answer")
    assert await stranger.hear() == b"answer"
    await two.leave()
    await one.leave()
    for peer in [stranger, silent, peers[0][1], peers[1][1]]:
        peer.leave()
    await until(NOBODY)


async def what_is_no_frame():
    whole = frame(WRITE, "127.0.0.1", 1, b"data")
    wrong = [
        (b"", 1007),
        (whole[:1], 1007),
        (whole[:5], 1007),
        (whole[:-1], 1007),
        (whole + b"!", 1007),
        (b"\x03" + b"1" * 200, 1007),
        (b"\x03\xff\xfe\0" + struct.pack(">QI", 1, 0), 1007),
        (frame(CLOSE, "127.0.0.1", 1, b"data"), 1007),
        (struct.pack(">B", WRITE) + b"127.0.0.1\0" + struct.pack(">QI", 1, 2**32 - 1), 1007),
        (frame(9, "127.0.0.1", 1), 1008),
        (frame(255, "127.0.0.1", 1), 1008),
        (frame(OPENED, "127.0.0.1", 1), 1008),
        (frame(RECEIVED, "127.0.0.1", 1, b"data"), 1008),
        ("text", 1003),
        (bytes(5_000_000), 1009),
    ]
    only_udp = [
        (frame(WRITE, "example.org", 1, b"data"), 1007),
        (frame(WRITE, "", 1, b"data"), 1007),
        (frame(WRITE, "127.0.0.1", 65536, b"data"), 1007),
        (frame(CLOSE, "127.0.0.1", 1), 1008),
    ]
    for protocol, messages in [("tcp", wrong), ("udp", wrong + only_udp)]:
        port = free_port()
        good = await driver(protocol, port, "127.0.0.1")
        device = await Device.at("127.0.0.1", port) if protocol == "tcp" else Peer("127.0.0.1", port)
        if protocol == "tcp":
            number = await good.opened("127.0.0.1")
        else:
            number = device.number
        for message, code in messages:
            bad = await driver(protocol, port, "127.0.0.9")
            try:
                await soon(bad.socket.send(message))
            except ConnectionClosed:
                pass
            found, reason = await bad.end()
            shown = message[:40]
            assert found == code and reason, (protocol, shown, found, reason)
            # Nothing of it concerns anybody else.
            await (device.send(b"hello") if protocol == "tcp" else asyncio.to_thread(device.say, b"hello"))
            assert (await good.expect(RECEIVED, "127.0.0.1", number))[3] == b"hello"
            await good.write("127.0.0.1", number, b"hi")
            assert await (device.exactly(2) if protocol == "tcp" else device.hear()) == b"hi"
        await good.leave()
        device.leave()
    await until(NOBODY)


async def pings():
    one = await driver("udp", free_port(), "127.0.0.1")
    for payload in [b"", b"hello", bytes(125)]:
        await soon(await soon(one.socket.ping(payload)))
    await one.leave()
    assert one.socket.close_code == 1000
    await until(NOBODY)


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


async def both_families_of_addresses():
    mapped = free_port()
    one = await driver("tcp", mapped, "::ffff:127.0.0.1")
    device = await Device.at("127.0.0.1", mapped)
    number = await one.opened("127.0.0.1")
    await one.write("::ffff:127.0.0.1", number, b"mapped")
    assert await device.exactly(6) == b"mapped"
    await one.leave()
    if not has_ipv6():
        print("this machine has no IPv6")
        return await until(NOBODY)
    port = free_port()
    tcp, udp = await driver("tcp", port, "::/0"), await driver("udp", port, "::1")
    device = await Device.at("::1", port, "::1")
    number = await tcp.opened("::1")
    await device.send(b"six")
    assert await tcp.received("::1", number, 3) == b"six"
    await tcp.write("::1", number, b"VI")
    assert await device.exactly(2) == b"VI"
    # The same port by IPv4 is nobody's.
    assert await (await Device.at("127.0.0.1", port)).rest() == b""
    peer = Peer("::1", port, socket.AF_INET6, "::1")
    peer.say(b"six")
    assert (await udp.expect(RECEIVED, "::1", peer.number))[3] == b"six"
    await udp.write("::1", peer.number, b"VI")
    assert await peer.hear() == b"VI"
    peer.leave()
    await tcp.leave()
    await udp.leave()
    await until(NOBODY)


async def bursts():
    port, at_once = free_port(), 64
    one = await driver("tcp", port, "127.0.0.0/8")

    async def answer():
        while True:
            kind, ip, number, data = await one.next()
            if kind == RECEIVED:
                await one.write(ip, number, data)

    async def visit(place):
        device = await Device.at(f"127.0.1.{place + 1}", port)
        data = pattern(place, 1000)
        await device.send(data)
        assert await device.exactly(1000) == data
        device.leave()

    answering = asyncio.create_task(answer())
    for _ in range(5):
        await soon(asyncio.gather(*(visit(place) for place in range(at_once))))
    assert not answering.done()
    answering.cancel()
    await one.leave()
    await until(NOBODY)


async def the_end():
    port = free_port()
    tcp, udp = await driver("tcp", port, "127.0.0.1"), await driver("udp", port, "127.0.0.1")
    device = await Device.at("127.0.0.1", port)
    number = await tcp.opened("127.0.0.1")
    await tcp.write("127.0.0.1", number, b"before the end")
    assert await device.exactly(14) == b"before the end"
    os.kill(PID, signal.SIGTERM)
    for one in [tcp, udp]:
        code, reason = await one.end()
        assert code == 1001 and reason, (code, reason)
    assert await device.rest() == b""


async def main():
    await http_routes()
    await refusals()
    for family in FAMILIES:
        await streams(family)
        await datagrams(family)
    await two_drivers()
    await what_is_no_frame()
    await pings()
    await both_families_of_addresses()
    await bursts()
    await the_end()
    print("done")


asyncio.run(main())
