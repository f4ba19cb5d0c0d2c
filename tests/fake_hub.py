"""A hub for tests: the part of the Hugging Face hub's HTTP interface that `huggingface_hub` asks for, in memory.

Files whose names end in .safetensors go by Git LFS, as on the hub, others within the commit. Model cards are checked as
YAML. Whoever writes needs the token "good".
"""

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

MODEL = r"/api/models/(?P<repo>[^/]+/[^/]+)"


class FakeHub(ThreadingHTTPServer):
    """The server; `commits` has (sha, files) of every repository, from the first to the last."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.commits: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.private: dict[str, bool] = {}
        self.large: dict[str, bytes] = {}  # of Git LFS, by SHA-256
        self.messages: list[str] = []

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes] | None:
        """Returns the files of a repository at a revision, None where there is none."""
        commits = self.commits.get(repo, [])
        return commits[-1][1] if revision == "main" and commits else dict(commits).get(revision)

    def commit(self, repo: str, changes: dict[str, bytes]) -> str:
        """Adds a commit and returns its name."""
        files = {**(self.files(repo) or {}), **changes}
        sha = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.commits.setdefault(repo, []).append((sha, files))
        return sha


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, value: Any = None, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _missing(self, code: str, message: str) -> None:
        self._answer({"error": message}, 404, {"X-Error-Code": code, "X-Error-Message": message})

    def _content(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_PUT(self) -> None:
        data = self._content()
        oid = self.path.rsplit("/", 1)[1]
        if hashlib.sha256(data).hexdigest() != oid:
            return self._answer({"error": "another digest"}, 400)
        self.server.large[oid] = data
        return self._answer({})

    def do_POST(self) -> None:
        path, data = unquote(urlsplit(self.path).path), self._content()
        if path == "/api/validate-yaml":
            return self._validate(json.loads(data)["content"])
        if self.headers.get("Authorization") != "Bearer good":
            return self._answer({"error": "Invalid user token."}, 401)
        if path == "/api/repos/create":
            return self._create(json.loads(data))
        found = re.fullmatch(f"{MODEL}/preupload/main", path)
        if found:
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(data)["files"]
            ]
            return self._answer({"files": files})
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**sent, "actions": {"upload": {"href": f"{self.server.url}/lfs/{sent['oid']}"}}}
                for sent in json.loads(data)["objects"]
            ]
            return self._answer({"transfer": "basic", "objects": objects})
        found = re.fullmatch(f"{MODEL}/commit/main", path)
        if found and found["repo"] in self.server.commits:
            return self._commit(found["repo"], [json.loads(line) for line in data.splitlines()])
        return self._missing("RepoNotFound", "Repository not found")

    def _validate(self, text: str) -> None:
        front = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
        try:
            content = yaml.safe_load(front[1]) if front else None
        except yaml.YAMLError as error:
            return self._answer({"errors": [{"message": str(error)}]}, 400)
        return self._answer({"warnings": [] if content else [{"message": "empty metadata"}], "errors": []})

    def _create(self, wanted: dict[str, Any]) -> None:
        repo = f"{wanted['organization']}/{wanted['name']}"
        if wanted["organization"] == "others":
            return self._answer({"error": "You don't have the rights to create a model under others"}, 403)
        url = f"{self.server.url}/{repo}"
        if repo in self.server.commits:
            return self._answer({"error": "You already created this model repo", "url": url}, 409)
        self.server.private[repo] = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        self.server.commit(repo, {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"})
        return self._answer({"url": url})

    def _commit(self, repo: str, lines: list[dict[str, Any]]) -> None:
        changes = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.server.messages.append(value["summary"])
            elif line["key"] == "file":
                changes[value["path"]] = base64.b64decode(value["content"])
            else:
                assert line["key"] == "lfsFile", line
                changes[value["path"]] = self.server.large[value["oid"]]
        sha = self.server.commit(repo, changes)
        return self._answer({"success": True, "commitOid": sha, "commitUrl": f"{self.server.url}/{repo}/commit/{sha}"})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        found = (
            re.fullmatch(f"{MODEL}(/revision/(?P<revision>[^/]+))?", path)
            or re.fullmatch(f"{MODEL}/tree/(?P<revision>[^/]+)", path)
            or re.fullmatch(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)", path)
        )
        if found is None or found["repo"] not in self.server.commits:
            return self._missing("RepoNotFound", "Repository not found")
        repo, revision = found["repo"], found["revision"] or "main"
        files = self.server.files(repo, revision)
        if files is None:
            return self._missing("RevisionNotFound", f"Invalid rev id: {revision}")
        sha = self.server.commits[repo][-1][0] if revision == "main" else revision
        if "/tree/" in path:
            return self._answer([_entry(name, data) for name, data in files.items()])
        if "/resolve/" not in path:
            return self._answer({"id": repo, "sha": sha, "siblings": [{"rfilename": name} for name in files]})
        if found["name"] not in files:
            return self._missing("EntryNotFound", "Entry not found")
        data = files[found["name"]]
        return self._answer(data, headers={"X-Repo-Commit": sha, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'})


def _entry(name: str, data: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
    if name.endswith(".safetensors"):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return entry


@contextlib.contextmanager
def serving() -> Iterator[FakeHub]:
    """Yields a hub that answers until the block ends."""
    hub = FakeHub()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
