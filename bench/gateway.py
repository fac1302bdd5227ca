"""Servers, plain relay and clients of bench/gateway."""
import os
import socket
import ssl
import statistics
import subprocess
import sys
import threading
import time

FAR = ("203.0.113.2", 9000)
RELAY = ("127.0.0.1", 9001)
# The same by requests over TLS, which the gateway passes untouched or ends.
FAR_TLS = ("203.0.113.2", 9443)
RELAY_TLS = ("127.0.0.1", 9444)
FOLDER = os.environ.get("BENCH_FOLDER", "")
MEGABYTES = int(os.environ.get("BENCH_MEGABYTES", "512"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
CONNECTIONS = 300


def in_thread(run, *arguments):
    threading.Thread(target=run, args=arguments, daemon=True).start()


def listening(address, one):
    listener = socket.create_server(address, backlog=512)
    while True:
        stream = listener.accept()[0]
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        in_thread(one, stream)


def serve(stream):
    block = bytes(1 << 20)
    try:
        if stream.recv(1) == b"m":
            for _ in range(MEGABYTES):
                stream.sendall(block)
        else:
            stream.sendall(b"x")
    except OSError:
        pass
    stream.close()


def serve_tls(stream):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(FOLDER, "server.pem"))
    try:
        with context.wrap_socket(stream, server_side=True) as secure:
            megabytes = MEGABYTES if b"/much" in secure.recv(4096) else 0
            length = megabytes << 20 or 1
            secure.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % length)
            block = bytes(1 << 20)
            for _ in range(megabytes):
                secure.sendall(block)
            if not megabytes:
                secure.sendall(b"x")
    except OSError:
        pass


def pipe(source, target):
    buffer = bytearray(64 * 1024)
    try:
        while count := source.recv_into(buffer):
            target.sendall(memoryview(buffer)[:count])
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def relay(stream):
    relay_to(FAR, stream)


def relay_tls(stream):
    relay_to(FAR_TLS, stream)


def relay_to(address, stream):
    far = socket.create_connection(address)
    far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    in_thread(pipe, far, stream)
    pipe(stream, far)


def await_server(address):
    for _ in range(100):
        try:
            socket.create_connection(address).close()
            break
        except OSError:
            time.sleep(0.05)


def client_tls(address):
    """The same by one request each, with the handshake."""
    await_server(address)
    context = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE"))
    buffer = bytearray(1 << 20)

    def ask(path):
        began, received, head = time.perf_counter(), 0, b""
        secure = context.wrap_socket(socket.create_connection(address), server_hostname=FAR_TLS[0])
        secure.sendall(b"GET %s HTTP/1.1\r\nHost: %s:%d\r\n\r\n" % (path, FAR_TLS[0].encode(), FAR_TLS[1]))
        while not head.endswith(b"\r\n\r\n"):
            head += secure.recv(1)
        assert head.startswith(b"HTTP/1.1 200"), head
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r")[0])
        while received < length:
            count = secure.recv_into(buffer)
            assert count, "cut"
            received += count
        secure.close()
        return time.perf_counter() - began

    rate = (MEGABYTES << 20) / ask(b"/much") / 1e6
    print(rate, statistics.median([ask(b"/one") for _ in range(CONNECTIONS)]) * 1000)


def client(address):
    """Megabytes a second, and the median of a connection with one byte each way, in ms."""
    await_server(address)
    stream = socket.create_connection(address)
    stream.sendall(b"m")
    buffer = bytearray(1 << 20)
    began, received = time.perf_counter(), 0
    while count := stream.recv_into(buffer):
        received += count
    rate = received / (time.perf_counter() - began) / 1e6
    times = []
    for _ in range(CONNECTIONS):
        began = time.perf_counter()
        stream = socket.create_connection(address)
        stream.sendall(b"1")
        assert stream.recv(1) == b"x"
        times.append((time.perf_counter() - began) * 1000)
        stream.close()
    assert received == MEGABYTES << 20, received
    print(rate, statistics.median(times))


def compare(binary):
    itself = [sys.executable, os.path.realpath(__file__)]
    plain, secure = itself + ["client"], itself + ["client-tls"]
    far, far_tls = [FAR[0], str(FAR[1])], [FAR_TLS[0], str(FAR_TLS[1])]
    run = [binary, "run", "-q"]
    hosts = ["--allow-host", ":".join(far), "--allow-host", ":".join(far_tls)]
    judged = ["-c", f'network.rules=[{{host="{FAR_TLS[0]}",methods=["GET"]}}]']
    of_bytes = {
        "direct": plain + far,
        "plain relay": plain + [RELAY[0], str(RELAY[1])],
        "gateway": run + hosts + ["--"] + plain + far,
    }
    of_requests = {
        "direct": secure + far_tls,
        "plain relay": secure + [RELAY_TLS[0], str(RELAY_TLS[1])],
        "gateway": run + hosts + ["--env", "SSL_CERT_FILE", "--"] + secure + far_tls,
        "TLS ends there": run + hosts + judged + ["--"] + secure + far_tls,
    }
    table("bytes", of_bytes)
    table("requests over TLS, each with its handshake", of_requests)


def table(title, ways):
    found = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, command in ways.items():
            output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            found[name].append([float(word) for word in output.split()])
    medians = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in found.items()}
    print(f"{title}\n{'way':<15} {'MB/s':>8} {'to relay':>9} {'ms a connection':>16} {'more than direct':>17}")
    for name, (rate, delay) in medians.items():
        share, more = rate / medians["plain relay"][0], delay - medians["direct"][1]
        print(f"{name:<15} {rate:>8.0f} {share:>9.2f} {delay:>16.3f} {more:>17.3f}")


match sys.argv[1:]:
    case ["serve"]:
        in_thread(listening, FAR_TLS, serve_tls)
        listening(FAR, serve)
    case ["relay"]:
        in_thread(listening, RELAY_TLS, relay_tls)
        listening(RELAY, relay)
    case ["client", host, port]:
        client((host, int(port)))
    case ["client-tls", host, port]:
        client_tls((host, int(port)))
    case ["compare", binary]:
        compare(binary)
