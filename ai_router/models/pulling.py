"""A model from the Hugging Face Hub into its cache: room looked at first, resumed, checked against its hashes."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_router.models.discovery.huggingface import cache_folder
from ai_router.models.partial import fetch
from batch.errors import BatchError, MissingExtraError

SPARE = 2**30  # bytes of the disk that stay free
_WANTED = re.compile(r"\.(safetensors|json|jinja|model|txt)$")
Progress = Callable[[str], None]
Moved = Callable[[int, int], bool]  # bytes that are here of all; False stops


class PullError(BatchError):
    """A model cannot be fetched; one sentence."""


class PullStoppedError(PullError):
    """It was stopped; what has come is kept, and gone on with."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a repository; `sha256` where the hub says it."""

    path: str
    size: int
    sha256: str | None


def pull(name: str, progress: Progress, moved: Moved | None = None) -> Path:
    """Fetch `ORG/MODEL`, or `ORG/MODEL:Q4_K_M` or `ORG/MODEL/FILE.gguf` of a GGUF repository; where it lies then.

    What has come already is not fetched again, and half a file is gone on with. `progress` hears a line a file, `moved`
    how far it is, as bytes come; where it answers False, PullStoppedError is raised.
    """
    try:
        import huggingface_hub as hub
        from huggingface_hub import errors
    except ImportError as error:
        raise MissingExtraError("hub", "models pull") from error
    repo, wanted = split_name(name)
    endpoint = os.environ.get("HF_ENDPOINT")
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        raise PullError(f"HF_ENDPOINT is no address: {endpoint!r}; write it with https:// or unset it")
    hub.logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # it tells of every attempt
    progress(f"Asking {endpoint or hub.constants.ENDPOINT} what {repo} has…")
    try:
        listed = hub.HfApi(endpoint=endpoint).list_repo_tree(repo, recursive=True)
        files = chosen(_files(listed), wanted, repo)
        _check_disk(files, progress)
        place = Path()
        whole, before = sum(file.size for file in files), 0
        for number, file in enumerate(files, 1):
            progress(f"{number} of {len(files)}: {file.path} ({file.size / 1e6:,.1f} MB)")
            bar = None if moved is None else _bar(moved, before, whole)
            if file.sha256:
                fetch(repo, file.path, file.size, cache_folder(), endpoint, bar)
            place = Path(hub.hf_hub_download(repo, file.path, endpoint=endpoint, cache_dir=str(cache_folder())))
            _check(place, file)
            before += file.size
    except PullError:
        raise
    except errors.RepositoryNotFoundError:
        raise PullError(f"There is no model {repo} on the hub, or it is not yours to read (HF_TOKEN)") from None
    except errors.GatedRepoError:
        raise PullError(f"{repo} asks for its terms to be accepted on its page first, then for HF_TOKEN") from None
    except (errors.HfHubHTTPError, OSError, ValueError) as error:
        raise PullError(f"{repo} cannot be fetched: {' '.join(str(error).split())[:300]}") from None
    except Exception as error:
        if not _of_the_way(error):
            raise
        where, said = endpoint or hub.constants.ENDPOINT, " ".join(str(error).split())[:200]
        raise PullError(f"{where} cannot be reached: {said}; pull it again later") from None
    return place if files[-1].path.endswith(".gguf") else _folder(place, files[-1].path)


def _of_the_way(error: Exception) -> bool:
    """Whether it comes from the connection: the library lets out httpx's, which are no OSErrors.

    By its name, as releases of the library have it from packages of several names (httpx, httpx2).
    """
    return any(kind.__name__ == "TransportError" for kind in type(error).__mro__)


def _bar(moved: Moved, before: int, whole: int) -> Any:
    """A progress bar, as the library asks for one, that shows nothing and tells `moved`."""
    from tqdm.auto import tqdm  # type: ignore[import-untyped]

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            self.came = int(kwargs.get("initial") or 0)
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            self.came += int(n or 0)
            if not moved(min(before + self.came, whole), whole):
                raise PullStoppedError("It was stopped; what has come is kept: pull it again to go on")
            return None

    return Bar


def split_name(name: str) -> tuple[str, str]:
    """Repository, and which file or quantisation of it."""
    repo, _, wanted = name.partition(":")
    parts = repo.split("/")
    if len(parts) > 2 and not wanted:
        repo, wanted = "/".join(parts[:2]), "/".join(parts[2:])
    if len(repo.split("/")) != 2 or not all(repo.split("/")):
        raise PullError(f"{name} names no model of the hub: give ORG/MODEL, and ORG/MODEL:Q4_K_M of GGUF files")
    return repo, wanted


def chosen(files: list[HubFile], wanted: str, repo: str) -> list[HubFile]:
    """The files to fetch, weights last; raises PullError where the name is not clear."""
    models = [file for file in files if file.path.endswith(".gguf") and "mmproj" not in file.path.lower()]
    weights = [file for file in files if file.path.endswith(".safetensors") and "/" not in file.path]
    if wanted or (models and not weights):
        exact = [file for file in models if file.path == wanted]
        fits = exact or [f for f in models if wanted and wanted.lower() in Path(f.path).name.lower()]
        fits = fits or ([] if wanted else models)
        names = {re.sub(r"-\d{5}-of-\d{5}\.gguf$", "", file.path) for file in fits}
        if len(names) == 1:
            return sorted(fits, key=lambda file: file.path, reverse=True)
        listed = ", ".join(sorted(file.path for file in models)[:12]) or "no GGUF file"
        raise PullError(f"{repo} has {listed}; name one: {repo}:PART-OF-ITS-NAME")
    if not weights:
        raise PullError(f"{repo} has neither safetensors nor GGUF files")
    others = [f for f in files if "/" not in f.path and _WANTED.search(f.path) and f not in weights]
    return [*others, *weights]


def _files(listed: Iterable[object]) -> list[HubFile]:
    return list(_each(listed))


def _each(listed: Iterable[object]) -> Iterator[HubFile]:
    for file in listed:
        path, size = getattr(file, "path", None), getattr(file, "size", None)
        if isinstance(path, str) and isinstance(size, int):
            sha = getattr(getattr(file, "lfs", None), "sha256", None)
            yield HubFile(path, size, sha if isinstance(sha, str) else None)


def _check_disk(files: list[HubFile], progress: Progress) -> None:
    root = cache_folder()
    root.mkdir(parents=True, exist_ok=True)
    needed, free = sum(file.size for file in files), shutil.disk_usage(root).free
    progress(f"{needed / 1e6:,.1f} MB to {root}, {free / 1e9:,.1f} GB free")
    if needed + SPARE > free:
        raise PullError(f"It takes {needed / 1e9:.1f} GB, and {root} has {free / 1e9:.1f} GB free")


def _check(place: Path, file: HubFile) -> None:
    """Raise PullError, and throw the file away, where it is not what the hub has."""
    size = place.stat().st_size
    problem = f"it has {size:,} of {file.size:,} bytes" if size != file.size else ""
    if not problem and file.sha256:
        with place.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        problem = "" if found == file.sha256 else "its SHA-256 is not the hub's"
    if problem:
        place.resolve().unlink(missing_ok=True)
        place.unlink(missing_ok=True)
        raise PullError(f"{file.path} came damaged ({problem}) and was thrown away: pull it again")


def _folder(place: Path, path: str) -> Path:
    return place.parents[path.count("/")]
