"""A forge for tests: git over smart HTTP, and pull requests in the shape of GitHub's REST API.

It is strict: what GitHub's documentation demands and a client leaves out is refused. It keeps
state, and prints each request as a line of JSON. Usage: forge.py FOLDER TOKEN, with a bare
repository FOLDER/OWNER/NAME.git; the first line it prints is its port.
"""

import base64
import http.server
import json
import os
import re
import subprocess
import sys
import urllib.parse

ROOT, TOKEN = sys.argv[1], sys.argv[2]
PULLS = []


def git(repository, *words):
    done = subprocess.run(
        ["git", "-c", "safe.directory=*", "-C", repository, *words], capture_output=True, text=True
    )
    return done.stdout.strip() if done.returncode == 0 else None


class Forge(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.route(b"")

    def do_POST(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while True:
                size = int(self.rfile.readline(), 16)
                body += self.rfile.read(size)
                self.rfile.readline()
                if size == 0:
                    break
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.route(body)

    def route(self, body):
        url = urllib.parse.urlsplit(self.path)
        print(json.dumps({"method": self.command, "path": self.path}), flush=True)
        if url.path.startswith("/api/"):
            status, answer = self.api(url, body)
            text = json.dumps(answer).encode()
            self.answer(status, {"Content-Type": "application/json"}, text)
        else:
            self.git(url, body)

    def answer(self, status, headers, body):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def api(self, url, body):
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return 401, {"message": "Bad credentials"}
        if not self.headers.get("User-Agent") or "json" not in self.headers.get("Accept", ""):
            return 403, {"message": "Request forbidden by administrative rules"}
        if self.headers.get("X-GitHub-Api-Version") != "2022-11-28":
            return 400, {"message": "unknown version of the API"}
        found = re.fullmatch(r"/api/repos/([\w.-]+)/([\w.-]+)(/.*)?", url.path)
        repository = found and os.path.join(ROOT, found[1], found[2] + ".git")
        if not repository or not os.path.isdir(repository):
            return 404, {"message": "Not Found"}
        rest, query = found[3] or "", dict(urllib.parse.parse_qsl(url.query))
        head = lambda name: git(repository, "rev-parse", "--verify", "-q", "refs/heads/" + name)
        if self.command == "GET" and rest == "":
            default = git(repository, "symbolic-ref", "--short", "HEAD")
            return 200, {"full_name": f"{found[1]}/{found[2]}", "default_branch": default}
        if self.command == "GET" and rest.startswith("/branches/"):
            name = urllib.parse.unquote(rest[len("/branches/"):])
            sha = head(name)
            return (200, {"name": name, "commit": {"sha": sha}}) if sha else (404, {"message": "Branch not found"})
        if rest == "/pulls" and self.command == "GET":
            match = lambda pull: query.get("state", "open") == "open" and all(
                (f"{found[1]}:{pull['head']['ref']}" if key == "head" else pull[key]["ref"]) == query[key]
                for key in ("head", "base") if key in query
            )
            return 200, [pull for pull in PULLS if match(pull)]
        if rest == "/pulls" and self.command == "POST":
            return self.open(json.loads(body), head, found)
        return 404, {"message": "Not Found"}

    def open(self, asked, head, found):
        wrong = lambda field, text: (422, {
            "message": "Validation Failed",
            "errors": [{"resource": "PullRequest", "field": field, "code": "custom", "message": text}],
        })
        for field in ("title", "head", "base"):
            if not isinstance(asked.get(field), str) or not asked[field]:
                return wrong(field, f"{field} is missing")
        if not head(asked["base"]):
            return wrong("base", "base is invalid")
        if not head(asked["head"]) or head(asked["head"]) == head(asked["base"]):
            return wrong("head", "no commits between base and head")
        if any((p["head"]["ref"], p["base"]["ref"]) == (asked["head"], asked["base"]) for p in PULLS):
            return wrong("head", f"A pull request already exists for {found[1]}:{asked['head']}.")
        if len(asked.get("body", "")) > 65536:
            return wrong("body", "body is too long")
        number = len(PULLS) + 1
        host = self.headers["Host"]
        PULLS.append({
            "number": number,
            "html_url": f"http://{host}/{found[1]}/{found[2]}/pull/{number}",
            "title": asked["title"], "body": asked.get("body"), "draft": asked.get("draft", False),
            "head": {"ref": asked["head"], "sha": head(asked["head"])},
            "base": {"ref": asked["base"]},
        })
        return 201, PULLS[-1]

    def git(self, url, body):
        wanted = base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {wanted}":
            return self.answer(401, {"WWW-Authenticate": 'Basic realm="forge"'}, b"")
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": ROOT, "GIT_HTTP_EXPORT_ALL": "1", "REMOTE_USER": "x-access-token",
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
            "GIT_CONFIG_KEY_1": "http.receivepack", "GIT_CONFIG_VALUE_1": "true",
            "PATH_INFO": url.path, "QUERY_STRING": url.query, "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(["git", "http-backend"], input=body, capture_output=True, env=environment)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        status = int(headers.pop("Status", "200").split()[0])
        self.answer(status, headers, content)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Forge)
print(server.server_port, flush=True)
server.serve_forever()
