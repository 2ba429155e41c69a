"""A stand-in of GitHub's REST calls for releases: what `gh release` and clary use. https://docs.github.com/rest/releases"""

from __future__ import annotations

import hashlib

from serve import Handler, State


class Github(State):
    def __init__(self, token: str = "ghp_test") -> None:
        super().__init__()
        self.token = token
        self.releases: list[dict] = []
        self.assets: dict[int, dict] = {}
        self.content: dict[int, bytes] = {}
        self.next = 1

    def number(self) -> int:
        self.next += 1
        return self.next

    def names(self, release: int) -> set[str]:
        return {a["name"] for a in self.assets.values() if a["release"] == release and a["state"] == "uploaded"}


class GithubHandler(Handler):
    state: Github

    def answer(self) -> None:
        if not self.dispatch(ROUTES):
            self.reply(404, {"message": "Not Found"})

    def allowed(self) -> bool:
        if self.headers.get("Authorization") in (f"Bearer {self.state.token}", f"token {self.state.token}"):
            return True
        self.reply(401, {"message": "Bad credentials"})
        return False

    def page(self, rows: list[dict]) -> None:
        size, page = int(self.query.get("per_page", 30)), int(self.query.get("page", 1))
        self.reply(200, rows[(page - 1) * size : page * size])

    def list(self, repo: str) -> None:
        mine = self.headers.get("Authorization") == f"Bearer {self.state.token}"
        self.page([r for r in self.state.releases if mine or not r["draft"]])

    def one(self, repo: str, tag: str | None = None) -> None:
        shown = [r for r in self.state.releases if not r["draft"] and (tag is None or r["tag_name"] == tag)]
        self.reply(200, shown[-1]) if shown else self.reply(404, {"message": "Not Found"})

    def create(self, repo: str) -> None:
        if not self.allowed():
            return
        ask = self.json()
        if any(r["tag_name"] == ask["tag_name"] and not r["draft"] for r in self.state.releases):
            self.reply(422, {"message": "Validation Failed", "errors": [{"code": "already_exists"}]})
            return
        number = self.state.number()
        release = {
            "id": number,
            "tag_name": ask["tag_name"],
            "name": ask.get("name"),
            "body": ask.get("body"),
            "draft": bool(ask.get("draft")),
            "url": f"{self.state.url}/repos/{repo}/releases/{number}",
            "upload_url": f"{self.state.url}/uploads/repos/{repo}/releases/{number}/assets{{?name,label}}",
        }
        self.state.releases.append(release)
        self.reply(201, release)

    def change(self, repo: str, number: str) -> None:
        if not self.allowed():
            return
        release = next(r for r in self.state.releases if r["id"] == int(number))
        release |= self.json()
        self.reply(200, release)

    def list_assets(self, repo: str, number: str) -> None:
        self.page([a for a in self.state.assets.values() if a["release"] == int(number)])

    def upload(self, repo: str, release: str) -> None:
        if not self.allowed():
            return
        name = self.query["name"]
        if any(a["name"] == name and a["release"] == int(release) for a in self.state.assets.values()):
            self.reply(422, {"message": "Validation Failed", "errors": [{"code": "already_exists", "field": "name"}]})
            return
        number = self.state.number()
        asset = {
            "id": number,
            "release": int(release),
            "name": name,
            "size": len(self.body),
            "state": "uploaded",
            "digest": "sha256:" + hashlib.sha256(self.body).hexdigest(),
            "url": f"{self.state.url}/repos/{repo}/releases/assets/{number}",
            "browser_download_url": f"{self.state.url}/{repo}/releases/download/{release}/{name}",
        }
        self.state.assets[number] = asset
        self.state.content[number] = self.body
        self.reply(201, asset)

    def asset(self, repo: str, number: str) -> None:
        asset = self.state.assets.get(int(number))
        if not asset:
            self.reply(404, {"message": "Not Found"})
        elif self.command == "DELETE":
            if self.allowed():
                del self.state.assets[int(number)]
                self.reply(204)
        elif self.headers.get("Accept") == "application/octet-stream":
            self.reply_file(self.state.content[int(number)])
        else:
            self.reply(200, asset)

    def download(self, repo: str, release: str, name: str) -> None:
        for number, asset in self.state.assets.items():
            if asset["release"] == int(release) and asset["name"] == name:
                self.reply_file(self.state.content[number], ETag=f'"{number}"')
                return
        self.reply(404)


REPO = r"([\w.-]+/[\w.-]+)"
ROUTES = [
    ("GET", rf"/repos/{REPO}/releases", GithubHandler.list),
    ("POST", rf"/repos/{REPO}/releases", GithubHandler.create),
    ("GET", rf"/repos/{REPO}/releases/latest", GithubHandler.one),
    ("GET", rf"/repos/{REPO}/releases/tags/([^/]+)", GithubHandler.one),
    ("PATCH", rf"/repos/{REPO}/releases/(\d+)", GithubHandler.change),
    ("GET", rf"/repos/{REPO}/releases/(\d+)/assets", GithubHandler.list_assets),
    ("GET DELETE", rf"/repos/{REPO}/releases/assets/(\d+)", GithubHandler.asset),
    ("POST", rf"/uploads/repos/{REPO}/releases/(\d+)/assets", GithubHandler.upload),
    ("GET HEAD", rf"/{REPO}/releases/download/(\d+)/(.+)", GithubHandler.download),
]
