"""The kinds of files that `tools/fuzz.py` damages: how a sound one is made, how it is damaged, how it is read."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import fuzz_changes as changes
import numpy as np
import scipy.io
import torch
from fuzz_changes import Rng, damage, edit_arrays, edit_header, edit_json, pick, repack, replace
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import hsmamba
import hsmamba.zoo.card
from hsmamba.data import PCA, Compose, Scene, SelectBands, Split, Standardise, open_scene, random_split

SIZES = {"in_chans": 4, "patch_size": 5, "num_classes": 3, "dim": 4, "d_state": 2, "filters": 2}


def digest(*values: Any) -> str:
    """Return a hash of arrays, tensors and whatever is printed the same."""
    result = hashlib.sha256()
    for value in values:
        array = np.asarray(value) if isinstance(value, torch.Tensor | np.ndarray) else None
        result.update(repr(value).encode() if array is None else f"{array.dtype}{array.shape}".encode())
        result.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
    return result.hexdigest()


def state_digest(model: torch.nn.Module) -> str:
    """Return a hash of a network's state, which must be finite."""
    state = model.state_dict()
    for name, value in state.items():
        if not bool(torch.isfinite(value).all()):
            raise AssertionError(f"{name} is not finite")
    return digest(*(part for name in sorted(state) for part in (name, state[name])))


class Case:
    """A file: how to read it, whether it is as sound as it was made, and whether it may give other content."""

    def __init__(self, read: Callable[[], str], sound: bool, free: bool) -> None:
        self.read, self.sound, self.free = read, sound, free


class Kind(ABC):
    """A kind of files, with sound ones in a folder of its own."""

    name: ClassVar[str]

    def __init__(self, home: Path) -> None:
        self.home = home
        self.make()
        self.sound = self.read(home)

    @abstractmethod
    def make(self) -> None:
        """Write sound files into `self.home`."""

    @abstractmethod
    def read(self, folder: Path) -> str:
        """Read the files of a folder by the public API, and return a hash of all that they give."""

    @abstractmethod
    def damage(self, folder: Path, rng: Rng) -> bool:
        """Damage a copy; say whether it may give other content, because nothing on record tells."""

    def case(self, folder: Path, rng: Rng) -> Case:
        """Make a case in a new folder; one in twenty is left as it is, and must be read."""
        shutil.copytree(self.home, folder)
        sound = bool(rng.random() < 0.05)
        return Case(lambda: self.read(folder), sound, not sound and self.damage(folder, rng))


def entry_of(path: Path) -> dict[str, Any]:
    """Describe a file as a `config.json` does."""
    content = path.read_bytes()
    return {"file": path.name, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def sign(folder: Path) -> None:
    """Let a `config.json` name the files as they are."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["files"] = {which: entry_of(folder / entry["file"]) for which, entry in config["files"].items()}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def rewrite(path: Path, rng: Rng) -> None:
    """Write a safetensors file anew with other arrays."""
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    save_file(edit_arrays(load_file(path), rng), path, metadata)


def _model() -> torch.nn.Module:
    torch.manual_seed(0)
    return hsmamba.create_model("md2f_mamba", **SIZES)


def _pixels() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(60, 6))


def _split() -> Split:
    return random_split(np.arange(48).reshape(6, 8) % 3 + 1, count=4)


class _Weights(Kind):
    """Model folders: their tensors damaged, forged with a right record, or loaded by themselves."""

    name = "weights"
    files: ClassVar[tuple[str, ...]] = ("model.safetensors",)

    def make(self) -> None:
        transform = Compose([Standardise(), PCA(4)]).fit(_pixels())
        hsmamba.save_pretrained(_model(), self.home, transform=transform, split=_split(), class_names=("a", "b", "c"))

    def read(self, folder: Path) -> str:
        if (folder / "alone").exists():
            path = folder / "model.safetensors"
            return state_digest(hsmamba.create_model("md2f_mamba", checkpoint_path=path, **SIZES))
        model = hsmamba.create_model(f"local-dir:{folder}")
        given = model.transform(_pixels()) if model.transform else None
        split = hsmamba.zoo.source.find_folder(f"local-dir:{folder}").load_split()
        parts = (split.train, split.test, split.val, split.shape) if split else ()
        return digest(state_digest(model), given, *parts)

    def damage(self, folder: Path, rng: Rng) -> bool:
        path = folder / pick(rng, self.files)
        pick(rng, [damage, edit_header, rewrite, replace])(path, rng)
        if not path.is_file() or path.is_symlink() or rng.random() < 0.3:
            return False
        if self.name == "weights" and rng.random() < 0.3:
            (folder / "alone").touch()
        else:
            sign(folder)
        return True


class _Transforms(_Weights):
    """Transforms in a model folder, forged with a right record or not."""

    name = "transforms"
    files = ("transform.safetensors",)


class _Splits(_Weights):
    """Splits in a model folder; their own hash guards the pixels."""

    name = "splits"
    files = ("split.safetensors",)

    def read(self, folder: Path) -> str:
        split = hsmamba.zoo.source.find_folder(f"local-dir:{folder}").load_split()
        return digest(split.train, split.test, split.val, split.shape) if split else "none"

    def damage(self, folder: Path, rng: Rng) -> bool:
        super().damage(folder, rng)
        return False


class _Configs(Kind):
    """The config.json of model folders, of a classifier and of a fusion network with nested arguments."""

    name = "configs"

    def make(self) -> None:
        torch.manual_seed(0)
        args = hsmamba.models.entry("le_mamba").cfg.tiny
        transform = Compose([SelectBands([0, 1, 2, 4]), Standardise()]).fit(_pixels())
        metrics = {"random": {"oa": {"mean": 0.5, "std": 0.1}, "aa": None}, "kappa": 0.5}
        data = {"name": "Made", "source": "made", "sensor": "none", "baselines": {"forest": {"oa": 0.4}}}
        facts = {"class_names": ("a", "b", "c"), "metrics": metrics, "data": data, "recipe": {"epochs": 3}}
        hsmamba.save_pretrained(
            _model(), self.home / "a", transform=transform, wavelengths=range(400, 1000, 100), **facts
        )
        hsmamba.save_pretrained(hsmamba.create_model("le_mamba", **args), self.home / "b", metrics={"sam": 1.0})

    def read(self, folder: Path) -> str:
        names = [f"local-dir:{folder / name}" for name in ("a", "b")]
        models = [hsmamba.create_model(name) for name in names]
        found = hsmamba.zoo.source.find_folder(names[0])
        hsmamba.zoo.card.model_card(found.architecture, found).encode()
        str(hsmamba.model_info(names[0])).encode()
        return digest(*map(state_digest, models))

    def damage(self, folder: Path, rng: Rng) -> bool:
        path = folder / pick(rng, ["a", "b"]) / "config.json"
        way = pick(rng, [edit_json] * 7 + [self._arguments] * 5 + [damage] * 2 + [replace])
        way(path, rng)
        return False

    def _arguments(self, path: Path, rng: Rng) -> None:
        config = json.loads(path.read_text(encoding="utf-8"))
        config["model_args"] = changes.edited(config["model_args"], rng)
        path.write_text(json.dumps(config), encoding="utf-8")


class Evil:
    """What runs a command when it is unpickled by a careless reader."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


class _Pth(Kind):
    """Files of torch.save, of both formats."""

    name = "pth"

    def make(self) -> None:
        torch.save({"state_dict": _model().state_dict(), "oa": np.float64(0.5), "epoch": 3}, self.home / "own.pth")
        torch.save(_model().state_dict(), self.home / "old.pth", _use_new_zipfile_serialization=False)

    def read(self, folder: Path) -> str:
        path = folder / ("old.pth" if (folder / "old").exists() else "own.pth")
        here = os.getcwd()
        try:
            os.chdir(folder)
            model = hsmamba.create_model("md2f_mamba", checkpoint_path=path, **SIZES)
            converted = hsmamba.load_official("md2f_mamba", hsmamba.zoo.official.read_official(path), **SIZES)
        finally:
            os.chdir(here)
            if (folder / "ran").exists():
                raise AssertionError("the file ran a command")
        if state_digest(converted) != state_digest(model):
            raise AssertionError("converted, it has other weights")
        return state_digest(model)

    def damage(self, folder: Path, rng: Rng) -> bool:
        way = pick(rng, [self._whole, self._whole, self._old, self._pickle, self._pickle, self._content, self._forged])
        return bool(way(folder, rng))

    def _whole(self, folder: Path, rng: Rng) -> bool:
        pick(rng, [damage, damage, replace])(folder / "own.pth", rng)
        return False  # the archive's checksums tell

    def _old(self, folder: Path, rng: Rng) -> bool:
        (folder / "old").touch()
        pick(rng, [damage, damage, replace])(folder / "old.pth", rng)
        return True

    def _pickle(self, folder: Path, rng: Rng) -> bool:
        def change(name: str, content: bytes) -> bytes:
            return changes.damaged(content, rng) if name.endswith("data.pkl") else content

        repack(folder / "own.pth", change)
        return True

    def _content(self, folder: Path, rng: Rng) -> bool:
        state: dict[Any, Any] = dict(_model().state_dict())
        key = pick(rng, state)
        value = state[key]
        others = [
            *(torch.full_like(value, number) for number in (0, 1, -1)),
            *(value.double() * 1e300, value.double() * torch.nan, value.to(torch.int64), value.to(torch.complex64)),
            *(value[None], value.reshape(-1)[:0], value.new_zeros(()).expand(10**9), torch.empty(10**12, 0)),
            *(value.flatten().to_sparse(), value.to(torch.bfloat16), value.numpy(), [value], None, Evil(), 3, "x"),
        ]
        state[key] = pick(rng, others)
        nest = pick(rng, [lambda x: x, lambda x: {"model": x}, lambda x: {"net": {"params": x}}, lambda x: [x]])
        held = nest({pick(rng, ["", "module.", "_orig_mod.", "model.module."]) + str(k): v for k, v in state.items()})
        torch.save(held, folder / "own.pth", _use_new_zipfile_serialization=bool(rng.random() < 0.7))
        return True

    def _forged(self, folder: Path, rng: Rng) -> bool:
        deep = b"\x80\x02}" + b")" + b"\x85" * int(rng.integers(10, 200_000)) + b"K\x01s."
        wide = b"\x80\x02})q\x000" + b"".join(b"h%ch%c\x86q%c0" % (k, k, k + 1) for k in range(90)) + b"h\x5aK\x01s."
        itself = b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s."
        contents = [deep, wide, itself, pickle.dumps(Evil()), pickle.dumps(Evil(), 0), b"\x80\x02.", b"]" * 9999 + b"."]
        content = pick(rng, contents)
        path = folder / "own.pth"
        if rng.random() < 0.3:
            path.write_bytes(content)
        elif rng.random() < 0.2:
            torch.save({"zeros": torch.zeros(5_000_000)}, path)
            repack(path, lambda name, old: old, compress=True)
        else:
            repack(path, lambda name, old: content if name.endswith("data.pkl") else old)
        return True


class _Checkpoints(Kind):
    """Checkpoints of finetune, by which a finished run is resumed."""

    name = "checkpoints"

    def make(self) -> None:
        self._train(_model(), checkpoint=self.home / "checkpoint.pt")

    def _train(self, model: torch.nn.Module, **keeping: Any) -> None:
        cube = np.random.default_rng(0).normal(size=(6, 8, 4)).astype(np.float32)
        labels = np.arange(48).reshape(6, 8) % 3 + 1
        hsmamba.finetune(model, Scene(cube, labels), _split(), epochs=1, warmup_epochs=0, progress=False, **keeping)

    def read(self, folder: Path) -> str:
        model = _model()
        self._train(model, resume=folder / "checkpoint.pt")
        return state_digest(model)

    def damage(self, folder: Path, rng: Rng) -> bool:
        way = pick(rng, [damage, damage, self._content, replace])
        way(folder / "checkpoint.pt", rng)
        return bool(way == self._content)  # as an older version wrote it, without a checksum

    def _content(self, path: Path, rng: Rng) -> None:
        state = torch.load(path, weights_only=True)
        holder = pick(rng, [state, state["best"], state["best"]["state"], state["model"], state["optimizer"]])
        key = pick(rng, holder)
        value = holder[key]
        if isinstance(value, torch.Tensor) and rng.random() < 0.8:
            others = [
                value + 1,
                value.double() * torch.nan,
                value[None],
                value.reshape(-1)[:0],
                value.to(torch.complex64),
            ]
            holder[key] = pick(rng, others)
        else:
            holder[key] = changes.nasty(rng)
        torch.save(state, path)


class _Scenes(Kind):
    """Scene files; all of their values are read."""

    file: ClassVar[str]
    parts: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[Mapping[str, Any]] = {}

    def cube(self) -> np.ndarray:
        """Return the values of a sound file."""
        return np.random.default_rng(0).integers(0, 1000, (7, 9, 5)).astype(np.uint16)

    def read(self, folder: Path) -> str:
        scene = open_scene(folder / self.file, **self.options)
        values = np.asarray(scene.hsi)
        if values.shape != scene.hsi.shape or values.dtype.kind not in "biuf":
            raise AssertionError(f"values are {values.dtype} {values.shape} of {scene.hsi.shape}")
        return digest(values, *(np.asarray(x) for x in (scene.wavelengths, scene.labels) if x is not None))

    def damage(self, folder: Path, rng: Rng) -> bool:
        path = folder / pick(rng, self.parts or (self.file,))
        pick(rng, [damage, damage, damage, damage, self.edit, replace])(path, rng)
        return True

    def edit(self, path: Path, rng: Rng) -> None:
        """Change what a format says of itself; by default the bytes alone."""
        damage(path, rng)


class _Mat(_Scenes):
    """MATLAB v5."""

    name, file = "mat v5", "scene.mat"
    options: ClassVar[Mapping[str, Any]] = {"variable": "cube"}

    def make(self) -> None:
        scipy.io.savemat(self.home / self.file, {"cube": self.cube(), "gt": np.ones((7, 9))}, do_compression=True)

    def edit(self, path: Path, rng: Rng) -> None:
        scipy.io.savemat(path, {"cube": self.cube(), "gt": np.ones((7, 9))})
        damage(path, rng)


class _Hdf5(_Scenes):
    """MATLAB v7.3, which is HDF5."""

    name, file = "mat v7.3", "scene.mat"
    options: ClassVar[Mapping[str, Any]] = {"variable": "cube"}

    def make(self) -> None:
        self._write(self.home / self.file, {})

    def _write(self, path: Path, options: Mapping[str, Any]) -> None:
        import h5py

        with h5py.File(path, "w", userblock_size=512) as file:
            file.create_dataset("cube", data=self.cube().T, **options)
            file["cube"].attrs["MATLAB_class"] = np.bytes_("uint16")
        with path.open("r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")

    def edit(self, path: Path, rng: Rng) -> None:
        import h5py

        self._write(
            path, pick(rng, [{"chunks": (5, 9, 7), "compression": "gzip"}, {"shuffle": True, "fletcher32": True}])
        )
        with h5py.File(path, "r+") as file:
            way = pick(rng, range(6))
            if way < 2:
                del file["cube"]
            if way == 0:
                file["cube"] = h5py.ExternalLink("/etc/passwd", "/cube")
            elif way == 1:
                file.create_dataset("cube", (10**9, 10**9), "f8", chunks=(1000, 1000))
            elif way == 2:
                file["cube"].attrs["MATLAB_class"] = pick(rng, [b"char", b"struct", 3, ""])
            elif way == 3:
                file["more"] = h5py.SoftLink("/more")
        if way > 3:
            damage(path, rng)


class _Numpy(_Scenes):
    """Arrays of numpy, mapped."""

    name, file = "npy", "scene.npy"

    def make(self) -> None:
        np.save(self.home / self.file, self.cube())

    def edit(self, path: Path, rng: Rng) -> None:
        content = path.read_bytes()
        end = 10 + int.from_bytes(content[8:10], "little")
        shape = pick(
            rng, ["(7, 9, 5)", "(70, 9, 5)", "(10**9,)", "(1000000000000, 9, 5)", "(-7, -9, 5)", "()", "(7.0, 9, 5)"]
        )
        kind = pick(
            rng, ["<u2", "|O", "<f16", "<M8[s]", "|V2", "<U1", "<u2", ">u2", "|S0", "('<u2', (3,))", "nonsense"]
        )
        order = pick(rng, ["False", "True", "None"])
        text = f"{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}".ljust(end - 11)[: end - 11] + "\n"
        path.write_bytes(content[:10] + text.encode() + content[end:])


class _Npz(_Scenes):
    """Archives of numpy."""

    name, file = "npz", "scene.npz"
    options: ClassVar[Mapping[str, Any]] = {"variable": "cube"}

    def make(self) -> None:
        np.savez_compressed(self.home / self.file, cube=self.cube(), gt=np.ones((7, 9)))

    def edit(self, path: Path, rng: Rng) -> None:
        if rng.random() < 0.2:
            np.savez_compressed(path, cube=np.zeros((50, 1000, 1000), np.uint8))
        else:
            repack(path, lambda name, content: changes.damaged(content, rng), compress=True)


class _Envi(_Scenes):
    """An ENVI image with its header."""

    name, file = "envi", "scene.hdr"
    parts = ("scene.hdr", "scene.hdr", "scene.img")

    def make(self) -> None:
        fields = {
            "samples": 9,
            "lines": 7,
            "bands": 5,
            "header offset": 0,
            "file type": "ENVI Standard",
            "data type": 12,
        }
        fields |= {"interleave": "bil", "byte order": 0, "wavelength units": "Nanometers"}
        fields |= {"wavelength": "{400, 500, 600, 700, 800}", "bbl": "{1, 1, 1, 0, 1}", "data ignore value": 1}
        fields |= {"map info": "{UTM, 1, 1, 500000, 4000000, 30, 30, 32, North, WGS-84}"}
        text = "ENVI\n" + "".join(f"{key} = {value}\n" for key, value in fields.items())
        (self.home / self.file).write_text(text, encoding="utf-8")
        self.cube().transpose(0, 2, 1).tofile(self.home / "scene.img")

    def edit(self, path: Path, rng: Rng) -> None:
        if path.suffix != ".hdr":
            return damage(path, rng)
        lines = path.read_text(encoding="utf-8").splitlines()
        place = int(rng.integers(1, len(lines)))
        key = lines[place].partition(" = ")[0]
        others = [
            "-1",
            "0",
            "99999999999",
            "1e400",
            "nan",
            "{",
            "{}",
            "}",
            "{1, 2",
            "x",
            "",
            "12",
            "é\0",
            "{1,}",
            "bsq",
            "../x",
        ]
        lines[place] = f"{key} = {pick(rng, others)}"
        path.write_text("\n".join(lines), encoding="utf-8")
        return None


class _GeoTiff(_Scenes):
    """A GeoTIFF, in strips or tiles, compressed or not."""

    name, file = "geotiff", "scene.tif"

    def make(self) -> None:
        self._write(self.home / self.file, {})

    def _write(self, path: Path, options: Mapping[str, Any]) -> None:
        import rasterio
        from rasterio.transform import from_origin

        profile = {"driver": "GTiff", "height": 7, "width": 9, "count": 5, "dtype": "uint16", "crs": "EPSG:32632"}
        profile |= {"transform": from_origin(500000, 4000000, 30, 30), "nodata": 1}
        with rasterio.open(path, "w", **profile, **options) as file:
            file.write(self.cube().transpose(2, 0, 1))
            for band in range(5):
                file.update_tags(band + 1, wavelength=400 + 100 * band, wavelength_units="nm")

    def edit(self, path: Path, rng: Rng) -> None:
        if rng.random() < 0.3:
            vrt = '<VRTDataset rasterXSize="9" rasterYSize="7"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
            vrt += f"<SourceFilename>{pick(rng, ['/etc/passwd', '/vsicurl/http://127.0.0.1:9/a.tif'])}</SourceFilename>"
            path.write_text(vrt + "</SimpleSource></VRTRasterBand></VRTDataset>")
            return
        compress = pick(rng, ["deflate", "lzw", "zstd", "packbits", "none"])
        tiled = {"tiled": True, "blockxsize": 16, "blockysize": 16} if rng.random() < 0.5 else {}
        path.unlink()
        self._write(path, {"compress": compress, "interleave": pick(rng, ["band", "pixel"]), **tiled})
        damage(path, rng)


KINDS: tuple[type[Kind], ...] = (
    *(_Weights, _Transforms, _Splits, _Configs, _Pth, _Checkpoints),
    *(_Mat, _Hdf5, _Numpy, _Npz, _Envi, _GeoTiff),
)
