"""deploy/nginx.conf in a real nginx, with TLS, in front of a real receiver."""

from __future__ import annotations

import http.client
import re
import shutil
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest
import trustme
from messages import body, report
from servers import Child, eventually, free_port

from receiver.settings import read_settings

CONFIG = Path(__file__).parents[2] / "deploy" / "nginx.conf"
KEY = "key-in-the-url-0123"
TOML = f"""
[projects.shop]
default = true
callback_keys = ["{KEY}"]
allowed_networks = ["127.0.0.2"]
"""


class Nginx(Child):
    """Our configuration, but for its paths and ports."""

    def __init__(self, folder, *upstreams, internal=1):
        """Start it with a certificate of its own, in front of the receivers on these ports."""
        binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        if binary is None:
            pytest.skip("nginx is not installed (Debian's package nginx-light): its configuration is not tried")
        self.folder, self.port, self.plain_port = folder, free_port(), free_port()
        self.authority, self.context = trustme.CA(), ssl.create_default_context()
        self.authority.configure_trust(self.context)
        certificate = self.authority.issue_cert("sms.example.com")
        certificate.cert_chain_pems[0].write_to_path(folder / "fullchain.pem")
        certificate.private_key_pem.write_to_path(folder / "privkey.pem")
        own = CONFIG.read_text(encoding="utf-8")
        for ours, theirs in (
            (r"/etc/letsencrypt/live/sms.example.com", str(folder)),
            (r"/var/log/nginx", str(folder)),
            (r"(?m)^ +listen \[::\].*\n", ""),
            (r"listen 443", f"listen 127.0.0.1:{self.port}"),
            (r"listen 80 default_server", f"listen 127.0.0.1:{self.plain_port}"),
            (
                r"server 127.0.0.1:8080 max_fails=0;",
                "".join(f"server 127.0.0.1:{port} max_fails=0;" for port in upstreams),
            ),
            (r"server 127.0.0.1:8081;", f"server 127.0.0.1:{internal};"),
        ):
            own, found = re.subn(ours, theirs, own)
            assert found, ours
        temporary = "".join(
            f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        logs = f"error_log stderr;\nevents {{}}\nhttp {{\naccess_log {folder}/inherited.log;\n"
        main = f"daemon off;\npid {folder}/nginx.pid;\n{logs}{temporary}{own}\n}}\n"
        (folder / "nginx.conf").write_text(main, encoding="utf-8")
        command = [binary, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "user root;"]
        done = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        super().__init__(command, folder / "output.log")
        eventually(lambda: self.status("GET", "/") == 404, "nginx answers")

    def status(self, method, target, data=None, source="127.0.0.2", **headers):
        """Ask over TLS from a loopback address, and return the status, 0 when nobody answers."""
        connection = http.client.HTTPConnection("sms.example.com", self.port)
        try:
            plain = socket.create_connection(("127.0.0.1", self.port), 10, (source, 0))
            connection.sock = self.context.wrap_socket(plain, server_hostname="sms.example.com")
            connection.request(method, target, data, headers)
            return connection.getresponse().status
        except ConnectionError:
            return 0
        finally:
            connection.close()

    def logged(self):
        """Return everything that it has written to logs."""
        return "".join(path.read_text() for path in self.folder.glob("*.log"))


@pytest.fixture
def behind(serve, tmp_path):
    """Return a receiver and the nginx in front of it."""
    config = tmp_path / "receiver.toml"
    config.write_text(TOML)
    internal = free_port()
    environ = {"RECEIVER_TRUSTED_PROXIES": "127.0.0.1", "RECEIVER_INTERNAL_PORT": str(internal)}
    receiver = serve(RECEIVER_CONFIG=str(config), **environ)
    folder = tmp_path / "nginx"
    folder.mkdir()
    nginx = Nginx(folder, receiver.port, internal=internal)
    yield receiver, nginx
    nginx.stop()


def test_nginx_passes_callbacks_and_their_address_on_and_no_log_holds_a_key(behind):
    """Neither the access log nor, with the receiver gone, the error log. Of the rest, strangers see nothing."""
    receiver, nginx = behind
    target = f"/sms/callback?key={KEY}&mobile=13800138000"
    assert nginx.status("POST", target, body([report()])) == 200
    assert nginx.status("POST", f"/callbacks/tencent/shop?key={KEY}", body([report()])) == 200
    assert nginx.status("POST", target, body([report()]), source="127.0.0.3") == 403
    forged = {"X-Forwarded-For": "127.0.0.2"}
    assert nginx.status("POST", target, body([report()]), source="127.0.0.3", **forged) == 403
    assert nginx.status("GET", "/metrics") == nginx.status("GET", "/readyz") == nginx.status("GET", "/docs") == 404
    assert nginx.status("GET", "/v2/shop/notifications/sms/callback") == 401
    assert nginx.status("POST", target, **{"Content-Length": str(4 * 2**20 + 1)}) == 413
    assert receiver.stop() == 0
    assert nginx.status("POST", target, body([report()])) == 502
    plain = http.client.HTTPConnection("127.0.0.1", nginx.plain_port)
    # The last three are refused before nginx looks for a location.
    for method, headers, status in (
        ("POST", {"Content-Length": "1000"}, 403),
        ("POST", {"Content-Length": str(2 * 2**20)}, 413),
        ("TRACE", {}, 405),
        ("POST", {"Transfer-Encoding": "unknown"}, 501),
        ("POST", {"Host": ""}, 400),
    ):
        plain.request(method, target, headers=headers)
        assert plain.getresponse().status == status
        plain.close()
    logged = nginx.logged()
    assert '"POST /sms/callback" 200' in logged
    assert '"POST /sms/callback" 502' in logged
    assert KEY not in logged
    assert "13800138000" not in logged


@pytest.mark.timeout(120)
def test_receivers_behind_nginx_are_restarted_one_by_one_without_a_gap(serve, tmp_path):
    """What one no longer takes, the other gets: every callback is acknowledged."""
    config = tmp_path / "receiver.toml"
    config.write_text(TOML)
    environ = {"RECEIVER_CONFIG": str(config), "RECEIVER_TRUSTED_PROXIES": "127.0.0.1"}
    receivers = [serve(**environ), serve(**environ)]
    folder = tmp_path / "nginx"
    folder.mkdir()
    nginx = Nginx(folder, *(receiver.port for receiver in receivers))
    statuses, over = [], threading.Event()

    def send():
        while not over.is_set():
            statuses.append(nginx.status("POST", f"/sms/callback?key={KEY}", body([report()])))

    def more():
        before = len(statuses)
        eventually(lambda: len(statuses) > before + 10, "callbacks are sent", 20)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        more()
        assert receivers[0].stop() == 0
        more()
        serve(**environ, PORT=str(receivers[0].port))
        assert receivers[1].stop() == 0
        more()
    finally:
        over.set()
        sender.join()
        nginx.stop()
    assert set(statuses) == {200}


def test_nginx_has_the_bounds_of_the_receiver():
    """A smaller size would lose callbacks; proxying has to last as long as the longest way of a callback."""
    config, settings = CONFIG.read_text(encoding="utf-8"), read_settings({})
    assert f"client_max_body_size {settings.max_body // 2**20}m;" in config
    assert f"client_body_timeout {settings.read_timeout:g}s;" in config
