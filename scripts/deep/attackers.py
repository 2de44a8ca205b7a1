"""Attacks on a gateway on the loopback interface, each with what it must not reach.

Speaks HTTP by sockets, because clients mend what attackers break. Called by attackers.sh with the URL of a server and the file
of its token; prints one line for each attack.
"""

import json
import re
import secrets
import socket
import sys
import time

PATIENCE_S = 10
GUESSES = 2_000
GUESSING_MAX_S = 20

CLIMBING = [
    "/../etc/passwd", "/api/v1/../../etc/passwd", "/api/v1/agents/..%2f..%2fetc%2fpasswd", "/%2e%2e/%2e%2e/etc/passwd",
    "/errors/..%2f..%2fCargo.toml", "/errors/%2e%2e", "/errors/AOS-1000%00.md", "/errors/AOS-1000/../../cli.token",
    "//etc/passwd", "/api/v1/secrets/..%2ftokens", "/.%252e/.%252e/etc/passwd", "/api/v1/agents/%c0%ae%c0%ae%2f",
]
HEADERS = ["Host", "X-Forwarded-Host", "X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Original-URL", "X-Rewrite-URL",
           "X-HTTP-Method-Override", "X-Forwarded-Proto", "True-Client-IP"]


class Attacker:
    def __init__(self, url, token):
        host, port = re.fullmatch(r"http://([^:/]+):(\d+)/?", url).groups()
        self.address, self.token, self.findings = (host, int(port)), token, 0

    def send(self, text, source="127.0.0.1"):
        """Bytes to the server, and all that comes back until it closes."""
        with socket.create_connection(self.address, PATIENCE_S, (source, 0)) as stream:
            try:
                stream.sendall(text if isinstance(text, bytes) else text.encode())
                parts = []
                while part := stream.recv(65_536):
                    parts.append(part)
            except OSError:
                pass
            return b"".join(parts).decode(errors="replace")

    def ask(self, path, method="GET", headers=(), token=None, source="127.0.0.1", body=""):
        lines = [f"{method} {path} HTTP/1.1", "connection: close"]
        if not any(header.lower().startswith("host:") for header in headers):
            lines.append("host: localhost")
        if token:
            lines.append(f"authorization: Bearer {token}")
        if body:
            lines.append(f"content-length: {len(body)}")
        return self.send("\r\n".join([*lines, *headers]) + "\r\n\r\n" + body, source)

    def judge(self, name, reached, detail=""):
        self.findings += bool(reached)
        print(f"{'FOUND' if reached else 'ok'}: {name}{': ' + detail if detail else ''}")

    def guess_tokens(self):
        """Brute force from one address: locked out soon, and the valid token passes from there all the while."""
        begun, answers, passed = time.monotonic(), {}, 0
        for number in range(GUESSES):
            status = status_of(self.ask("/health", token="aos_" + secrets.token_urlsafe(32), source="127.0.0.66"))
            answers[status] = answers.get(status, 0) + 1
            if number % 50 == 0:
                passed += status_of(self.ask("/health", token=self.token, source="127.0.0.66")) == 200
            if time.monotonic() - begun > GUESSING_MAX_S:
                break
        tried = sum(answers.values())
        fine = set(answers) == {401, 429} and answers[401] <= 20 and passed == (tried + 49) // 50
        self.judge("tokens guessed from one address", not fine, f"{tried} guesses, {answers}, the valid token passed {passed} times")
        other = status_of(self.ask("/health", token="aos_guess", source="127.0.0.67"))
        self.judge("a lockout of one address reaches another", other != 401)

    def time_tokens(self):
        """The answer takes as long for a token that begins right as for one that does not."""
        def median(token):
            times = []
            for _ in range(60):
                begun = time.perf_counter()
                self.ask("/health", token=token, source="127.0.0.%d" % (70 + len(times) % 20))
                times.append(time.perf_counter() - begun)
            return sorted(times)[len(times) // 2]
        near, far = median(self.token[:-1] + ("A" if self.token[-1] != "A" else "B")), median("x" * len(self.token))
        # Both are looked up by their hash; what is left is noise, which a busy machine makes large.
        self.judge("tokens told apart by time", abs(near - far) > 0.005, f"medians {near * 1000:.2f} and {far * 1000:.2f} ms")

    def climb(self):
        for path in CLIMBING:
            answer = self.ask(path, token=self.token)
            reached = status_of(answer) not in (400, 404, 405) or "root:" in answer or self.token in answer
            self.judge(f"the path {path}", reached, str(status_of(answer)))

    def inject_headers(self):
        evil = "evil.example"
        for name in HEADERS:
            answer = self.ask("/health", headers=[f"{name}: {evil}"])
            self.judge(f"the header {name} of a stranger", status_of(answer) != 401 or evil in answer)
        for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded"):
            answer = self.ask("/health", headers=[f"{name}: 127.0.0.1"])
            self.judge(f"{name} that claims loopback", status_of(answer) != 401)
        answer = self.ask("/live", headers=["x-request-id: a\r\n\tb"])
        self.judge("a request id over two lines", status_of(answer) != 400)
        answer = self.ask("/live", headers=["x-request-id: req_%0d%0aset-cookie:a=b"])
        self.judge("a header through the request id", "set-cookie" in answer.lower().split("\r\n\r\n")[0])
        answer = self.ask("/api/v1/tasks%0d%0aset-cookie:%20a=b", token=self.token)
        self.judge("a header through the path", "set-cookie" in answer.lower().split("\r\n\r\n")[0])
        answer = self.ask("/live", headers=["host: localhost", "host: evil.example"])
        self.judge("a second host", status_of(answer) != 400)

    def other_peoples_browsers(self):
        """Pages of other origins: nothing is allowed to read, and nothing happens without a token."""
        origin = "https://evil.example"
        for path in ("/live", "/health", "/api/v1/agents"):
            answer = self.ask(path, headers=[f"origin: {origin}"], token=self.token)
            self.judge(f"{path} answered to another origin", "access-control-allow" in answer.lower())
        answer = self.ask("/api/v1/tasks", "OPTIONS", [f"origin: {origin}", "access-control-request-method: POST",
                                                       "access-control-request-headers: authorization"])
        self.judge("a preflight of another origin", "access-control-allow" in answer.lower() or status_of(answer) < 400)
        form = ["content-type: text/plain", f"origin: {origin}", "cookie: token=" + self.token]
        answer = self.ask("/api/v1/tasks", "POST", form, body='{"agent":"echo"}')
        self.judge("a form of another origin with a cookie", status_of(answer) != 401)
        upgrade = ["connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13", f"origin: {origin}",
                   "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="]
        lines = ["GET /api/v1/ws HTTP/1.1", "host: localhost", *upgrade, "cookie: token=" + self.token]
        command = json.dumps({"id": 1, "type": "agent.list"}).encode()
        frame = bytes([0x81, 0x80 | len(command), 0, 0, 0, 0]) + command
        answer = self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + frame)
        self.judge("a WebSocket of another origin with a cookie", '"type":"ok"' in answer, "closed without a result")

    def tokens_elsewhere(self):
        token = self.token
        for path in (f"/health?token={token}", f"/health?access_token={token}", f"/health?authorization=Bearer%20{token}"):
            self.judge(f"a token in the URL, {path.split('=')[0]}", status_of(self.ask(path)) != 401)
        for header in (f"cookie: token={token}", f"x-api-key: {token}", f"authorization: Basic {token}",
                       f"authorization: {token}", f"proxy-authorization: Bearer {token}"):
            self.judge(f"a token in {header.split(token)[0].strip()}", status_of(self.ask("/health", headers=[header])) != 401)

    def methods(self):
        for method in ("TRACE", "TRACK", "PROPFIND", "DEBUG", "PATCH", "get", "GET\t"):
            answer = self.ask("/health", method)
            self.judge(f"the method {method!r}", status_of(answer) not in (400, 405), str(status_of(answer)))
        answer = self.ask("/health", "POST", ["x-http-method-override: GET"])
        self.judge("a method that overrides", status_of(answer) != 405)

    def what_is_told(self):
        answer = self.ask("/live").lower()
        head = answer.split("\r\n\r\n")[0]
        self.judge("the program and its version in the head", "server:" in head or "x-powered-by" in head)
        for wanted in ("x-content-type-options: nosniff", "cache-control: no-store", "content-security-policy: default-src 'none'",
                       "x-frame-options: deny", "referrer-policy: no-referrer"):
            self.judge(f"an answer without {wanted.split(':')[0]}", wanted not in head)
        answer = self.ask("/api/v1/agents/no-such-agent", token=self.token)
        leaks = re.search(r"/home|/tmp|/root|\.rs:\d|sqlite|select ", answer.lower())
        self.judge("paths, queries or source lines in an error", leaks, leaks.group() if leaks else "")


def status_of(answer):
    found = re.match(r"HTTP/1\.[01] (\d{3})", answer)
    return int(found.group(1)) if found else 0


def main():
    with open(sys.argv[2], encoding="ascii") as file:
        attacker = Attacker(sys.argv[1], file.read().strip())
    for attack in (attacker.climb, attacker.inject_headers, attacker.other_peoples_browsers, attacker.tokens_elsewhere,
                   attacker.methods, attacker.what_is_told, attacker.time_tokens, attacker.guess_tokens):
        attack()
    return 1 if attacker.findings else 0


if __name__ == "__main__":
    sys.exit(main())
