"""HTTP/1.1, a websocket and gRPC over TLS, each by another library than ours."""

import base64
import http.client
import os
import socket
import ssl
import sys

import grpc

DEADLINE = 60
HOST, PORT, ROOT = sys.argv[1], int(sys.argv[2]), sys.argv[3]

context = ssl.create_default_context(cafile=ROOT)

connection = http.client.HTTPSConnection(HOST, PORT, context=context, timeout=DEADLINE)
connection.request("GET", "/readyz")
answer = connection.getresponse()
assert answer.status == 200, answer.status


def connect(protocols, version=ssl.TLSVersion.MAXIMUM_SUPPORTED):
    context.set_alpn_protocols(protocols)
    context.maximum_version = version
    plain = socket.create_connection((HOST, PORT), timeout=DEADLINE)
    return context.wrap_socket(plain, server_hostname=HOST)


for protocols, chosen in [(["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1")]:
    with connect(protocols) as stream:
        assert stream.selected_alpn_protocol() == chosen, stream.selected_alpn_protocol()
with connect(["http/1.1"], ssl.TLSVersion.TLSv1_2) as stream:
    assert stream.version() == "TLSv1.2", stream.version()

with connect(["http/1.1"]) as stream:
    key = base64.b64encode(os.urandom(16)).decode()
    stream.sendall(
        f"GET /matchmaker/ws HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    assert stream.recv(4096).startswith(b"HTTP/1.1 101 "), "no websocket"

with socket.create_connection((HOST, PORT), timeout=DEADLINE) as plain:
    plain.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert plain.recv(4096).startswith(b"HTTP/1.1 400 "), "plain HTTP on a port with TLS"

try:
    with socket.create_connection((HOST, PORT), timeout=DEADLINE) as plain:
        ssl.create_default_context().wrap_socket(plain, server_hostname=HOST)
    raise AssertionError("the system does not trust this root")
except ssl.SSLCertVerificationError:
    pass

credentials = grpc.ssl_channel_credentials(open(ROOT, "rb").read())
channel = grpc.secure_channel(f"{HOST}:{PORT}", credentials, options=[("grpc.enable_http_proxy", 0)])
check = channel.unary_unary("/grpc.health.v1.Health/Check")
# HealthCheckResponse { status: SERVING }
assert check(b"", timeout=DEADLINE) == b"\x08\x01"
