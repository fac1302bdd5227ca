"""The internet of one case: names as in its zone, servers, and a line for each thing that arrived.

    dns NAME TYPE              a question
    web ADDRESS METHOD HOST PATH BODY
    hash HOST PATH LEFT SHA256       of a body of /hash, and how much of it did not come
    header HOST PATH NAME: VALUE     of those in which a secret could be
    raw PORT TEXT              what came to a server that speaks first
    udp TEXT                   a datagram to port 443
"""
import hashlib
import http.server
import json
import os
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import threading

FOLDER = sys.argv[1]
with open(os.path.join(FOLDER, "zone")) as file:
    ZONE = json.load(file)
SEEN = open(os.path.join(FOLDER, "seen"), "a", buffering=1)


def see(*words):
    SEEN.write(" ".join(str(word) for word in words) + "\n")


def in_thread(run, *arguments):
    threading.Thread(target=run, args=arguments, daemon=True).start()


def wire(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def records(owner, name, kind):
    for address in ZONE.get(name) or ZONE.get("*." + name.split(".", 1)[-1]) or []:
        if address.startswith("="):
            target = wire(address[1:])
            yield owner + struct.pack(">HHIH", 5, 1, 0, len(target)) + target
            yield from records(target, address[1:], kind)
        elif kind == (28 if ":" in address else 1):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            data = socket.inet_pton(family, address)
            yield owner + struct.pack(">HHIH", kind, 1, 0, len(data)) + data


TURNS = {}


def turn(name, kind):
    """A name with a list of lists has the next of them at each look-up of a type."""
    turns = ZONE.get("turns", {}).get(name)
    if turns:
        at = TURNS[name, kind] = TURNS.get((name, kind), -1) + 1
        ZONE[name] = turns[at % len(turns)]


def names():
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("0.0.0.0", 53))
    while True:
        packet, peer = server.recvfrom(4096)
        at, labels = 12, []
        while packet[at]:
            labels.append(packet[at + 1 : at + 1 + packet[at]].decode("latin1"))
            at += 1 + packet[at]
        name = ".".join(labels).lower()
        (kind,) = struct.unpack(">H", packet[at + 1 : at + 3])
        see("dns", name, kind)
        turn(name, kind)
        answers = list(records(b"\xc0\x0c", name, kind))
        known = name in ZONE or "*." + name.split(".", 1)[-1] in ZONE
        header = struct.pack(">HHHHH", 0x8180 if known else 0x8183, 1, len(answers), 0, 0)
        server.sendto(packet[:2] + header + packet[12 : at + 5] + b"".join(answers), peer)


KEPT = ("authorization", "x-api-key", "x-request-id", "cookie", "user-agent", "referer")


class Web(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        address = self.connection.getsockname()[0].removeprefix("::ffff:")
        if self.headers.get("Upgrade") == "echo":
            see("web", address, self.command, self.headers.get("Host"), self.path)
            return self.echo()
        if self.path.startswith("/hash"):
            return self.hash()
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        see("web", address, self.command, self.headers.get("Host"), self.path, body[:200].decode("latin1"))
        for name, value in self.headers.items():
            if name.lower() in KEPT:
                see("header", self.headers.get("Host"), self.path, f"{name.lower()}: {value}")
        if self.path.startswith("/git/locked") and not self.headers.get("Authorization"):
            return self.short(401, ("WWW-Authenticate", 'Basic realm="git"'))
        if self.path.startswith("/git/"):
            return self.git(body)
        if self.path.startswith("/files/"):
            return self.file()
        if self.path.startswith("/stream"):
            return self.stream(int(self.path[7:]))
        if "?to=" in self.path:
            return self.short(302, ("Location", self.path.split("?to=")[1]))
        if self.path.endswith("/repeat"):
            heard = "".join(f"{name}: {value}\n" for name, value in self.headers.items())
            return self.short(200, ("X-Heard", self.headers.get("Authorization") or ""), heard.encode())
        if self.path.endswith("/-/whoami"):
            return self.short(200, ("Content-Type", "application/json"), b'{"username":"me"}')
        if self.path.startswith("/big"):
            reply = bytes(range(256)) * 4096 * int(self.path[4:])
        elif self.path == "/back":
            reply = body
        else:
            reply = f"WORKED {address} {self.path}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    do_GET = do_POST = do_PUT = do_DELETE = do_TRACE = answer

    def file(self):
        if self.path.startswith("/files/locked/") and not self.headers.get("Authorization"):
            return self.short(401, ("WWW-Authenticate", 'Basic realm="files"'))
        try:
            with open(FOLDER + self.path + ("page" if self.path.endswith("/") else ""), "rb") as file:
                return self.short(200, ("Content-Type", "text/html"), file.read())
        except OSError:
            return self.short(404, ("Content-Type", "text/plain"))

    def stream(self, megabytes):
        """Megabytes, each another one."""
        self.send_response(200)
        self.send_header("Content-Length", str(megabytes << 20))
        self.end_headers()
        block = bytes(range(256)) * 4096
        for number in range(megabytes):
            self.wfile.write(number.to_bytes(8, "big") + block[8:])

    def hash(self):
        """What SHA-256 says of a body that is too long to be kept."""
        left, heard = int(self.headers["Content-Length"]), hashlib.sha256()
        while left and (data := self.rfile.read(min(left, 1 << 20))):
            heard.update(data)
            left -= len(data)
        see("hash", self.headers.get("Host"), self.path, left, heard.hexdigest())
        self.short(200, ("Content-Type", "text/plain"), heard.hexdigest().encode())

    def short(self, status, header, reply=b""):
        self.send_response(status)
        self.send_header(*header)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def echo(self):
        self.send_response(101, "Switching Protocols")
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "echo")
        self.end_headers()
        while data := self.connection.recv(4096):
            see("echo", data.decode("latin1").strip())
            self.connection.sendall(b"echo " + data)
        self.close_connection = True

    def git(self, body):
        path, _, query = self.path.removeprefix("/git").partition("?")
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": os.path.join(FOLDER, "git"),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type") or "",
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding") or "",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol") or "",
            "CONTENT_LENGTH": str(len(body)),
        }
        done = subprocess.run(["git", "http-backend"], input=body, capture_output=True, env=environment)
        head, _, reply = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        self.send_response(int(fields.pop("Status", "200 OK").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True
    request_queue_size = 512

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def handle_error(self, *_):
        pass


def web(port, is_tls):
    server = Server(("::", port), Web)
    if is_tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(os.path.join(FOLDER, "server.pem"))
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    in_thread(server.serve_forever)


def raw(port):
    server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=512)

    def one(stream):
        try:
            stream.sendall(b"HELLO\n")
            while data := stream.recv(65536):
                see("raw", port, data[:200].decode("latin1").strip())
                stream.sendall(b"echo " + data)
        except OSError:
            pass
        stream.close()

    while True:
        in_thread(one, server.accept()[0])


def datagrams():
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("0.0.0.0", 443))
    while True:
        see("udp", server.recvfrom(4096)[0].decode("latin1"))


in_thread(names)
in_thread(datagrams)
web(80, False)
web(8080, False)
web(443, True)
in_thread(raw, 2222)
open(os.path.join(FOLDER, "ready"), "w").close()
threading.Event().wait()
