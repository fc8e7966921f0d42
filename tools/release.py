"""Build a release and check what can be checked of it; docs/releasing.md has the whole list.

Run from the repository's root, in a source checkout: python tools/release.py [--dist FOLDER] [--built]

The tree: one version everywhere, dated in the changelog, not tagged yet, nothing uncommitted, every weight in the
package or on the Hub. What was built: one wheel for all systems, with the kernel of each, every embedded weight whole,
less than 40 MB; `twine check`. The exit code is 1 where something is wrong. Nothing is uploaded, nothing is tagged.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import runpy
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hsmamba.zoo.manifest import load_manifest

ROOT = Path(__file__).resolve().parents[1]
WHEEL_MB = 40


class Check(NamedTuple):
    """What was looked at, and what is wrong with it; empty where nothing is."""

    what: str
    wrong: str = ""

    def __str__(self) -> str:
        return f"{'WRONG' if self.wrong else 'ok':<6}{self.what}{': ' if self.wrong else ''}{self.wrong}"


def git(root: Path, *arguments: str) -> str:
    """Run git in a folder and return what it prints."""
    return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True).stdout


def version_of(root: Path) -> str:
    """Return the version that hsmamba/_version.py has."""
    return str(runpy.run_path(str(root / "hsmamba" / "_version.py"))["__version__"])


def check_tree(root: Path) -> Iterator[Check]:
    """Check a source checkout."""
    version = version_of(root)
    cited = re.search(r"^version: (.+)$", (root / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    yield Check(f"CITATION.cff has {version}", "" if cited and cited[1] == version else f"it has {cited and cited[1]}")
    heading = re.search(r"^## (.+)$", (root / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    newest = heading[1] if heading else "no heading"
    dated = re.fullmatch(rf"{re.escape(version)} - \d{{4}}-\d\d-\d\d", newest)
    yield Check(f"CHANGELOG.md has {version} with its day", "" if dated else f"its newest heading is {newest!r}")
    tag = f"v{version}"
    yield Check(f"{tag} is a new tag", f"{tag} is there" if git(root, "tag", "--list", tag).strip() else "")
    changed = git(root, "status", "--porcelain").splitlines()
    yield Check("nothing is uncommitted", f"{len(changed)} files, first {changed[0]}" if changed else "")
    weights = root / "hsmamba" / "weights"
    lost = [
        name
        for name, record in load_manifest(root / "weights_manifest.json").items()
        if record.hub is None and not (weights / name / record.file).is_file()
    ]
    yield Check("every weight is in the package or on the Hub", ", ".join(lost))


def check_wheel(path: Path, root: Path) -> Iterator[Check]:
    """Check a wheel against the checkout that it was built from."""
    size = path.stat().st_size / 1e6
    yield Check(f"{path.name}: {size:.1f} MB", "" if size < WHEEL_MB else f"{WHEEL_MB} MB is the most")
    universal = path.name == f"hsmamba-{version_of(root)}-py3-none-any.whl"
    yield Check("it is of this version and for every system", "" if universal else path.name)
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        kernels = runpy.run_path(str(root / "hatch_build.py"))["TARGETS"]
        missing = [name for name in kernels if f"hsmamba/ops/lib/{name}" not in names]
        yield Check(f"kernels of {len(kernels)} platforms are inside", ", ".join(missing))
        wrong, count = [], 0
        for name, record in load_manifest(root / "weights_manifest.json").items():
            for entry in record.files.values():
                place = f"hsmamba/weights/{name}/{entry.file}"
                if place in names and hashlib.sha256(wheel.read(place)).hexdigest() == entry.sha256:
                    count += 1
                elif place in names or record.hub is None:
                    wrong.append(place)
        yield Check(f"{count} files of weights are inside, as on record", ", ".join(wrong))
        manifest = wheel.read("hsmamba/weights_manifest.json") if "hsmamba/weights_manifest.json" in names else b""
        same = manifest == (root / "weights_manifest.json").read_bytes()
        yield Check("the manifest is inside", "" if same else "it is another or not there")
        strange = [name for name in names if not re.match(r"hsmamba(-[^/]+\.dist-info)?/", name)]
        yield Check("nothing else is inside", ", ".join(strange[:3]))


def check_built(dist: Path, root: Path) -> Iterator[Check]:
    """Check a folder with one wheel and one source distribution."""
    wheels, sources = sorted(dist.glob("*.whl")), sorted(dist.glob("*.tar.gz"))
    alone = len(wheels) == len(sources) == 1
    yield Check("one wheel and one source distribution", "" if alone else f"{len(wheels)} and {len(sources)} in {dist}")
    if not alone:
        return
    yield from check_wheel(wheels[0], root)
    yield Check(f"{sources[0].name}: {sources[0].stat().st_size / 1e6:.1f} MB")
    files = [str(path) for path in (*wheels, *sources)]
    twine = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *files], capture_output=True, text=True, check=False
    )
    yield Check("twine check --strict", "" if twine.returncode == 0 else (twine.stdout + twine.stderr).strip())


def main() -> None:
    """Check, build and check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="where to build; a new or empty folder")
    parser.add_argument("--built", action="store_true", help="check what the folder holds, without building")
    args = parser.parse_args()
    found = []
    for check in check_tree(ROOT):
        print(check, flush=True)
        found.append(check)
    if not args.built:
        if args.dist.is_dir() and any(args.dist.iterdir()):
            sys.exit(f"{args.dist} is not empty: remove what is in it, or check it as it is with --built")
        subprocess.run([sys.executable, "-m", "build", "--outdir", str(args.dist), str(ROOT)], check=True)
    for check in check_built(args.dist, ROOT):
        print(check, flush=True)
        found.append(check)
    wrong = sum(bool(check.wrong) for check in found)
    print(f"{len(found)} checks, {wrong or 'nothing'} wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
