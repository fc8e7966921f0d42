"""What is known of a data set: who distributes it, under which terms, what its files hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stored:
    """An array as a set's files hold it.

    Attributes:
        files: Names of the file as it is passed on, the usual one first; the first that is there is read.
        variables: Names of the array in it, likewise; one that is alone in its file may have any name.
        folder: Folder of data that holds the file; empty for that of the set.
    """

    files: tuple[str, ...]
    variables: tuple[str, ...] = ()
    folder: str = ""

    def __str__(self) -> str:
        """Name the file, and the array."""
        return self.files[0] + (f" ({', '.join(self.variables)})" if self.variables else "")


@dataclass(frozen=True)
class Copy:
    """One of the forms in which a scene is passed on: its arrays by what they are.

    Attributes:
        hsi: Cube (H, W, B).
        labels: Map (H, W); None where the maps of the split are all there is.
        aux: Images of other sensors (H, W) or (H, W, C), one behind the other.
        train: Map (H, W) of the training pixels.
        test: Map (H, W) of the test pixels.
        index: File of the pixels of the split: two arrays (N, 2) of rows and columns from 0, training and test.
        struct: Whether `hsi` is a MATLAB structure that holds everything, as MUUFL Gulfport is distributed.
    """

    hsi: Stored
    labels: Stored | None = None
    aux: tuple[Stored, ...] = ()
    train: Stored | None = None
    test: Stored | None = None
    index: Stored | None = None
    struct: bool = False

    @property
    def parts(self) -> tuple[Stored, ...]:
        """All that must be there to read the scene; maps beside `labels` are for the split alone."""
        maps = (self.train, self.test) if self.labels is None else ()
        return tuple(part for part in (self.hsi, *self.aux, self.labels, *maps) if part is not None)


@dataclass(frozen=True)
class Facts:
    """What is known of a data set.

    Attributes:
        title: Usual name.
        page: Where it is distributed.
        license: Terms; "not stated" where its page names none.
        citation: What its authors want to be cited.
        sensor: What took it.
        quantity: What the numbers are.
        shape: Rows, columns and bands (H, W, B) of a scene.
        aux: Other sources of a scene, in words.
        values: Least and largest number of the images, where it is known.
        classes: Pixels by class in the order of the classes, 0 where nobody counted.
        codes: Numbers of the classes in the map where these are not 1, 2, ...
        train: Training pixels by class of the split that is distributed with it.
        test: Test pixels likewise.
        files: What the folder of the set holds, in words; of scenes with `copies` these say it.
        sha256: Known hashes, by the name of the file.
        notes: What a user had better know.
    """

    title: str
    page: str
    license: str
    citation: str
    sensor: str = ""
    quantity: str = ""
    shape: tuple[int, ...] = ()
    aux: str = ""
    values: tuple[float, float] | None = None
    classes: Mapping[str, int] = field(default_factory=dict)
    codes: tuple[int, ...] = ()
    train: tuple[int, ...] = ()
    test: tuple[int, ...] = ()
    files: tuple[str, ...] = ()
    sha256: Mapping[str, str] = field(default_factory=dict)
    notes: str = ""


@dataclass(frozen=True)
class PublishedScene:
    """A scene that others distribute.

    Attributes:
        folder: Of the folder of data, where its files lie, however deep.
        facts: What is known of it.
        copies: Forms in which it is passed on; the first that is whole is read.
    """

    folder: str
    facts: Facts
    copies: tuple[Copy, ...]
