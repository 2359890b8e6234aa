"""Where models and datasets come from and codebooks go to: the Hugging Face Hub, or a folder, behind one interface."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from batch.errors import ErrorClass, Failure, MissingExtraError
from batch.running.policy import RetryPolicy
from batch.semantic_ids.errors import SemanticIdError

T = TypeVar("T")
RepoKind = Literal["model", "dataset"]

TOKEN_VARIABLE = "HF_TOKEN"
NO_TOKEN = f"{TOKEN_VARIABLE} not set! Put a token that may write to the dataset into this environment variable"
RETRIES = RetryPolicy(retries=2, base=1.0)
MODEL_LEVELS = 3  # folders that are searched for models, and how many of them at most
MOST_FOLDERS = 2000
ONCE = RetryPolicy(retries=0)
_WAIT_STATUS = (408, 409, 425, 429)  # and 5xx: worth another try


class MissingTokenError(SemanticIdError):
    """Something is to be uploaded, and there is no token to do it with."""


class UnreachableError(SemanticIdError):
    """The hub cannot be reached: what else is asked of it now will not come either."""


class Hub(Protocol):
    """Repositories of models and datasets. All errors are SemanticIdErrors, one sentence each."""

    name: str
    needs_token: bool  # to upload

    def files(self, repo: str, kind: RepoKind) -> list[str]:
        """The paths of all files in a repository, with `/`; raises where there is no such repository."""
        ...

    def fetch(self, repo: str, path: str, kind: RepoKind) -> Path:
        """A file of a repository as a file on this machine."""
        ...

    def upload(self, file: Path, repo: str, path: str, kind: RepoKind = "dataset") -> str:
        """Put a file into a repository, whole or not at all, in the place of what is there; returns its address."""
        ...

    def address(self, repo: str, path: str, kind: RepoKind = "dataset") -> str:
        """What people call this file: a URL or a path."""
        ...


class FolderHub:
    """A folder as a hub: `ORG/NAME`, `NAME` or `models/…` below it is a model, `datasets/NYC` a dataset.

    Upper and lower case do not matter in a dataset's name. What is uploaded stands in the dataset's folder.
    """

    needs_token = False

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).expanduser()
        self.name = str(self.root)
        if not self.root.is_dir():
            raise SemanticIdError(f"There is no folder {self.root}")

    def files(self, repo: str, kind: RepoKind) -> list[str]:
        """The files below the repository's folder."""
        folder = self._folder(repo, kind)
        return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())

    def fetch(self, repo: str, path: str, kind: RepoKind) -> Path:
        """The file itself."""
        file = self._folder(repo, kind) / path
        if not file.is_file():
            raise SemanticIdError(f"There is no {file}")
        return file

    def upload(self, file: Path, repo: str, path: str, kind: RepoKind = "dataset") -> str:
        """Copy it there."""
        from batch.export.atomic import atomic_file

        target = self._target(repo, kind) / path
        if target.exists() and target.samefile(file):
            return str(target)
        with file.open("rb") as source, atomic_file(target) as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
        return str(target)

    def address(self, repo: str, path: str, kind: RepoKind = "dataset") -> str:
        """The path it has, or would get."""
        return str(self._target(repo, kind) / path)

    def models(self) -> list[str]:
        """The models in this folder, by the folders' paths below it, at most three levels down."""
        from batch.semantic_ids.layout import MODEL_FILES

        found: list[str] = []
        level, seen = [self.root], 0
        for _ in range(MODEL_LEVELS):
            below: list[Path] = []
            for folder in level:
                seen += 1
                if seen > MOST_FOLDERS:  # somebody's whole disk; what was found by now is what there is
                    return sorted(found)
                below += _folders(folder)
            found += [
                folder.relative_to(self.root).as_posix()
                for folder in below
                if any((folder / name).is_file() for name in MODEL_FILES)
            ]
            level = below
        return sorted(found)

    def _places(self, repo: str, kind: RepoKind) -> Iterator[Path]:
        name = repo.rsplit("/", 1)[-1]
        if kind == "model":
            yield from (self.root / repo, self.root / "models" / repo, self.root / "models" / name, self.root / name)
            return
        parents = [self.root / "datasets", self.root]
        parents += [self.root / "datasets" / repo.partition("/")[0], self.root / repo.partition("/")[0]]
        for parent in parents:
            if parent.is_dir():
                yield from (child for child in sorted(parent.iterdir()) if child.name.lower() == name.lower())

    def _find(self, repo: str, kind: RepoKind) -> Path | None:
        return next((place for place in self._places(repo, kind) if place.is_dir()), None)

    def _folder(self, repo: str, kind: RepoKind) -> Path:
        if (found := self._find(repo, kind)) is not None:
            return found
        name = repo.rsplit("/", 1)[-1]
        wanted = f"datasets/{name.upper()}" if kind == "dataset" else f"models/{name}"
        raise SemanticIdError(f"There is no {kind} {name} in {self.root}; looked for {wanted}, among others")

    def _target(self, repo: str, kind: RepoKind) -> Path:
        name = repo.rsplit("/", 1)[-1]
        return self._find(repo, kind) or self.root / ("datasets" if kind == "dataset" else "models") / name.upper()


class HuggingFaceHub:
    """The Hugging Face Hub, with the token of the environment variable HF_TOKEN and no other.

    What is fetched is kept in the library's cache. Transient failures (429, 5xx, no connection) of fetching are tried
    again by the library itself, those of uploading also by `retries`.
    """

    needs_token = True
    name = "huggingface.co"

    def __init__(
        self,
        token: str | None = None,
        *,
        endpoint: str | None = None,
        retries: RetryPolicy = RETRIES,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._token = token if token is not None else os.environ.get(TOKEN_VARIABLE, "").strip()
        self._endpoint = endpoint
        self._retries = retries
        self._sleep = sleep

    def __repr__(self) -> str:
        return f"HuggingFaceHub(endpoint={self._endpoint!r}, token={'set' if self._token else 'not set'})"

    @property
    def has_token(self) -> bool:
        """Whether there is something to upload with."""
        return bool(self._token)

    def files(self, repo: str, kind: RepoKind) -> list[str]:
        """The files of the repository's main branch."""
        found: list[str] = self._do(lambda api: api.list_repo_files(repo, repo_type=kind), f"{kind} {repo}")
        return found

    def fetch(self, repo: str, path: str, kind: RepoKind) -> Path:
        """The file in the library's cache, downloaded where it is not there yet."""
        what = f"{path} of the {kind} {repo}"
        return Path(self._do(lambda api: api.hf_hub_download(repo, path, repo_type=kind), what))

    def upload(self, file: Path, repo: str, path: str, kind: RepoKind = "dataset") -> str:
        """One commit with this file; MissingTokenError where there is no token."""
        if not self._token:
            raise MissingTokenError(NO_TOKEN)

        def send(api: Any) -> None:
            api.upload_file(
                path_or_fileobj=str(file),
                path_in_repo=path,
                repo_id=repo,
                repo_type=kind,
                commit_message=f"Upload {file.name}",
            )

        self._do(send, f"{path} of the {kind} {repo}", verb="be uploaded", retries=self._retries)
        return self.address(repo, path, kind)

    def address(self, repo: str, path: str, kind: RepoKind = "dataset") -> str:
        """The page of the file."""
        from urllib.parse import quote

        base = (self._endpoint or os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
        prefix = "datasets/" if kind == "dataset" else ""
        return f"{base}/{prefix}{repo}/blob/main/{quote(path)}"

    def _do(self, call: Callable[[Any], T], what: str, verb: str = "be fetched", retries: RetryPolicy = ONCE) -> T:
        attempt = 0
        while True:
            attempt += 1
            try:
                return call(self._api())
            except MissingExtraError:
                raise
            except Exception as raised:  # the library raises its own, httpx's and the system's errors
                error = raised
                failure = self._failure(error, what, verb)
            delay = retries.delay(failure, attempt)
            if delay is None:
                raise (UnreachableError if _is_unreachable(error) else SemanticIdError)(failure.message)
            self._sleep(delay)

    def _api(self) -> Any:
        try:
            from huggingface_hub import HfApi
            from huggingface_hub.utils import logging as hub_logging
            from huggingface_hub.utils.tqdm import disable_progress_bars
        except ImportError:
            raise MissingExtraError("hub", "The Hugging Face Hub") from None
        disable_progress_bars()  # they would be drawn where a progress line or a screen of ours stands
        hub_logging.set_verbosity(logging.ERROR)
        # False, not None: None would take a token that some other program has left on this machine.
        return HfApi(endpoint=self._endpoint, token=self._token or False, library_name="ai-router")

    def _failure(self, error: Exception, what: str, verb: str) -> Failure:
        """An error of the library as one sentence, without the token, and whether another try makes sense."""
        status = getattr(getattr(error, "response", None), "status_code", None)
        kind = type(error).__name__
        text = " ".join(str(error).split())
        if self._token:
            text = text.replace(self._token, "***")
        where = self.name if self._endpoint is None else self._endpoint
        if _is_unreachable(error):
            return Failure(ErrorClass.TRANSIENT, f"{where} cannot be reached, so {what} could not {verb}")
        if status in (401, 403) or kind == "GatedRepoError":
            hint = f"does the token in {TOKEN_VARIABLE} allow it?" if self._token else f"{TOKEN_VARIABLE} is not set"
            return Failure(ErrorClass.PERMANENT, f"{where} refuses access to {what}; {hint}")
        if status == 404 or kind in ("RepositoryNotFoundError", "EntryNotFoundError", "RemoteEntryNotFoundError"):
            return Failure(ErrorClass.PERMANENT, f"There is no {what} on {where}")
        transient = status is not None and (status in _WAIT_STATUS or status >= 500)
        message = f"{what} could not {verb}: {text[:200] or kind}"
        if status is not None:
            message = f"{what} could not {verb}: {where} answered {status}"
        return Failure(
            ErrorClass.TRANSIENT if transient else ErrorClass.PERMANENT,
            message,
            _retry_after(error) if status else None,
        )


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder that are neither hidden nor links."""
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if not e.name.startswith(".") and e.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return [folder / name for name in sorted(names)]


def open_hub(place: str | Path | None = None) -> FolderHub | HuggingFaceHub:
    """The hub of a name: a folder's path, or None for the Hugging Face Hub."""
    return HuggingFaceHub() if place is None else FolderHub(place)


def _is_unreachable(error: Exception) -> bool:
    """Whether the other side was not reached; by name, as httpx is the library's own affair."""
    if "HTTP status" in str(error):  # the uploader of large files raises ConnectionError for answers too
        return False
    names = {cls.__name__ for cls in type(error).__mro__}
    known = {"TransportError", "TimeoutException", "LocalEntryNotFoundError", "OfflineModeIsEnabled"}
    return isinstance(error, ConnectionError | TimeoutError) or bool(names & known)


def _retry_after(error: Exception) -> float | None:
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    try:
        return min(300.0, float(headers.get("retry-after", "")))
    except ValueError:
        return None
