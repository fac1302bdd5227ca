"""Server, plain relay and clients of bench/gateway."""
import os
import socket
import statistics
import subprocess
import sys
import threading
import time

FAR = ("203.0.113.2", 9000)
RELAY = ("127.0.0.1", 9001)
MEGABYTES = 512
ROUNDS = 5
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


def pipe(source, target):
    buffer = bytearray(64 * 1024)
    try:
        while count := source.recv_into(buffer):
            target.sendall(memoryview(buffer)[:count])
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def relay(stream):
    far = socket.create_connection(FAR)
    far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    in_thread(pipe, far, stream)
    pipe(stream, far)


def client(address):
    """Megabytes a second, and the median of a connection with one byte each way, in ms."""
    address = tuple(address)
    for _ in range(100):
        try:
            socket.create_connection(address).close()
            break
        except OSError:
            time.sleep(0.05)
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
    itself = [sys.executable, os.path.realpath(__file__), "client"]
    inside = [binary, "run", "-q", "--allow-host", f"{FAR[0]}:{FAR[1]}", "--"]
    ways = {
        "direct": itself + [FAR[0], str(FAR[1])],
        "plain relay": itself + [RELAY[0], str(RELAY[1])],
        "gateway": inside + itself + [FAR[0], str(FAR[1])],
    }
    found = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, command in ways.items():
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found[name].append([float(word) for word in output.split()])
    medians = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in found.items()}
    print(f"{'way':<12} {'MB/s':>8} {'to relay':>9} {'ms a connection':>16} {'more than direct':>17}")
    for name, (rate, delay) in medians.items():
        share, more = rate / medians["plain relay"][0], delay - medians["direct"][1]
        print(f"{name:<12} {rate:>8.0f} {share:>9.2f} {delay:>16.3f} {more:>17.3f}")


match sys.argv[1:]:
    case ["serve"]:
        listening(FAR, serve)
    case ["relay"]:
        listening(RELAY, relay)
    case ["client", host, port]:
        client((host, int(port)))
    case ["compare", binary]:
        compare(binary)
