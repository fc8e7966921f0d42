"""Transport to and from the Hugging Face Hub, through its own client: files of one commit, folders up."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

from hsmamba._version import __version__
from hsmamba.errors import WeightsError
from hsmamba.zoo.files import verify_file
from hsmamba.zoo.records import FileEntry

_STALE = 600.0  # seconds after which nobody writes to a part of a file that is there as a whole


def download(repo_id: str, filename: str, *, revision: str, cache_dir: str | Path | None = None) -> Path:
    """Return a file of a Hub repository through the Hub's own client, whose variables are respected.

    `HF_ENDPOINT`, `HF_HUB_OFFLINE`, `HF_HUB_CACHE` and `HF_TOKEN` are the client's. A cached file of a full commit hash
    is answered without a request.

    Args:
        repo_id: `owner/repo`.
        filename: Path in the repository.
        revision: Branch, tag or commit hash.
        cache_dir: Folder of the Hub cache; None takes the client's own.

    Returns:
        Path in the cache. The file is not verified yet.

    Raises:
        WeightsError: It cannot be had; the text says what was asked, where, and what to try.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    with _explained(f"{filename} of {repo_id} at {revision}"):
        # The client asks its Hub about the calling program once a day, before it looks into its cache.
        pinned = re.fullmatch(r"[0-9a-f]{40}", revision) is not None
        cached = try_to_load_from_cache(repo_id, filename, cache_dir=cache_dir, revision=revision) if pinned else None
        if not isinstance(cached, str):
            cached = hf_hub_download(
                repo_id,
                filename,
                revision=revision,
                cache_dir=cache_dir,
                library_name="hsmamba",
                library_version=__version__,
            )
        _tidy(Path(cached))
        return Path(cached)


def _tidy(path: Path) -> None:
    """Remove what killed downloads of a cached file left: the client begins each one anew, under another name."""
    blob = path.resolve()  # the cache's entry is a link to it
    for part in blob.parent.glob(f"{glob.escape(blob.name)}.*incomplete"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > _STALE:
                part.unlink()


def download_verified(
    repo_id: str, filename: str, *, revision: str, entry: FileEntry, cache_dir: str | Path | None = None
) -> Path:
    """Download a file as `download` does, and check it against the recorded length and SHA-256.

    Raises:
        WeightsError: It cannot be had.
        HashMismatchError: It is another file; the text names both hashes and the command that clears it from the cache.
    """
    path = download(repo_id, filename, revision=revision, cache_dir=cache_dir)
    copies = dict.fromkeys((str(path), str(path.resolve())))  # the cache's entry is a link to its blob
    remove = "del" if os.name == "nt" else "rm"
    mend = (
        f"to fetch it again, type: {remove} {' '.join(shlex.quote(copy) for copy in copies)} and repeat; "
        "if a fresh copy differs too, the repository has changed: report it to its owner"
    )
    verify_file(path, entry, name=f"hf-hub:{repo_id}@{revision}", mend=mend)
    return path


def holds(repo_id: str, filename: str, *, revision: str, token: str | None = None) -> bool:
    """Ask the Hub whether a repository has a file at a revision; False also where there is no such repository.

    Raises:
        WeightsError: The Hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token, library_name="hsmamba", library_version=__version__)
    with _explained(f"{filename} of {repo_id} at {revision}"):
        return bool(api.file_exists(repo_id, filename, revision=revision))


def upload(
    folder: Path,
    repo_id: str,
    *,
    private: bool,
    token: str | None,
    revision: str | None,
    commit_message: str,
    create_pr: bool,
) -> str:
    """Upload a folder to the Hub; the arguments are those of `hsmamba.push_to_hub`.

    Returns:
        The commit's hash.

    Raises:
        WeightsError: The Hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token, library_name="hsmamba", library_version=__version__)
    with _explained(f"the upload to {repo_id}"):
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            commit_message=commit_message,
            revision=revision,
            create_pr=create_pr,
        )
    return str(commit.oid)


@contextlib.contextmanager
def _explained(request: str) -> Iterator[None]:
    """Turn whatever the Hub's client raises into a `WeightsError` that says what was asked, where, and what to try."""
    try:
        yield
    # Everything: the client lets through errors of its transport, which it has replaced more than once.
    except Exception as error:
        from huggingface_hub import constants

        # That the cache has no copy is the client's last word; why it could not ask the Hub is the cause.
        reason = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
        said = str(reason).strip().splitlines()
        text = f"asking {constants.ENDPOINT} gave {type(reason).__name__}{': ' + said[0].strip() if said else ''}"
        # The cause is told with the error, so that it goes where it might tell a password.
        raise WeightsError(f"{request}: {without_passwords(text)}; {_advice(reason)}") from (
            error if without_passwords(constants.ENDPOINT) == constants.ENDPOINT else None
        )


def without_passwords(text: str) -> str:
    """Return a text whose URLs have lost the user and the password before their host."""
    return re.sub(r"(?<=://)[^/\s'\"]*@", "***@", text)


def _advice(error: BaseException) -> str:
    """Say what to try after an error of the Hub's client."""
    from huggingface_hub import constants, errors

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set and the cache has no copy; unset it once to fetch the file"
    by_status = {
        401: "the access token is missing or not valid: set HF_TOKEN to a valid one",
        403: "the access token does not allow this: set HF_TOKEN to one that does",
        429: "too many requests: wait a while, or set HF_TOKEN",
    }
    by_class = {  # the first that fits
        errors.GatedRepoError: "ask for access on the repository's page, then set HF_TOKEN",
        errors.RepositoryNotFoundError: "there is no such repository or it is private: check the name, set HF_TOKEN",
        errors.RevisionNotFoundError: "the repository has no such branch, tag or commit: check the revision",
        errors.EntryNotFoundError: "the repository has no such file: check its name, and that hsmamba made it",
        errors.HFValidationError: "expected owner/repo",
    }
    for kind, advice in by_class.items():
        if isinstance(error, kind):
            return advice
    status = getattr(getattr(error, "response", None), "status_code", 0)
    return by_status.get(status, "check the network, the free space on the disk and HF_ENDPOINT, then try again")
