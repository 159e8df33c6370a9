"""A proxy that answers CONNECT for some hosts itself: TLS with a certificate made
for the run, and behind it plain bytes to and from the sandbox. Everything else
is refused, so nothing of a test leaves the machine."""

import os
import select
import socket
import ssl
import subprocess
import threading


class Front:
    def __init__(self, proxy, certificate):
        self.proxy = proxy
        self.certificate = certificate


def start(hosts, target, directory):
    os.makedirs(directory, exist_ok=True)
    key, certificate = os.path.join(directory, "key.pem"), os.path.join(directory, "certificate.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={hosts[0]}"]
        + ["-addext", "subjectAltName=" + ",".join(f"DNS:{host}" for host in hosts), "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=accept, args=(listener, hosts, target, context), daemon=True).start()
    return Front(f"http://127.0.0.1:{listener.getsockname()[1]}", certificate)


def accept(listener, hosts, target, context):
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client, hosts, target, context), daemon=True).start()


def serve(client, hosts, target, context):
    with client:
        head = b""
        while b"\r\n\r\n" not in head:
            piece = client.recv(4096)
            if not piece:
                return
            head += piece
        method, wanted = head.split(b" ", 2)[:2]
        if method != b"CONNECT" or wanted.decode() not in [f"{host}:443" for host in hosts]:
            client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        address, port = target.split(":")
        try:
            with context.wrap_socket(client, server_side=True) as inside:
                with socket.create_connection((address, int(port))) as outside:
                    pass_on(inside, outside)
        except OSError:
            pass  # one side went: so does the other


def pass_on(inside, outside):
    while True:
        ready = [inside] if inside.pending() else select.select([inside, outside], [], [])[0]
        for source in ready:
            data = source.recv(65536)
            if not data:
                return
            (outside if source is inside else inside).sendall(data)
