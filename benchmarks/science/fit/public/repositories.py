"""Where do the files of other people's repositories come from? From git, at a fixed commit.

A repository is cloned without its files' contents once into a cache; a file is then fetched when it is read.
Where the network is closed, `--mirrors` names a folder of clones, `OWNER+NAME` or `OWNER+NAME/repo` each.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Repository:
    """name : OWNER/NAME on GitHub. commit : all of the hash. licence : what the repository says."""

    name: str
    commit: str
    licence: str


@dataclass(frozen=True)
class Clones:
    """Clones in `cache`, looked for in `mirrors` first."""

    cache: Path
    mirrors: Path | None = None

    def read(self, repository: Repository, path: str) -> bytes:
        """The bytes of one file."""
        return self._git(repository, "show", f"{repository.commit}:{path}")

    def read_all(self, repository: Repository, folder: str) -> dict[str, bytes]:
        """The bytes of all files below a folder, by path."""
        packed = self._git(repository, "archive", "--format=tar", repository.commit, folder)
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            members = [member for member in archive if member.isfile()]
            return {member.name: archive.extractfile(member).read() for member in members}

    def _git(self, repository: Repository, *arguments: str) -> bytes:
        command = ["git", "-C", str(self._place(repository)), *arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout

    def _place(self, repository: Repository) -> Path:
        folder = repository.name.replace("/", "+")
        for place in [self.mirrors / folder / "repo", self.mirrors / folder] if self.mirrors else []:
            if place.is_dir():
                return place
        place = self.cache / folder
        if not place.is_dir():
            place.parent.mkdir(parents=True, exist_ok=True)
            url = f"https://github.com/{repository.name}"
            subprocess.run(["git", "clone", "--bare", "--filter=blob:none", url, str(place)], check=True)
        return place
