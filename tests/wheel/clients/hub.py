"""A stand-in of the Hugging Face hub: the calls that huggingface_hub and clary make to upload and download files.

Commits hold whole trees, blobs lie by their SHA-256, resolve answers large files with a redirect to another host name, as the
hub's CDN does. https://huggingface.co/docs/hub/api and huggingface_hub's own source tell the protocol.
"""

from __future__ import annotations

import base64
import hashlib
import json

from serve import Handler, State


class Hub(State):
    def __init__(self, token: str = "hf_test") -> None:
        super().__init__()
        self.token = token
        self.blobs: dict[str, bytes] = {}
        self.repos: dict[str, list[tuple[str, dict[str, str]]]] = {}  # commits: id, path -> SHA-256
        self.lfs: set[str] = set()
        self.cdn_tokens: list[str] = []  # Authorization seen where none may be
        self.chunk = 0  # upload in parts of so many bytes; 0: in one

    def create(self, repo: str) -> None:
        self.repos.setdefault(repo, [(hashlib.sha1(repo.encode()).hexdigest(), {})])

    def commit(self, repo: str, tree: dict[str, str]) -> str:
        commits = self.repos[repo]
        name = hashlib.sha1(json.dumps([commits[-1][0], tree, len(commits)]).encode()).hexdigest()
        commits.append((name, tree))
        return name

    def at(self, repo: str, revision: str) -> tuple[str, dict[str, str]] | None:
        commits = self.repos.get(repo, [])
        if revision == "main" and commits:
            return commits[-1]
        return next((c for c in commits if c[0] == revision), None)

    def files(self, repo: str) -> dict[str, bytes]:
        return {path: self.blobs[sha] for path, sha in self.repos[repo][-1][1].items()}


class HubHandler(Handler):
    state: Hub

    def answer(self) -> None:
        if not self.dispatch(ROUTES):
            self.reply(404, {"error": "no such page"}, X_Error_Code="EntryNotFound")

    def allowed(self, write: bool = False) -> bool:
        if self.headers.get("Authorization") == f"Bearer {self.state.token}":
            return True
        self.reply(401 if write else 404, {"error": "not allowed"}, X_Error_Code="RepoNotFound")
        return False

    def whoami(self) -> None:
        if self.allowed(True):
            self.reply(200, {"type": "user", "name": "someone", "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def create(self) -> None:
        if not self.allowed(True):
            return
        ask = self.json()
        repo = f"{ask.get('organization') or 'someone'}/{ask['name']}"
        if repo in self.state.repos:
            self.reply(409, {"error": "exists", "url": f"{self.state.url}/{repo}"})
            return
        self.state.create(repo)
        self.reply(200, {"url": f"{self.state.url}/{repo}", "name": repo})

    def revision(self, repo: str, revision: str | None = None) -> None:
        found = self.state.at(repo, revision or "main")
        if not self.allowed():
            return
        if not found:
            self.reply(404, {"error": "no such repository"}, X_Error_Code="RepoNotFound")
            return
        siblings = [{"rfilename": path} for path in found[1]]
        self.reply(
            200, {"id": repo, "modelId": repo, "sha": found[0], "siblings": siblings, "private": True, "tags": []}
        )

    def tree(self, repo: str, revision: str) -> None:
        found = self.state.at(repo, revision)
        if not self.allowed():
            return
        if not found:
            self.reply(404, {"error": "no such revision"}, X_Error_Code="RevisionNotFound")
            return
        rows = []
        for path, sha in sorted(found[1].items()):
            size = len(self.state.blobs[sha])
            row = {"type": "file", "path": path, "size": size, "oid": hashlib.sha1(sha.encode()).hexdigest()}
            if sha in self.state.lfs:
                row["lfs"] = {"oid": sha, "size": size, "pointerSize": 130}
            rows.append(row)
        begin = int(self.query.get("cursor", 0))
        headers = {}
        if begin + 3 < len(rows):  # short pages, so that clients must ask for the next
            headers["Link"] = (
                f'<{self.state.url}{self.path.split("?")[0]}?recursive=true&cursor={begin + 3}>; rel="next"'
            )
        self.reply(200, rows[begin : begin + 3], **headers)

    def preupload(self, repo: str, revision: str) -> None:
        if self.allowed(True):
            files = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["path"].endswith(".whl") else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for f in self.json()["files"]
            ]
            self.reply(200, {"files": files})

    def batch(self, repo: str) -> None:
        if not self.allowed(True):
            return
        objects = []
        for o in self.json()["objects"]:
            answer = {"oid": o["oid"], "size": o["size"]}
            if o["oid"] not in self.state.blobs:
                upload: dict = {"href": f"{self.state.url}/lfs/{o['oid']}", "header": {}}
                if self.state.chunk:
                    parts = -(-o["size"] // self.state.chunk)
                    upload["header"] = {"chunk_size": str(self.state.chunk)}
                    for n in range(1, parts + 1):
                        upload["header"][f"{n:05}"] = f"{self.state.url}/lfs/{o['oid']}/{n}"
                answer["actions"] = {"upload": upload, "verify": {"href": f"{self.state.url}/verify/{repo}"}}
            objects.append(answer)
        transfer = "multipart" if self.state.chunk else "basic"
        self.reply(200, {"transfer": transfer, "objects": objects}, Content_Type="application/vnd.git-lfs+json")

    def put_blob(self, oid: str) -> None:
        if self.headers.get("Authorization"):
            self.state.cdn_tokens.append(self.path)
        self.keep_blob(oid)

    def keep_blob(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            self.reply(400, {"error": "wrong content"})
            return
        self.state.blobs[oid] = self.body
        self.state.lfs.add(oid)
        self.reply(200)

    def put_part(self, oid: str, number: str) -> None:
        self.state.blobs[f"part-{oid}-{number}"] = self.body
        self.reply(200, ETag=f'"{number}"')

    def join_parts(self, oid: str) -> None:
        def number(part: dict) -> str:
            return part["etag"].strip('"')

        parts = [self.state.blobs.pop(f"part-{oid}-{number(p)}") for p in self.json()["parts"]]
        self.body = b"".join(parts)
        self.keep_blob(oid)

    def verify(self, repo: str) -> None:
        self.reply(200 if self.json()["oid"] in self.state.blobs else 404, {})

    def commit(self, repo: str, revision: str) -> None:
        if not self.allowed(True):
            return
        name, tree = self.state.repos[repo][-1]
        tree = dict(tree)
        for line in self.body.splitlines():
            row = json.loads(line)
            value = row["value"]
            if row["key"] == "header" and value.get("parentCommit") not in (None, name):
                self.reply(412, {"error": "a commit has happened since"})
                return
            if row["key"] == "file":
                content = base64.b64decode(value["content"])
                sha = hashlib.sha256(content).hexdigest()
                self.state.blobs[sha] = content
                tree[value["path"]] = sha
            if row["key"] == "lfsFile":
                if value["oid"] not in self.state.blobs:
                    self.reply(400, {"error": "no such object"})
                    return
                tree[value["path"]] = value["oid"]
            if row["key"] == "deletedFile":
                tree.pop(value["path"], None)
        name = self.state.commit(repo, tree)
        self.reply(200, {"success": True, "commitOid": name, "commitUrl": f"{self.state.url}/{repo}/commit/{name}"})

    def resolve(self, repo: str, revision: str, path: str) -> None:
        found = self.state.at(repo, revision)
        if not self.allowed():
            return
        if not found or path not in found[1]:
            self.reply(
                404, {"error": "no such file"}, X_Error_Code="EntryNotFound", X_Repo_Commit=found[0] if found else ""
            )
            return
        sha = found[1][path]
        content = self.state.blobs[sha]
        headers = {"ETag": f'"{sha}"', "X_Repo_Commit": found[0], "Accept_Ranges": "bytes"}
        if sha in self.state.lfs:
            other_host = self.state.url.replace("127.0.0.1", "localhost")
            headers |= {"X_Linked_Etag": f'"{sha}"', "X_Linked_Size": str(len(content))}
            self.reply(302, Location=f"{other_host}/cdn/{sha}", **headers)
            return
        self.reply_file(content, **headers)

    def cdn(self, sha: str) -> None:
        if self.headers.get("Authorization"):
            self.state.cdn_tokens.append(self.path)
        self.reply_file(self.state.blobs[sha], ETag=f'"{sha}"')


REPO = r"([\w.-]+/[\w.-]+)"
ROUTES = [
    ("GET", r"/api/whoami-v2", HubHandler.whoami),
    ("POST", r"/api/repos/create", HubHandler.create),
    ("GET", rf"/api/models/{REPO}", HubHandler.revision),
    ("GET", rf"/api/models/{REPO}/revision/([\w.-]+)", HubHandler.revision),
    ("GET", rf"/api/models/{REPO}/tree/([\w.-]+)", HubHandler.tree),
    ("POST", rf"/api/models/{REPO}/preupload/([\w.-]+)", HubHandler.preupload),
    ("POST", rf"/api/models/{REPO}/commit/([\w.-]+)", HubHandler.commit),
    ("POST", rf"/{REPO}\.git/info/lfs/objects/batch", HubHandler.batch),
    ("PUT", r"/lfs/(\w{64})", HubHandler.put_blob),
    ("PUT", r"/lfs/(\w{64})/(\d+)", HubHandler.put_part),
    ("POST", r"/lfs/(\w{64})", HubHandler.join_parts),
    ("POST", rf"/verify/{REPO}", HubHandler.verify),
    ("GET HEAD", rf"/{REPO}/resolve/([\w.-]+)/(.+)", HubHandler.resolve),
    ("GET HEAD", r"/cdn/(\w{64})", HubHandler.cdn),
]
