"""A small server that speaks as much of the Hub's protocol as its client needs to fetch files and to upload folders.

Files are served under `/{repo}/resolve/{revision}/{path}`; large ones (`.safetensors`) by a redirect to another host
name, as the Hub does with its storage. The server keeps every request and can be told to misbehave.
"""

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN = "hf_reader"
_MISSING = {"repo": "RepoNotFound", "revision": "RevisionNotFound", "entry": "EntryNotFound"}


@dataclass
class Repo:
    """Commits (files by path) by hash, and branches."""

    commits: dict = field(default_factory=dict)
    refs: dict = field(default_factory=dict)
    private: bool = False

    def commit(self, files, branch="main"):
        files = {**self.commits.get(self.refs.get(branch), {}), **files}
        oid = hashlib.sha1(repr((len(self.commits), sorted(files.items()))).encode()).hexdigest()
        self.commits[oid] = files
        self.refs[branch] = oid
        return oid


@dataclass
class Request:
    method: str
    path: str
    headers: dict


class HubServer:
    """The server and its state; use it as a context manager."""

    def __init__(self):
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}  # large files by SHA-256
        self.requests: list[Request] = []
        self.cut = Counter()  # by file name: so many bodies are cut half way
        self.silent = Counter()  # by file name: so many connections, after the cut ones, are closed without an answer
        self.garbled: set[str] = set()  # file names whose bytes are served wrong
        self.status: dict[str, int] = {}  # by file name: a status to answer instead
        self.refused = Counter()  # by repository: so many commits are refused, once their files have come
        self.after: dict[str, object] = {}  # by file name: called once the file was served
        self.gate: threading.Barrier | None = None  # requests for large files wait here for each other

    def __enter__(self):
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.http.daemon_threads = True
        self.port = self.http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.storage = f"http://localhost:{self.port}/storage"
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    def push(self, repo_id, files, *, private=False, branch="main"):
        """Commit files (bytes by path) and return the commit's hash."""
        repo = self.repos.setdefault(repo_id, Repo())
        repo.private = private
        return repo.commit(files, branch)

    def asked(self, text="", method=None):
        """Return the requests whose path holds a text."""
        return [r for r in self.requests if text in r.path and method in (None, r.method)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer()

    do_GET = do_POST = do_PUT = do_HEAD

    def _answer(self):
        self.hub.requests.append(Request(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        body = self._body()
        url = urlsplit(self.path)
        path, query = unquote(url.path), parse_qs(url.query)
        for pattern, method in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    getattr(self, method)(*match.groups(), body=body, query=query)
                return
        self._json(404, {"error": "no such route"})

    def _body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, status, value, **headers):
        self._send(status, json.dumps(value).encode(), Content_Type="application/json", **headers)

    def _missing(self, what, **headers):
        self._json(404, {"error": f"{what} not found"}, X_Error_Code=_MISSING[what], **headers)

    def _authorised(self, needed):
        given = self.headers.get("Authorization")
        if given not in (None, f"Bearer {TOKEN}"):
            message = "Invalid credentials in Authorization header"
            self._json(401, {"error": message}, X_Error_Message=message)
            return False
        if given is None and needed:
            self._json(401, {"error": "Invalid username or password."}, X_Error_Code="RepoNotFound")
            return False
        return True

    # files

    def resolve(self, repo_id, revision, path, *, body, query):
        repo = self.hub.repos.get(repo_id)
        if not self._authorised(needed=repo is not None and repo.private):
            return
        if repo is None:
            return self._missing("repo")
        oid = repo.refs.get(revision, revision)
        if oid not in repo.commits:
            return self._missing("revision")
        if path in self.hub.status:
            return self._json(self.hub.status[path], {"error": "told so"})
        content = repo.commits[oid].get(path)
        if content is None:
            return self._missing("entry", X_Repo_Commit=oid)
        if not path.endswith(".safetensors"):
            etag = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            return self._content(path, content, X_Repo_Commit=oid, ETag=f'"{etag}"')
        if self.hub.gate is not None:
            self.hub.gate.wait(timeout=30)
        sha256 = hashlib.sha256(content).hexdigest()
        self.hub.blobs[sha256] = content
        linked = {"X_Linked_Etag": f'"{sha256}"', "X_Linked_Size": str(len(content))}
        return self._send(302, Location=f"{self.hub.storage}/{sha256}/{path}", X_Repo_Commit=oid, **linked)

    def storage(self, sha256, path, *, body, query):
        self._content(path, self.hub.blobs[sha256], ETag=f'"{sha256}"')

    def _content(self, path, content, **headers):
        if self.command == "GET" and self.hub.silent[path] > 0 and not self.hub.cut[path]:
            self.hub.silent[path] -= 1
            self.close_connection = True
            return
        if path in self.hub.garbled:
            content = bytes(byte ^ 1 for byte in content)
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        status, piece = 200, content
        if start:
            status, piece = 206, content[int(start[1]) :]
            headers["Content_Range"] = f"bytes {start[1]}-{len(content) - 1}/{len(content)}"
        self.send_response(status)
        for name, value in {**headers, "Accept_Ranges": "bytes", "Content_Length": str(len(piece))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.hub.cut[path] > 0:
            self.hub.cut[path] -= 1
            self.wfile.write(piece[: len(piece) // 2])
            self.close_connection = True
            return
        self.wfile.write(piece)
        if path in self.hub.after:
            self.hub.after.pop(path)()

    # uploads

    def create_repo(self, *, body, query):
        if not self._authorised(needed=True):
            return
        asked = json.loads(body)
        repo_id = f"{asked['organization']}/{asked['name']}"
        private = asked.get("private") or asked.get("visibility") == "private"
        if repo_id in self.hub.repos:
            return self._json(409, {"error": "You already created this model repo", "url": f"{self.hub.url}/{repo_id}"})
        self.hub.push(repo_id, {".gitattributes": b"*.safetensors filter=lfs\n"}, private=private)
        return self._json(200, {"url": f"{self.hub.url}/{repo_id}", "name": repo_id, "id": "0"})

    def create_branch(self, repo_id, branch, *, body, query):
        if self._authorised(needed=True):
            repo = self.hub.repos[repo_id]
            repo.refs.setdefault(branch, repo.refs["main"])
            self._send(200)

    def validate_yaml(self, *, body, query):
        front = re.match(r"---\n(.*?)\n---\n", json.loads(body)["content"], re.DOTALL)
        try:
            assert isinstance(yaml.safe_load(front[1]), dict)
        except Exception as error:
            return self._json(400, {"errors": [{"message": repr(error)}], "warnings": []})
        return self._json(200, {"errors": [], "warnings": []})

    def preupload(self, repo_id, revision, *, body, query):
        if repo_id not in self.hub.repos:
            return self._missing("repo")
        if not self._authorised(needed=True):
            return
        modes = {True: "lfs", False: "regular"}
        files = [file["path"] for file in json.loads(body)["files"]]
        self._json(
            200,
            {
                "files": [
                    {"path": path, "uploadMode": modes[path.endswith(".safetensors")], "shouldIgnore": False}
                    for path in files
                ]
            },
        )

    def lfs_batch(self, repo_id, *, body, query):
        def action(entry):
            known = entry["oid"] in self.hub.blobs
            upload = {"upload": {"href": f"{self.hub.url}/lfs/{entry['oid']}"}}
            return {"oid": entry["oid"], "size": entry["size"], **({} if known else {"actions": upload})}

        self._json(200, {"transfer": "basic", "objects": [action(entry) for entry in json.loads(body)["objects"]]})

    def lfs_upload(self, oid, *, body, query):
        if hashlib.sha256(body).hexdigest() != oid:
            return self._json(400, {"error": "other bytes than announced"})
        self.hub.blobs[oid] = body
        return self._send(200)

    def commit(self, repo_id, revision, *, body, query):
        if not self._authorised(needed=True):
            return
        if self.hub.refused[repo_id] > 0:
            self.hub.refused[repo_id] -= 1
            return self._json(403, {"error": "told so"})
        repo, files = self.hub.repos[repo_id], {}
        if revision not in repo.refs:
            return self._missing("revision")
        for line in body.splitlines():
            key, value = (entry := json.loads(line))["key"], entry["value"]
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
        branch = "refs/pr/1" if query.get("create_pr") else revision
        if branch not in repo.refs:
            repo.refs[branch] = repo.refs[revision]
        oid = repo.commit(files, branch)
        page = f"{self.hub.url}/{repo_id}"
        pull_request = f"{page}/discussions/1" if query.get("create_pr") else None
        self._json(200, {"commitUrl": f"{page}/commit/{oid}", "commitOid": oid, "pullRequestUrl": pull_request})


_REPO = r"([\w.-]+/[\w.-]+)"
_ROUTES = [
    (r"/api/repos/create", "create_repo"),
    (r"/api/validate-yaml", "validate_yaml"),
    (rf"/api/models/{_REPO}/preupload/(.+)", "preupload"),
    (rf"/api/models/{_REPO}/commit/(.+)", "commit"),
    (rf"/api/models/{_REPO}/branch/(.+)", "create_branch"),
    (rf"/{_REPO}\.git/info/lfs/objects/batch", "lfs_batch"),
    (r"/lfs/([0-9a-f]{64})", "lfs_upload"),
    (r"/storage/([0-9a-f]{64})/(.+)", "storage"),
    (rf"/{_REPO}/resolve/(refs/pr/\d+|[^/]+)/(.+)", "resolve"),
]
