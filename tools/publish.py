"""Put the weights of the manifest on the Hub, a repository each, and write the commit of each into the manifest.

Run from the repository's root, in a source checkout: python tools/publish.py OWNER [NAME ...] [--push]

Without --push nothing is written, here or there: it says what would be done. The token with the permission to write is
read from HF_TOKEN and from nowhere else. A repository OWNER/NAME gets the model folder of the weight: tensors,
`config.json`, card, and `check.safetensors`, by which `hsmamba verify` tells downloaders whether they compute the same.
What is fetched back from a new commit is compared with it before the manifest names the commit. What is there already
is left alone, so that an interrupted run is simply run again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hsmamba.errors import HsmambaError, WeightsError
from hsmamba.zoo import hub
from hsmamba.zoo.check import compare_check, make_check
from hsmamba.zoo.factory import create_model
from hsmamba.zoo.files import CONFIG, FILES, verify_file
from hsmamba.zoo.manifest import load_manifest, write_manifest
from hsmamba.zoo.records import HubAddress, WeightRecord, facts_of
from hsmamba.zoo.save import export
from hsmamba.zoo.source import ModelFolder, read_folder

ROOT = Path(__file__).resolve().parents[1]
PLACES = (ROOT / "hsmamba" / "weights", ROOT / "hub_weights")  # what the wheel carries, and what it does not


def files_here(record: WeightRecord, places: Sequence[Path]) -> ModelFolder | None:
    """Find the files of a weight in a folder of this checkout, verified; None where only the Hub has them."""
    folder = next((place / record.name for place in places if (place / record.name).is_dir()), None)
    if folder is None:
        return None
    files = {which: folder / entry.file for which, entry in record.files.items()}
    for which, path in files.items():
        verify_file(path, record.files[which], name=record.name, mend="record the weight again")
    facts = facts_of(record)
    return ModelFolder(architecture=record.architecture, source=record.name, files=files, **facts)


def prepare(model: ModelFolder, folder: Path, repo_id: str) -> Path:
    """Write the folder that goes to the Hub, with what the network gives for the inputs of its check."""
    export(model, folder, repo_id=repo_id)
    network = create_model(f"local-dir:{folder}")
    return export(model, folder, repo_id=repo_id, check=make_check(network))


def _said(folder: Path) -> tuple[dict[str, Any], bytes]:
    """Return what a model folder says, but for the version that wrote it and for its check, which rounding changes."""
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    del config["version"]
    config["files"].pop("check", None)
    return config, (folder / "README.md").read_bytes()


def commit_with(folder: Path, repo_id: str, revisions: Sequence[str], cache: Path) -> str | None:
    """Return the first commit of a repository that says what a folder says; None where there is none."""
    for revision in revisions:
        if all(hub.holds(repo_id, name, revision=revision) for name in (CONFIG, "README.md")):
            there = [hub.download(repo_id, name, revision=revision, cache_dir=cache) for name in (CONFIG, "README.md")]
            if _said(there[0].parent) == _said(folder):
                return there[0].parent.name  # the cache keeps a folder for every commit
    return None


def fetched(record: WeightRecord, address: HubAddress, cache: Path) -> float:
    """Fetch a commit as a user would, and hold it against the record and its check; the largest difference."""
    name = f"hf-hub:{address.repo_id}@{address.revision}"
    network = create_model(name, cache_dir=cache)
    snapshot = hub.download(address.repo_id, CONFIG, revision=address.revision, cache_dir=cache).parent
    folder = read_folder(snapshot)
    for which, entry in record.files.items():
        verify_file(folder.files[which], entry, name=name, mend="push the weight again")
    check = folder.load_check()
    if check is None:
        raise WeightsError(f"{name} has no {FILES['check']}")
    return compare_check(network, check, name=name)


def publish(record: WeightRecord, owner: str, args: argparse.Namespace) -> Iterator[str]:
    """Publish one weight and tell each thing that is done, or that would be."""
    repo_id = f"{owner}/{record.name}"
    pinned = record.hub.revision if record.hub is not None and record.hub.repo_id == repo_id else None
    model = files_here(record, args.weights or PLACES)
    if model is None:
        if record.hub is None:
            raise WeightsError(f"{record.name} has neither files here nor a place on the Hub; record the weight again")
        yield f"its files are on the Hub alone: {record.hub.repo_id}@{record.hub.revision}"
        return
    with tempfile.TemporaryDirectory(prefix="hsmamba-publish-") as work:
        folder, cache = prepare(model, Path(work) / "folder", repo_id), Path(work) / "cache"
        revisions = [pinned, "main"] if pinned else ["main"]
        commit = commit_with(folder, repo_id, revisions, cache)
        if commit is not None and commit == pinned:
            yield f"there already: {repo_id}@{commit}"
            return
        files = sorted(path for path in folder.iterdir() if path.is_file())
        size = f"{len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.1f} MB"
        if not args.push:
            yield f"would push {size} to {repo_id}" if commit is None else f"would pin {repo_id}@{commit}"
            return
        if commit is None:
            yield f"pushing {size} to {repo_id}"
            message = f"Upload {record.name} with hsmamba"
            commit = hub.upload(
                folder, repo_id, private=args.private, token=args.token, revision=None, commit_message=message,
                create_pr=False,
            )  # fmt: skip
        address = HubAddress(repo_id, commit, FILES["model"])
        difference = fetched(record, address, cache)
        records = load_manifest(args.manifest)  # anew: another program may have written it meanwhile
        records[record.name] = replace(records[record.name], hub=address)
        write_manifest(records.values(), args.manifest)
        yield f"pinned {repo_id}@{commit}; fetched back, its outputs differ by {difference:.1e}"


def main() -> None:
    """Publish the weights that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("owner", help="user or organisation on the Hub")
    parser.add_argument("names", nargs="*", help="weights; default all of the manifest")
    parser.add_argument("--push", action="store_true", help="do it; without, say what would be done")
    parser.add_argument("--private", action="store_true", help="make new repositories private")
    parser.add_argument("--weights", type=Path, action="append", help="folder of weights, a folder each")
    parser.add_argument("--manifest", type=Path, default=ROOT / "weights_manifest.json")
    args = parser.parse_args()
    args.token = os.environ.get("HF_TOKEN")
    if args.push and not args.token:
        sys.exit("--push needs a token that may write: set HF_TOKEN")
    records = load_manifest(args.manifest)
    if unknown := [name for name in args.names if name not in records]:
        sys.exit(f"no weights {', '.join(unknown)} in {args.manifest}; there are: {', '.join(records)}")
    if not args.push:
        print("dry run, nothing is written; --push does it")
    for name in args.names or list(records):
        try:
            for text in publish(records[name], args.owner, args):
                print(f"{name}: {text}", flush=True)
        except HsmambaError as error:
            sys.exit(f"{name}: {error}\nwhat was pinned before stays; run it again to go on")


if __name__ == "__main__":
    main()
