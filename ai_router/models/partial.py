"""A large file of the hub into its cache, gone on with where it was left: the library itself begins anew each time."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

MOST = 50_000_000_000  # bytes that the hub gives by plain HTTP


def fetch(repo: str, path: str, size: int, cache: Path, endpoint: str | None, bar: Any) -> None:
    """Put a file's bytes where the library's cache wants them, so that it only has to name them.

    `bar`: the class of a progress bar, or None. What came is kept in a `.part` beside the blob where this ends early;
    raises what the library and the system raise, and BlockingIOError where another is fetching the file.
    """
    import huggingface_hub as hub
    from filelock import FileLock, Timeout
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    url = hub.hf_hub_url(repo, path, endpoint=endpoint)
    found = hub.get_hf_file_metadata(url, endpoint=endpoint)
    if not found.etag or size > MOST or "/" in found.etag:
        return
    blob = cache / f"models--{repo.replace('/', '--')}" / "blobs" / found.etag
    if blob.exists():
        return
    blob.parent.mkdir(parents=True, exist_ok=True)
    headers = build_hf_headers()
    if urlsplit(found.location).netloc != urlsplit(url).netloc:
        headers.pop("authorization", None)  # the token is for the hub alone
    part = blob.with_name(f"{blob.name}.part")
    try:
        with FileLock(f"{part}.lock", timeout=0), part.open("ab") as stream:
            if stream.tell() > size:
                stream.truncate(0)
            at = stream.tell()
            http_get(found.location, stream, resume_size=at, headers=headers, expected_size=size, tqdm_class=bar)
            stream.flush()
            part.replace(blob)
    except Timeout:
        raise BlockingIOError(f"{path} is being fetched by another at this moment") from None
    Path(f"{part}.lock").unlink(missing_ok=True)
