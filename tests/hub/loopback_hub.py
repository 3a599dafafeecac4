"""A small hub on loopback: as much of a Hugging Face hub's interface as huggingface_hub calls for us.

Repositories live in memory. Text is uploaded in the commit itself, weights through git-lfs's batch and a PUT, as the
real one asks for. `cut` makes the next download of a file break off, `seen` lists what was asked for.
"""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

TOKEN = "hf_good"
USER = "me"


@dataclass
class Repository:
    """One repository: its commits, oldest first, and what its names stand for."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False

    def commit(self, files: Mapping[str, bytes]) -> str:
        """Add files to the main branch; the new commit's hash."""
        former = self.commits.get(self.refs.get("main", ""), {})
        merged = {**former, **files}
        words = repr((len(self.commits), sorted(merged.items())))
        revision = hashlib.sha1(words.encode()).hexdigest()
        self.commits[revision] = merged
        self.refs["main"] = revision
        return revision


class Hub:
    """The server, and what tests change about it."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.seen: list[str] = []
        self.cut: dict[str, list[int]] = {}
        self.failing: int | None = None
        handler = type("Bound", (_Handler,), {"hub": self})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def add(self, name: str, files: Mapping[str, bytes], private: bool = False, gated: bool = False) -> str:
        """Put files into a repository, which is made where it is absent; the commit's hash."""
        repository = self.repositories.setdefault(name, Repository(private=private, gated=gated))
        return repository.commit(files)

    def files(self, name: str) -> dict[str, bytes]:
        """What the main branch holds."""
        repository = self.repositories[name]
        return repository.commits[repository.refs["main"]]


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None: ...

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        self._route("GET")

    def do_HEAD(self) -> None:
        self._route("HEAD")

    def do_POST(self) -> None:
        self._route("POST")

    def do_PUT(self) -> None:
        self._route("PUT")

    def _route(self, method: str) -> None:
        path = unquote(urlsplit(self.path).path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            self.body = self._read_chunks()
        self.hub.seen.append(f"{method} {path}" + (" part" if self.headers.get("Range") else ""))
        if self.hub.failing:
            return self._refuse(self.hub.failing, "", "the hub is down")
        if self.token not in (None, TOKEN) and not path.startswith("/lfs/"):
            return self._refuse(401, "", "Invalid credentials in Authorization header")
        for pattern, call in ROUTES:
            match = re.fullmatch(pattern, f"{method} {path}")
            if match:
                return call(self, *match.groups())
        return self._refuse(404, "", f"no such address: {path}")

    @property
    def token(self) -> str | None:
        given = self.headers.get("Authorization", "")
        return given.removeprefix("Bearer ") or None

    def _read_chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for key, text in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(key, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._send(status, json.dumps({"error": message}).encode(), {"X-Error-Code": code, "X-Error-Message": message})

    def _find(self, name: str) -> Repository | None:
        """The repository, where this token sees it; None after an answer."""
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and self.token is None):
            self._refuse(404 if self.token else 401, "RepoNotFound", "Repository not found")
            return None
        return repository

    def _find_commit(self, name: str, revision: str) -> tuple[Repository, str, dict[str, bytes]] | None:
        repository = self._find(name)
        if repository is None:
            return None
        commit = repository.refs.get(revision, revision)
        if commit not in repository.commits:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return repository, commit, repository.commits[commit]

    def whoami(self) -> None:
        if self.token is None:
            return self._refuse(401, "", "Invalid username or password.")
        return self._answer({"type": "user", "name": USER, "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def create(self) -> None:
        if self.token is None:
            return self._refuse(401, "", "Invalid username or password.")
        wanted = json.loads(self.body)
        owner = wanted.get("organization") or USER
        name = f"{owner}/{wanted['name']}"
        if owner != USER:
            return self._refuse(403, "", f"You don't have the rights to create a model under the namespace {owner}")
        if name in self.hub.repositories:
            told = {"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"}
            return self._answer(told, 409)
        self.hub.repositories[name] = Repository(private=wanted.get("private") or wanted.get("visibility") == "private")
        self.hub.repositories[name].commit({".gitattributes": b"*.safetensors filter=lfs"})
        return self._answer({"url": f"{self.hub.url}/{name}", "name": name, "id": "1"})

    def tell(self, name: str, revision: str = "main") -> None:
        found = self._find_commit(name, revision)
        if found is None:
            return
        repository, commit, files = found
        told = {"_id": "1", "id": name, "modelId": name, "sha": commit, "private": repository.private}
        self._answer({**told, "gated": repository.gated, "siblings": [{"rfilename": path} for path in files]})

    def list_tree(self, name: str, revision: str) -> None:
        found = self._find_commit(name, revision)
        if found is not None:
            sums = {path: hashlib.sha1(content).hexdigest() for path, content in found[2].items()}
            self._answer(
                [{"type": "file", "path": path, "size": len(found[2][path]), "oid": sums[path]} for path in sums]
            )

    def list_paths(self, name: str, revision: str) -> None:
        """What is known of some paths; a folder is one that files lie in."""
        found = self._find_commit(name, revision)
        if found is None:
            return
        asked = (
            json.loads(self.body) if self.body.startswith(b"{") else {"paths": parse_qs(self.body.decode())["paths"]}
        )
        told = []
        for path in asked["paths"]:
            content = found[2].get(path)
            if content is not None:
                oid = hashlib.sha1(content).hexdigest()
                told.append({"type": "file", "path": path, "size": len(content), "oid": oid})
            elif any(each.startswith(f"{path}/") for each in found[2]):
                told.append({"type": "directory", "path": path, "oid": "0" * 40})
        self._answer(told)

    def resolve(self, name: str, revision: str, path: str) -> None:
        found = self._find_commit(name, revision)
        if found is None:
            return
        repository, commit, files = found
        if repository.gated and self.token is None:
            return self._refuse(401, "GatedRepo", f"Access to model {name} is restricted.")
        if path not in files:
            return self._refuse(404, "EntryNotFound", "Entry not found")
        content = files[path]
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": commit}
        start = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if start:
            first, last = int(start[1]), min(int(start[2] or len(content)), len(content) - 1)
            headers |= {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
            content = content[first : last + 1]
        if self.command == "GET" and self.hub.cut.get(path):
            return self._break_off(content, self.hub.cut[path].pop(0), headers)
        return self._send(206 if start else 200, content, headers)

    def _break_off(self, content: bytes, after: int, headers: Mapping[str, str]) -> None:
        """Promise the whole, give a part, hang up."""
        self._send(206 if "Content-Range" in headers else 200, b"", {**headers, "Content-Length": str(len(content))})
        self.wfile.write(content[:after])
        self.wfile.flush()
        self.close_connection = True

    def validate(self) -> None:
        self._answer({"errors": [], "warnings": []})

    def preupload(self, name: str, revision: str) -> None:
        if self._find_commit(name, revision) is not None:
            paths = [file["path"] for file in json.loads(self.body)["files"]]
            modes = {path: "lfs" if path.endswith(".safetensors") else "regular" for path in paths}
            self._answer(
                {"files": [{"path": path, "uploadMode": modes[path], "shouldIgnore": False} for path in paths]}
            )

    def batch(self, name: str) -> None:
        objects = json.loads(self.body)["objects"]
        for each in objects:
            if each["oid"] not in self.hub.objects:
                each["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{each['oid']}"}}
        self._answer({"transfer": "basic", "objects": objects})

    def store(self, oid: str) -> None:
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.hub.objects[oid] = self.body
        self._send(200, b"", {})

    def commit(self, name: str, revision: str) -> None:
        repository = self._find(name)
        if repository is None:
            return
        files = {}
        for line in self.body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
        made = repository.commit(files)
        self._answer(
            {"success": True, "commitOid": made, "commitUrl": f"{self.hub.url}/{name}/commit/{made}", "hookOutput": ""}
        )


NAME = r"([^/]+/[^/]+?)"
ROUTES = [
    (r"GET /api/whoami-v2", _Handler.whoami),
    (r"POST /api/repos/create", _Handler.create),
    (r"POST /api/validate-yaml", _Handler.validate),
    (rf"GET /api/models/{NAME}/revision/(.+)", _Handler.tell),
    (rf"GET /api/(?:models|datasets)/{NAME}/tree/([^/]+)", _Handler.list_tree),
    (rf"GET /api/datasets/{NAME}/revision/(.+)", _Handler.tell),
    (rf"GET /api/datasets/{NAME}", _Handler.tell),
    (rf"POST /api/datasets/{NAME}/paths-info/([^/]+)", _Handler.list_paths),
    (rf"(?:GET|HEAD) /datasets/{NAME}/resolve/([^/]+)/(.+)", _Handler.resolve),
    (rf"POST /api/models/{NAME}/preupload/([^/]+)", _Handler.preupload),
    (rf"POST /api/models/{NAME}/commit/([^/]+)", _Handler.commit),
    (rf"GET /api/models/{NAME}", _Handler.tell),
    (rf"POST /{NAME}\.git/info/lfs/objects/batch", _Handler.batch),
    (r"PUT /lfs/([0-9a-f]+)", _Handler.store),
    (rf"(?:GET|HEAD) /{NAME}/resolve/([^/]+)/(.+)", _Handler.resolve),
]


@contextlib.contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub that serves until the context ends."""
    hub = Hub()
    thread = threading.Thread(target=hub.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.server.shutdown()
        hub.server.server_close()


@contextlib.contextmanager
def using_hub(monkeypatch: pytest.MonkeyPatch, cache: Any) -> Iterator[Hub]:
    """A running hub that huggingface_hub talks to in this process, with an empty cache and no token."""
    constants = pytest.importorskip("huggingface_hub.constants")
    with running_hub() as hub:
        monkeypatch.delenv("TOK_OFFLINE", raising=False)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "no-token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        yield hub
