"""A client of its own process: asks a port over and over until SIGTERM, then prints what it saw.

  client.py PORT

Prints one JSON array: for each request when it began (seconds of the monotonic clock), how long it took (ms), and 1 if
the whole answer was HTTP 200 or 0.
"""

import json
import signal
import socket
import sys
import time

seen, go_on = [], True


def stop(*_):
    global go_on
    go_on = False


def ask(port):
    begin, ok = time.perf_counter(), 0
    try:
        with socket.create_connection(("127.0.0.1", port), 10) as s:
            s.sendall(b"GET / HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n")
            said = b""
            while data := s.recv(65536):
                said += data
            head, _, body = said.partition(b"\r\n\r\n")
            length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            whole = not length or len(body) == int(length[0].split(b":")[1])
            ok = int(said.startswith(b"HTTP/1.1 200") and whole)
    except OSError:
        pass
    seen.append((begin, 1000 * (time.perf_counter() - begin), ok))
    return ok


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    while go_on:
        if not ask(int(sys.argv[1])):
            time.sleep(0.002)
    json.dump(seen, sys.stdout)
