"""HTTP that no library would send, by name: the bytes, and the statuses that may come back."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from typing import Final

__all__ = ["HANDSHAKE", "RAW", "RawRequest", "post"]

HOST: Final = b"host: localhost\r\n"
JSON: Final = b"content-type: application/json\r\n"
FORM: Final = b"content-type: multipart/form-data; boundary=x\r\n"
PART: Final = b'--x\r\ncontent-disposition: form-data; name="a"; filename="../../x"\r\n\r\n\r\n'
CHUNKED: Final = b"transfer-encoding: chunked\r\n"
BODY: Final = json.dumps({"prompt": "hi", "max_tokens": 2}).encode()
HANDSHAKE: Final = (
    b"connection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-version: 13\r\n"
)


@dataclass(frozen=True, slots=True)
class RawRequest:
    """What is sent, and how it may be answered."""

    id: str
    sent: bytes
    statuses: frozenset[int]
    closes: bool = False
    """The connection ends with the answer: nobody can say where a next request would begin."""


def get(path: bytes, headers: bytes = b"", *, host: bytes = HOST) -> bytes:
    return b"GET " + path + b" HTTP/1.1\r\n" + host + headers + b"\r\n"


def post(
    headers: bytes = b"",
    body: bytes = BODY,
    *,
    path: bytes = b"/v1/completions",
    kind: bytes = JSON,
    says_length: bool = True,
) -> bytes:
    length = b"content-length: %d\r\n" % len(body) if says_length else b""
    return b"POST " + path + b" HTTP/1.1\r\n" + HOST + kind + headers + length + b"\r\n" + body


def _chunks(body: bytes) -> bytes:
    return post(CHUNKED, body, says_length=False)


def _smuggling() -> dict[str, bytes]:
    """Forms that two servers may read as different numbers of requests."""
    second = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"
    whole = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    return {
        "B31 a length and chunks": post(CHUNKED, b"0\r\n\r\n" + second),
        "B31 two lengths": post(b"content-length: 3\r\n"),
        "B31 one length twice": post(b"content-length: %d\r\n" % len(BODY)),
        "B31 a list of lengths": post(b"content-length: 5, 5\r\n", b"hello", says_length=False),
        "B31 a signed length": post(b"content-length: +5\r\n", b"hello", says_length=False),
        "B31 a negative length": post(b"content-length: -1\r\n", says_length=False),
        "B31 a length in hex": post(b"content-length: 0x5\r\n", b"hello", says_length=False),
        "B31 a length of 20 digits": post(b"content-length: 99999999999999999999\r\n", says_length=False),
        "B31 a length that is no ASCII": post(b"content-length: \xb2\r\n", says_length=False),
        "B31 an unknown coding": post(b"transfer-encoding: xchunked\r\n", whole, says_length=False),
        "B31 chunks inside a coding": post(b"transfer-encoding: chunked, identity\r\n", whole, says_length=False),
        "B31 chunks twice": post(CHUNKED * 2, whole, says_length=False),
        "B31 a chunk of negative size": _chunks(b"-1\r\n\r\n0\r\n\r\n"),
        "B31 a chunk of 72 bits": _chunks(b"f" * 18 + b"\r\n\r\n0\r\n\r\n"),
        "B31 a chunk in C's hex": _chunks(b"0x5\r\nhello\r\n0\r\n\r\n"),
        "B31 a chunk without its end": _chunks(b"5\r\nhelloX0\r\n\r\n"),
        "B31 chunks with bare line feeds": _chunks(b"5\nhello\n0\n\n"),
        "B31 a folded header": get(b"/livez", b"x-a: b\r\n c\r\n"),
        "B31 a folded coding": post(b"transfer-encoding:\r\n chunked\r\n", whole, says_length=False),
        "B31 bare line feeds": b"GET /livez HTTP/1.1\nhost: localhost\n\n",
        "B31 one bare line feed": get(b"/livez", b"x: y\nz: w\r\n"),
        "B31 a bare carriage return": get(b"/livez", b"x: y\rz: w\r\n"),
        "B31 space before the colon": get(b"/livez", b"x : y\r\n"),
        "B33 a zero in a header": get(b"/livez", b"x: y\0\r\n"),
        "B33 a header without a name": get(b"/livez", b": y\r\n"),
        "B31 an unknown method": b"BREW /livez HTTP/1.1\r\n" + HOST + b"\r\n",
        "B31 the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "B31 another version": b"GET /livez HTTP/9.9\r\n" + HOST + b"\r\n",
        "B31 a tunnel": b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + b"\r\n",
        "B31 a path that is no ASCII": get(b"/\xff\xfe"),
        "B39 an absolute path to nowhere": get(b"http://[/livez"),
        "B31 a trailer that is a length": _chunks(whole[:-2] + b"content-length: 4\r\n\r\n"),
    }  # fmt: skip


def _bodies() -> dict[str, bytes]:
    bomb = gzip.compress(b" " * 100_000_000)
    gzipped = b"content-encoding: gzip\r\n"
    deep = b"[" * 250_000
    return {
        "B30 depth 250,000": post(body=deep),
        "B30 depth 250,000, and back": post(body=deep + b"]" * 250_000),
        "B30 depth 101": post(body=b'{"prompt":' + b"[" * 101 + b"]" * 101 + b"}"),
        "B30 10⁶ keys": post(body=b"{" + b",".join(b'"%d":1' % i for i in range(600_000)) + b"}"),
        "B30 4·10⁶ numbers": post(body=b'{"prompt":[' + b"1," * 4_000_000 + b"1]}"),
        "B30 10⁶ lists": post(body=b"[" + b"[[]]," * 1_000_000 + b"1]"),
        "B30 5,000 digits": post(body=b'{"seed":' + b"9" * 5000 + b"}"),
        "B30 one byte too many": post(body=b" " * ((8 << 20) + 1)),
        "B30 nothing but space": post(body=b" " * (8 << 20)),
        "B30 two documents": post(body=BODY * 2),
        "B30 a zero after the document": post(body=BODY + b"\0"),
        "B30 cut short": post(body=BODY[:-1]),
        "B30 nothing": post(body=b""),
        "B30 a mark of UTF-8": post(body=b"\xef\xbb\xbf" + BODY),
        "B30 UTF-16": post(body=BODY.decode().encode("utf-16")),
        "B30 UTF-32": post(body=BODY.decode().encode("utf-32")),
        "B32 a bomb": post(gzipped, bomb),
        "B32 a bomb in a bomb": post(gzipped, gzip.compress(gzip.compress(bomb))),
        "B32 a bomb, three times": post(b"content-encoding: gzip, gzip, gzip\r\n", gzip.compress(gzip.compress(bomb))),
        "B32 something after the end": post(gzipped, gzip.compress(BODY) + b"x"),
        "B32 two members": post(gzipped, gzip.compress(BODY) * 2),
        "B32 no gzip": post(gzipped),
        "B32 brotli": post(b"content-encoding: br\r\n"),
        "B32 zstd": post(b"content-encoding: zstd\r\n"),
        "B32 deflate": post(b"content-encoding: deflate\r\n"),
        "B34 a form": post(kind=FORM, body=PART * 5000),
        "B34 a form without an end": post(kind=FORM, body=PART + b"a" * 100_000),
        "B39 plain text": post(kind=b"content-type: text/plain\r\n"),
        "B39 two types": post(JSON),
        "B39 no type": post(kind=b""),
        "B31 20,000 chunks": _chunks(b"1\r\n \r\n" * 20_000 + b"0\r\n\r\n"),
        "B33 200 headers": post(b"".join(b"x-%d: y\r\n" % i for i in range(200))),
        "B33 10,000 headers": post(b"x: y\r\n" * 10_000),
        "B33 a header of 1 MB": post(b"x: " + b"y" * 1_000_000 + b"\r\n"),
        "B33 a path of 1 MB": get(b"/" + b"y" * 1_000_000),
        "B33 a query of 1 MB": get(b"/livez?" + b"y" * 1_000_000),
        "B33 200 trailers": _chunks(b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY) + b"x: y\r\n" * 200 + b"\r\n"),
        "B33 a caller that is no ASCII": post(b"lepton-caller: \xff\xfe\r\n"),
        "B33 a caller of 9 KB": post(b"lepton-caller: " + b"x" * 9000 + b"\r\n"),
        "B10 a place that is none": post(b"last-event-id: 1/\xff/x\r\n"),
        "B39 another name": get(b"/livez", host=b"host: rebound.example\r\n"),
        "B39 two names": get(b"/livez", host=HOST * 2),
        "B39 no name": get(b"/livez", host=b""),
        "B39 a name with credentials": get(b"/livez", host=b"host: a@localhost\r\n"),
        "B39 an origin that is no address": get(b"/livez", b"origin: http://[\r\n"),
        "B39 two origins": get(b"/livez", b"origin: http://localhost\r\norigin: http://localhost\r\n"),
        "B39 a socket for an origin that is no address": get(b"/v1/ws", HANDSHAKE + b"origin: http://[\r\n"),
        "B39 a socket for another page": get(b"/v1/ws", HANDSHAKE + b"origin: http://evil.example\r\n"),
        "B50 a socket by POST": b"POST /v1/ws HTTP/1.1\r\n" + HOST + HANDSHAKE + b"content-length: 3\r\n\r\nabc",
        "B50 a socket without a key": get(b"/v1/ws", b"connection: upgrade\r\nupgrade: websocket\r\n"),
        "B50 a socket with a header of 9 KB": get(b"/v1/ws", HANDSHAKE + b"x: " + b"y" * 9000 + b"\r\n"),
        "B50 a socket at another path": get(b"/nowhere", HANDSHAKE),
        "B12 a model that is a path": get(b"/v1/models/..%2f..%2fetc%2fpasswd"),
        "B12 a model of zeros and escapes": get(b"/v1/models/%ff%00%0d%0a%ed%a0%80"),
        "B12 an asset that is a path": get(b"/assets/..%2f..%2fapp.py"),
        "B12 a path out of the tree": get(b"/../../etc/passwd"),
        "B12 a trace that is a path": get(b"/api/traces/..%2f..%2fetc%2fpasswd"),
    }  # fmt: skip


_GOOD: Final = {
    "B31 an absolute path": get(b"http://evil.example/livez"),
    "B31 an offer of HTTP/2": post(
        b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"
    ),
    "B31 100 KB beside a chunk": _chunks(
        b"%x;a=%b\r\n%b\r\n0\r\n\r\n" % (len(BODY), b"c" * 100_000, BODY)
    ),
    "B31 trailers": _chunks(b"%x\r\n%b\r\n0\r\nlepton-caller: \xff\r\n\r\n" % (len(BODY), BODY)),
    "B33 names with underscores": post(b"content_length: 3\r\nhost_: x\r\n"),
    "B33 who it was forwarded for": post(b"x-forwarded-for: 1.2.3.4\r\nx-forwarded-host: evil\r\n"),
    "B33 two authorizations": post(b"authorization: Bearer a\r\nauthorization: Bearer b\r\n"),
    "B33 a state of 8 KB": post(
        b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\ntracestate: "
        + b",".join(b"k%d=" % i + b"v" * 250 for i in range(32))
        + b"\r\n"
    ),
    "B33 a parent that is none": post(b"traceparent: 00-" + b"0" * 32 + b"-x-01\r\n"),
    "B35 5,000 ranges": get(b"/docs", b"range: bytes=" + b",".join([b"0-"] * 5000) + b"\r\n"),
    "B35 ranges of the page": get(b"/", b"range: bytes=0-0,-1\r\n"),
    "B37 a browser with escapes": get(
        b"/v1/models", b"user-agent: \x80\x9b2Ja%0d%0a" + b"x" * 9000 + b"\r\n"
    ),
}

_REFUSED: Final = frozenset({400, 403, 404, 408, 413, 415, 431})

RAW: Final = (
    *(RawRequest(name, sent, frozenset({400}), closes=True) for name, sent in _smuggling().items()),
    *(RawRequest(name, sent, _REFUSED) for name, sent in _bodies().items()),
    *(RawRequest(name, sent, frozenset({200})) for name, sent in _GOOD.items()),
)
