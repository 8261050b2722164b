# SPDX-License-Identifier: Apache-2.0
"""The endpoint proxy on the wire: framing, fields, streams, pressure, WebSocket, idleness."""
import asyncio
import hashlib
import os
import re
import socket
import ssl
import threading
import time

import h2.config
import h2.connection
import h2.events
import pytest

from conftest import wait_for


class Endpoint:
    """A microVM's endpoint, spoken to byte by byte."""

    def __init__(self, daemon, vm):
        self.daemon, self.vm = daemon, vm
        self.host = vm["endpoint"].partition(":")[0]
        self.token = daemon.token(vm["microvmId"], 8080)

    def connect(self, alpn="http/1.1", sni=None, small=False):
        context = ssl.create_default_context(cafile=self.daemon.info["ca"])
        context.set_alpn_protocols([alpn])
        raw = socket.socket()
        if small:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        raw.settimeout(30)
        raw.connect((self.daemon.info["endpoint"]["address"], self.daemon.info["endpoint"]["port"]))
        sock = context.wrap_socket(raw, server_hostname=sni or self.host)
        assert sock.selected_alpn_protocol() == alpn
        return sock

    def head(self, method="GET", path="/head", *fields, host=None):
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host or self.host}",
                 f"X-aws-proxy-auth: {self.token}", *fields]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def raw(self, *parts, pause=0.0):
        """Sends the parts, reads until the server closes."""
        with self.connect() as sock:
            for part in parts:
                sock.sendall(part)
                time.sleep(pause)
            return read_all(sock)

    def get(self, path, *fields, method="GET", body=b""):
        """One request on a connection of its own; (status, fields as text, body bytes as sent)."""
        answer = self.raw(self.head(method, path, "Connection: close", *fields) + body)
        head, _, rest = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), head.decode().lower(), rest

    def sh(self, text):
        return self.daemon.request(self.vm["endpoint"], "/sh", self.token, method="POST", body=text)[1]


def read_all(sock):
    data = b""
    try:
        while chunk := sock.recv(65536):
            data += chunk
    except (ssl.SSLError, ConnectionError):
        pass
    return data


def dechunk(data):
    body = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        n = int(size, 16)
        if not n:
            return body, data
        body, data = body + data[:n], data[n + 2:]


@pytest.fixture(scope="module")
def ep(daemon, probe):
    vm = daemon.run(probe)
    yield Endpoint(daemon, vm)
    daemon.cli("rm", vm["microvmId"], check=False)


# ---- one request, one meaning -------------------------------------------------------------------

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("fields,body", [
    (["Content-Length: 5", "Transfer-Encoding: chunked"], b"0\r\n\r\n" + SMUGGLED),
    (["Content-Length: 5", "Content-Length: 0"], b"hello"),
    (["Content-Length: 5, 5"], b"hello"),
    (["Content-Length: +5"], b"hello"),
    (["Content-Length: 0x5"], b"hello"),
    (["Content-Length: -1"], b""),
    (["Content-Length: 99999999999999999999"], b""),
    (["Content-Length : 5"], b"hello"),
    (["Transfer-Encoding: chunked, identity"], b"0\r\n\r\n"),
    (["Transfer-Encoding: xchunked"], b"0\r\n\r\n"),
    (["Transfer-Encoding: gzip, chunked"], b"0\r\n\r\n"),
    (["Transfer-Encoding: chunked", "Transfer-Encoding: identity"], b"0\r\n\r\n"),
    (["Transfer-Encoding:\x0bchunked"], b"0\r\n\r\n"),
    (["Transfer-Encoding : chunked"], b"0\r\n\r\n"),
    ([" Transfer-Encoding: chunked"], b"0\r\n\r\n"),
    (["X: a\r\n folded"], b""),
    (["X: a\nY: b"], b""),
    (["X: a\rY: b"], b""),
    (["X: a\0b"], b""),
    ([": empty"], b""),
    (["X Y: b"], b""),
    (["Host: other"], b""),
    (["Transfer-Encoding: chunked"], b"5\r\nhelloXX0\r\n\r\n"),
    (["Transfer-Encoding: chunked"], b"5 \r\nhello\r\n0\r\n\r\n"),
    (["Transfer-Encoding: chunked"], b"0x5\r\nhello\r\n0\r\n\r\n"),
    (["Transfer-Encoding: chunked"], b"5\nhello\n0\n\n"),
    (["Transfer-Encoding: chunked"], b"fffffffffffffffff\r\nhello"),
    (["Transfer-Encoding: chunked"], b"0\r\nX : y\r\n\r\n"),
])
def test_ambiguous_requests_are_refused(ep, fields, body):
    answer = ep.raw(ep.head("POST", "/head", *fields) + body)
    statuses = re.findall(rb"^HTTP/1\.1 (\d+)", answer, re.M)
    assert statuses == [b"400"] or answer == b"", answer  # or cut, when the request was under way
    assert b"smuggled" not in answer


@pytest.mark.parametrize("line,status", [
    ("GET http://{host}/head HTTP/1.1", b"200"),
    ("GET http://other.example/head HTTP/1.1", b"403"),
    ("GET http://a@{host}/head HTTP/1.1", b"400"),
    ("GET //{host}/head HTTP/1.1", b"200"),
    ("GET head HTTP/1.1", b"400"),
    ("GET /a b HTTP/1.1", b"400"),
    ("CONNECT {host}:443 HTTP/1.1", b"400"),
    ("CONNECT / HTTP/1.1", b"400"),
    ("TRACE /head HTTP/1.1", b"200"),
    ("GET /head HTTP/1.2", b"505"),
    ("GET /head HTTP/2.0", b"505"),
    ("GET /head", b"505"),
    ("NOSUCHMETHOD /head HTTP/1.1", b"400"),
    ("GET\t/head\tHTTP/1.1", b"400"),
])
def test_request_lines(ep, line, status):
    head = line.format(host=ep.host) + f"\r\nHost: {ep.host}\r\nX-aws-proxy-auth: {ep.token}\r\n"
    answer = ep.raw(head.encode() + b"Connection: close\r\n\r\n")
    assert answer.split()[1] == status, answer


def test_names_of_other_machines(ep):
    for host in ("localhost", "microvm.localhost", ep.host + ".evil", "x." + ep.host, "127.0.0.1"):
        answer = ep.raw(ep.head("GET", "/head", "Connection: close", host=host))
        assert b" 403 " in answer and b"Token authentication failed" in answer, answer
    with ep.connect(sni="00000000-0000-4000-8000-000000000000" + ep.host[36:]) as sock:
        sock.sendall(ep.head("GET", "/head", "Connection: close"))  # SNI and Host disagree
        assert b" 403 " in read_all(sock)
    assert b" 200 " in ep.raw(ep.head("GET", "/head", "Connection: close", host=ep.host.upper()))


def test_fields_the_application_sees(ep):
    status, _, body = ep.get("/head", "X-AWS-Proxy-Anything: 1", "x-aws-proxy-port: 8080",
                             "Connection: x-aws-proxy-auth, x-hop, host, content-length",
                             "X-Hop: 1", "Cookie: a=1", "Cookie: b=2", "Proxy-Authorization: secret",
                             "X-Forwarded-For: 6.6.6.6", "traceparent: 00-x", "TE: gzip",
                             "Keep-Alive: 5", "X-Amzn-RequestId: mine", "Upgrade: h2c",
                             "HTTP2-Settings: AAAA")
    seen = body.decode().lower()
    assert status == 200
    assert ep.token.lower() not in seen and "x-aws-proxy" not in seen
    assert f"\r\nhost: {ep.host}\r\n" in seen and "traceparent: 00-x" in seen
    assert "cookie: a=1; b=2" in seen and "x-forwarded-for: 6.6.6.6" in seen
    for gone in ("x-hop", "proxy-authorization", "keep-alive", "te:", "upgrade", "http2-settings", ": mine"):
        assert "\r\n" + gone not in seen and not seen.endswith(gone), (gone, seen)
    assert len(re.findall(r"x-amzn-requestid: [0-9a-f-]{36}\r\n", seen)) == 1


@pytest.mark.parametrize("value,status", [
    ("0", 400), ("65536", 400), ("-1", 400), ("8080 ", 200), ("08080", 200), ("8080,1", 400),
    ("", 400), ("1e3", 400), ("99999999999999999999", 400), ("8081", 403), ("65535", 403)])
def test_port_fields(ep, value, status):
    got, head, body = ep.get("/head", f"X-aws-proxy-port: {value}")
    assert got == status, (head, body)
    assert status == 200 or "x-aws-proxy-error: " in head and "cache-control: private, no-store" in head


def test_denials_come_before_ports(ep):
    # Without a token that opens anything, a caller learns nothing, not even that its port is odd.
    answer = ep.raw(f"GET / HTTP/1.1\r\nHost: {ep.host}\r\nX-aws-proxy-port: 0\r\n"
                    "Connection: close\r\n\r\n".encode())
    assert b"Request missing authentication" in answer and b"content-type: text/plain" in answer


def test_spoiled_tokens(ep):
    t = ep.token
    header, _, iv, text, tag = t.split(".")
    for bad in (t[:-1], t + "A", t[:-1] + ("A" if t[-1] != "A" else "B"), t.replace("..", ".A."),
                f"{header}..{iv}.{'A' * len(text)}.{tag}", f"{header}.." + ".".join([text, iv, tag]),
                t + "=", "A" * 60000):
        answer = ep.raw(f"GET / HTTP/1.1\r\nHost: {ep.host}\r\nX-aws-proxy-auth: {bad}\r\n"
                        "Connection: close\r\n\r\n".encode())
        assert b" 403 " in answer and b"x-aws-proxy-error: UNAUTHORIZED" in answer, bad[:80]


# ---- answers of every shape ---------------------------------------------------------------------

def test_answers_without_bodies(ep):
    status, head, body = ep.get("/204")
    assert (status, body) == (204, b"") and "content-length" not in head and "x-a: b" in head
    status, head, body = ep.get("/304")
    assert (status, body) == (304, b"") and 'etag: "x"' in head
    status, head, body = ep.get("/any", method="HEAD")
    assert (status, body) == (200, b"") and "content-length: 1234" in head


def test_early_hints_pass_and_old_clients_are_spared(ep):
    answer = ep.raw(ep.head("GET", "/103", "Connection: close"))
    assert re.findall(rb"^HTTP/1\.1 (\d+)", answer, re.M) == [b"103", b"200"]
    old = ep.head("GET", "/103").replace(b"HTTP/1.1", b"HTTP/1.0")
    assert re.findall(rb"^HTTP/1\.1 (\d+)", ep.raw(old), re.M) == [b"200"]


def test_bad_applications(ep):
    for path in ("/nothing", "/garbage", "/split"):
        status, head, body = ep.get(path)
        assert (status, body) == (502, b"") and "x-aws-proxy-error: app_" in head, (path, head)
    status, head, body = ep.get("/cut")  # the client must see that it is not whole
    assert status == 200 and body == b"half" and "content-length: 100" in head
    status, head, body = ep.get("/untold")
    assert status == 200 and dechunk(body)[0] == b"until the end\n"
    status, head, body = ep.get("/proxyfields")
    assert "fake" not in head and "x-hop" not in head and "x-kept: 1" in head


def test_answer_before_the_request_is_read(ep):
    for size in (10, 5_000_000):
        answer = ep.raw(ep.head("POST", "/early", f"Content-Length: {size}", "Connection: close"), b"x" * 10)
        assert b" 413 " in answer and answer.endswith(b"enuf\n"), answer


def test_continue_is_sent_once_and_only_when_allowed(ep):
    with ep.connect() as sock:
        sock.sendall(ep.head("POST", "/echo", "Content-Length: 5", "Expect: 100-continue",
                             "Connection: close"))
        assert sock.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"hello")
        answer = read_all(sock)
        assert b" 200 " in answer and b"100 Continue" not in answer
    refused = ep.head("POST", "/echo", "Content-Length: 5", "Expect: 100-continue").replace(
        ep.token.encode(), b"x")
    assert re.findall(rb"^HTTP/1\.1 (\d+)", ep.raw(refused), re.M) == [b"403"]


def test_chunks_and_trailers_both_ways(ep):
    data = os.urandom(300_000).hex().encode()
    chunks = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(p), p)
                      for p in (data[i:i + 9973] for i in range(0, len(data), 9973)))
    answer = ep.raw(ep.head("POST", "/echo", "Transfer-Encoding: chunked", "Connection: close"),
                    chunks + b"0\r\nX-End: yes\r\nContent-Length: 3\r\n\r\n")
    body, trailers = dechunk(answer.partition(b"\r\n\r\n")[2])
    assert body[:len(data)] == data and body[len(data):] == b"trailer:x-end: yes\r\n"
    assert b"x-sum: %d\r\n" % len(body) in trailers.lower()


def test_pipelined_and_kept_connections(ep):
    with ep.connect() as sock:
        sock.sendall(ep.head("GET", "/keep") * 5 + ep.head("GET", "/keep", "Connection: close"))
        answer = read_all(sock)
    assert answer.count(b"HTTP/1.1 200") == 6
    assert len(set(re.findall(rb"pid=(\d+)", answer))) <= 2  # the application's side is kept, too


def test_a_connection_closed_without_a_word_fails_nobody(ep):
    # The probe closes after each answer and does not announce it.
    for i in range(40):
        body = b"echo %d" % i
        assert ep.get("/head")[0] == 200
        status, _, out = ep.get("/sh", f"Content-Length: {len(body)}", method="POST", body=body)
        assert (status, out) == (200, b"%d\n" % i)


# ---- HTTP/2 -------------------------------------------------------------------------------------

class H2:
    def __init__(self, ep):
        self.ep, self.sock = ep, ep.connect("h2")
        # Nothing is checked on our side: what leaves is what the test says.
        self.c = h2.connection.H2Connection(config=h2.config.H2Configuration(
            validate_outbound_headers=False, normalize_outbound_headers=False,
            validate_inbound_headers=False))
        self.c.initiate_connection()
        self.flush()

    def flush(self):
        self.sock.sendall(self.c.data_to_send())

    def fields(self, **pseudo):
        base = {":method": "GET", ":scheme": "https", ":authority": self.ep.host, ":path": "/head"}
        base.update({":" + k: v for k, v in pseudo.items()})
        return [(k, v) for k, v in base.items() if v is not None] + [("x-aws-proxy-auth", self.ep.token)]

    def request(self, fields, data=None):
        """(status or the reset's error code as a negative number, body)"""
        sid = self.c.get_next_available_stream_id()
        self.c.send_headers(sid, fields, end_stream=data is None)
        if data is not None:
            self.c.send_data(sid, data, end_stream=True)
        self.flush()
        status, body = None, b""
        while True:
            got = self.sock.recv(65536)
            if not got:
                return -1000, body
            for event in self.c.receive_data(got):
                if isinstance(event, h2.events.ResponseReceived) and event.stream_id == sid:
                    status = int(dict(event.headers)[b":status"])
                elif isinstance(event, h2.events.DataReceived) and event.stream_id == sid:
                    body += event.data
                    self.c.acknowledge_received_data(event.flow_controlled_length, sid)
                elif isinstance(event, h2.events.StreamReset) and event.stream_id == sid:
                    return (status if status else -int(event.error_code)), body
                elif isinstance(event, h2.events.StreamEnded) and event.stream_id == sid:
                    return status, body
                elif isinstance(event, h2.events.ConnectionTerminated):
                    return -1000 - int(event.error_code), body
            self.flush()


def test_h2_becomes_plain_http1(ep):
    c = H2(ep)
    status, body = c.request(c.fields(path="/head?a=b") + [("cookie", "a=1"), ("cookie", "b=2"), ("x", "y")])
    seen = body.decode().lower()
    assert status == 200 and seen.startswith("get /head?a=b http/1.1\r\n"), seen
    assert f"\r\nhost: {ep.host}\r\n" in seen and "cookie: a=1; b=2\r\n" in seen
    assert "transfer-encoding" not in seen and "x-aws-proxy" not in seen
    status, body = c.request(c.fields(method="POST", path="/echo"), b"z" * 10)
    assert (status, body) == (200, b"z" * 10)


@pytest.mark.parametrize("pseudo,extra", [
    ({"path": "/head HTTP/1.1\r\nX-Evil: 1\r\nA: "}, []),
    ({"path": "/a b"}, []),
    ({"path": "head"}, []),
    ({"path": ""}, []),
    ({"path": None}, []),
    ({"path": "http://other/", "scheme": "odd"}, []),
    ({"path": "*"}, []),
    ({"path": "*", "scheme": "odd"}, []),
    ({"path": "head", "scheme": "odd"}, []),
    ({"method": "GET / HTTP/1.1\r\nX-Evil: 1\r\n\r\nGET"}, []),
    ({"method": "G ET"}, []),
    ({"method": "CONNECT"}, []),
    ({"method": "CONNECT", "path": None, "scheme": None}, []),
    ({"authority": "x\r\nX-Evil: 1"}, []),
    ({"authority": "user@other"}, []),
    ({}, [("x-evil", "1\r\nX-Other: 2")]),
    ({}, [("x-evil", "1\0")]),
    ({}, [("x-evil\r\nx-other", "1")]),
    ({}, [("x evil", "1")]),
    ({}, [("x:evil", "1")]),
    ({}, [("", "1")]),
    ({}, [("X-Evil", "1")]),
    ({}, [("transfer-encoding", "chunked")]),
    ({}, [("connection", "close")]),
    ({}, [("upgrade", "websocket")]),
    ({}, [("te", "gzip")]),
    ({}, [("content-length", "5")]),
    ({}, [("content-length", "0"), ("content-length", "0")]),
    ({}, [(":path", "/again")]),
    ({}, [(":evil", "1")]),
    ({}, [("x-evil", "a" * 70000)]),
    ({}, [("x-evil", "1")] * 200),
])
def test_h2_requests_that_do_not_pass(ep, pseudo, extra):
    c = H2(ep)
    try:
        status, body = c.request(c.fields(**pseudo) + extra)
    except ConnectionError:
        status, body = -1000, b""
    assert status < 0 or status in (400, 403, 431), (status, body)


def test_h2_host_and_authority(ep):
    c = H2(ep)
    other = "00000000-0000-4000-8000-000000000000" + ep.host[36:]
    assert c.request(c.fields(authority=other))[0] == 403
    status, body = c.request(c.fields() + [("host", other)])
    assert status in (400, -1) or (other.encode() not in body and body.lower().count(b"\r\nhost:") == 1)


def test_h2_body_lengths_must_agree(ep):
    for length, data in (("3", b"hello"), ("9", b"hello"), ("+5", b"hello"), ("5, 5", b"hello")):
        c = H2(ep)
        try:
            status, body = c.request(c.fields(method="POST", path="/echo") + [("content-length", length)], data)
        except ConnectionError:
            continue
        assert status < 0 or status == 400, (length, status, body)


def test_h2_streams_share_a_connection(ep):
    c = H2(ep)
    for i in range(30):
        status, _ = c.request(c.fields(path=f"/head?{i}"))
        assert status == 200


def flood(ep, frame, count):
    """Bytes the server took before it hung up, at most count frames."""
    c = H2(ep)
    c.sock.settimeout(10)
    sent = 0
    try:
        for _ in range(count // 100):
            c.sock.sendall(frame * 100)
            sent += 100
        while c.sock.recv(65536):
            pass
    except (ConnectionError, ssl.SSLError, TimeoutError):
        pass
    return sent


def test_h2_floods_end_the_connection(ep):
    ping = b"\0\0\x08\x06\0\0\0\0\0" + b"12345678"
    settings = b"\0\0\0\x04\0\0\0\0\0"
    for frame in (ping, settings):
        began = time.monotonic()
        flood(ep, frame, 100_000)
        assert time.monotonic() - began < 9, "the server kept listening"
    assert ep.get("/head")[0] == 200


def test_h2_rapid_resets_end_the_connection(ep):
    c = H2(ep)
    c.sock.settimeout(10)
    with pytest.raises((ConnectionError, ssl.SSLError, EOFError)):
        for _ in range(3000):
            sid = c.c.get_next_available_stream_id()
            c.c.send_headers(sid, c.fields(), end_stream=True)
            c.c.reset_stream(sid)
            c.flush()
        while c.sock.recv(65536):
            pass
        raise EOFError
    assert ep.get("/head")[0] == 200


# ---- streams and pressure -----------------------------------------------------------------------

def test_events_are_not_held_back(ep):
    with ep.connect() as sock:
        sock.sendall(ep.head("GET", "/sse", "Connection: close"))
        times, data = [], b""
        while chunk := sock.recv(4096):
            data += chunk
            while data.count(b"data: ") > len(times):
                times.append(time.monotonic())
    gaps = [b - a for a, b in zip(times, times[1:])]
    assert len(times) == 5 and all(0.1 < g < 0.9 for g in gaps), gaps


def rss_kib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{pid}/status").read()).group(1))


def test_a_client_that_does_not_read_costs_little(ep):
    before = rss_kib(ep.daemon.process.pid)
    socks = [ep.connect(small=True) for _ in range(4)]
    try:
        for sock in socks:
            sock.sendall(ep.head("GET", "/flood/100", "Connection: close"))
        time.sleep(4)
        assert rss_kib(ep.daemon.process.pid) - before < 24 * 1024
        assert ep.get("/head")[0] == 200  # others go on
        got = 0
        while chunk := socks[0].recv(65536):
            got += len(chunk)
            if got > 8 << 20:
                break
        assert got > 8 << 20  # and so does the one that reads again
    finally:
        for sock in socks:
            sock.close()
    # All of the application's processes end with their clients.
    wait_for("the application's connections are cut", 10,
             lambda: int(ep.sh("cat /proc/[0-9]*/comm | grep -cx server")) <= 2)


def test_an_application_that_does_not_read_costs_little(ep):
    size = 48 << 20
    before, peak = rss_kib(ep.daemon.process.pid), 0
    with ep.connect() as sock:
        sock.sendall(ep.head("POST", "/sink?nap=4", f"Content-Length: {size}", "Connection: close"))
        done = threading.Event()

        def send():
            sock.settimeout(60)
            part = b"u" * (1 << 20)
            for _ in range(size >> 20):
                sock.sendall(part)
            done.set()

        thread = threading.Thread(target=send)
        thread.start()
        time.sleep(2.5)
        assert not done.is_set(), "the upload was swallowed"
        peak = rss_kib(ep.daemon.process.pid) - before
        thread.join()
        answer = read_all(sock)
    assert peak < 24 * 1024, peak
    assert answer.endswith(b"%d\n" % size), answer


def test_big_bodies_arrive_whole(ep):
    data = os.urandom(2 << 20)
    status, _, body = ep.get("/echo", f"Content-Length: {len(data)}", method="POST", body=data)
    body, _ = dechunk(body)
    assert status == 200 and hashlib.sha256(body).digest() == hashlib.sha256(data).digest()


def test_a_client_that_goes_frees_the_application(ep):
    def silent():
        return int(ep.sh("cat /proc/net/tcp | awk '$2 ~ /:1F90$/ && $4 == \"01\"' | wc -l"))

    idle = silent()
    sock = ep.connect()
    sock.sendall(ep.head("GET", "/silent"))
    assert b" 200 " in sock.recv(4096)
    assert silent() > idle
    sock.close()
    wait_for("the connection inside is closed", 5, lambda: silent() <= idle)


# ---- WebSocket ----------------------------------------------------------------------------------

def websocket(ep, protocols=None, fields=None, use=None):
    websockets = pytest.importorskip("websockets")

    async def talk():
        context = ssl.create_default_context(cafile=ep.daemon.info["ca"])
        async with websockets.connect(
                f"wss://{ep.host}:{ep.daemon.info['endpoint']['port']}/ws", ssl=context,
                host=ep.daemon.info["endpoint"]["address"], subprotocols=protocols,
                additional_headers=fields, max_size=None, compression=None) as ws:
            return await use(ws)

    return asyncio.run(talk())


def test_websocket_with_the_token_in_the_subprotocol(ep):
    async def use(ws):
        await ws.send("text")
        assert await ws.recv() == "text"
        for n in (0, 1, 125, 126, 300, 65535, 65536, 1_000_000):
            data = os.urandom(n)
            await ws.send(data)
            assert await ws.recv() == data, n
        await (await ws.ping(b"are you there"))
        await ws.send("fields?")
        return ws.subprotocol, (await ws.recv()).lower()

    base = ["lambda-microvms", f"lambda-microvms.authentication.{ep.token}"]
    chosen, seen = websocket(ep, base, use=use)
    assert chosen == "lambda-microvms" and "lambda-microvms" not in seen and "sec-websocket-protocol" not in seen
    chosen, seen = websocket(ep, [*base, "lambda-microvms.port.8080", "chat", "other"], use=use)
    assert chosen == "chat" and "sec-websocket-protocol: chat, other\r\n" in seen
    chosen, seen = websocket(ep, ["chat"], {"X-aws-proxy-auth": ep.token}, use=use)
    assert chosen == "chat" and ep.token.lower() not in seen


def test_websocket_refusals(ep):
    websockets = pytest.importorskip("websockets")
    good = f"lambda-microvms.authentication.{ep.token}"
    for protocols, status in ([good], 403), (["lambda-microvms"], 403), (
            ["lambda-microvms", good[:-1]], 403), (["lambda-microvms", good, "lambda-microvms.port.0"], 400), (
            ["lambda-microvms", good, "lambda-microvms.port.8081"], 403):
        with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
            websocket(ep, protocols, use=lambda ws: None)
        assert refused.value.response.status_code == status, protocols


def test_subprotocols_do_not_count_on_plain_requests(ep):
    answer = ep.raw(f"GET / HTTP/1.1\r\nHost: {ep.host}\r\nConnection: close\r\nSec-WebSocket-Protocol: "
                    f"lambda-microvms, lambda-microvms.authentication.{ep.token}\r\n\r\n".encode())
    assert answer.split()[1] in (b"400", b"403")


# ---- suspended machines -------------------------------------------------------------------------

def test_only_a_good_token_wakes_a_machine(daemon, probe):
    vm = daemon.run(probe, idlePolicy={"maxIdleDurationSeconds": 3600, "suspendedDurationSeconds": 3600,
                                       "autoResumeEnabled": True})
    try:
        ep = Endpoint(daemon, vm)
        lam = daemon.client("lambda-microvms")
        lam.suspend_microvm(microvmIdentifier=vm["microvmId"])
        daemon.wait_state(vm["microvmId"], "SUSPENDED")
        wrong_port = daemon.request(vm["endpoint"], "/head", ep.token, port=22)
        assert wrong_port[0] == 403
        assert daemon.request(vm["endpoint"], "/head", ep.token[:-2] + "AA")[0] == 403
        assert daemon.request(vm["endpoint"], "/head")[0] == 403
        time.sleep(0.5)
        assert lam.get_microvm(microvmIdentifier=vm["microvmId"])["state"] == "SUSPENDED"
        assert daemon.request(vm["endpoint"], "/head", ep.token)[0] == 200
    finally:
        daemon.cli("rm", vm["microvmId"], check=False)


def test_without_auto_resume_and_after_the_end(daemon, probe):
    vm = daemon.run(probe, idlePolicy={"maxIdleDurationSeconds": 3600, "suspendedDurationSeconds": 3600,
                                       "autoResumeEnabled": False})
    ep = Endpoint(daemon, vm)
    lam = daemon.client("lambda-microvms")
    lam.suspend_microvm(microvmIdentifier=vm["microvmId"])
    daemon.wait_state(vm["microvmId"], "SUSPENDED")
    for _ in range(2):
        status, body, fields = daemon.request(vm["endpoint"], "/head", ep.token)
        assert (status, body, fields["x-aws-proxy-error"]) == (502, "", "MICROVM_CONNECT_FAILED")
        lam.terminate_microvm(microvmIdentifier=vm["microvmId"])
        daemon.wait_state(vm["microvmId"], "TERMINATED")
