"""Files for other programs: written beside their place and renamed when all of them are whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from enformer_ray.errors import OutputExistsError, disk_error


class Outputs:
    """The files of one command: in a hidden folder beside their place until `publish`; removed if that is not reached.

    Args:
        target: a file, or the beginning of the paths of several; its folder is made if it is not there.
        force: write over files that are there.

    Attributes:
        folder: the hidden folder.
    """

    def __init__(self, target: Path, force: bool = False) -> None:
        self._target, self._force = target.absolute(), force
        self._names: list[str] = []

    def __enter__(self) -> Outputs:
        """Make the folder."""
        try:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self.folder = Path(tempfile.mkdtemp(prefix=".tmp-", dir=self._target.parent))
        except OSError as error:
            raise disk_error(error) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the files their names if nothing went wrong."""
        try:
            if kind is None:
                self._publish()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, suffix: str = "") -> Path:
        """Where to write the file that will be `target` with `suffix` behind it.

        Raises:
            OutputExistsError: it is there already, and `force` was not given.
        """
        name = self._target.name + suffix.replace("/", "%2F")  # contigs may be called anything
        refuse_existing(self._target.with_name(name), self._force)
        self._names.append(name)
        return self.folder / name

    def existing(self, suffix: str) -> None:
        """Refuse at the start what would only be found at the end."""
        refuse_existing(self._target.with_name(self._target.name + suffix), self._force)

    @property
    def written(self) -> list[Path]:
        """The files, under their final names."""
        return [self._target.with_name(name) for name in self._names]

    def _publish(self) -> None:
        for name in self._names:
            refuse_existing(self._target.with_name(name), self._force)
        for name in self._names:
            with (self.folder / name).open("rb") as file:
                os.fsync(file.fileno())
            (self.folder / name).replace(self._target.with_name(name))


@contextmanager
def output_folder(target: Path, force: bool = False) -> Iterator[Path]:
    """A folder to write into, that becomes `target` when the block ends without an error.

    Args:
        target: a folder that is not there, or is empty.
        force: put it in the place of one that is there.

    Raises:
        OutputExistsError: it is there, holds something, and `force` was not given; or it is a file.
    """
    target = target.absolute()
    there = target.exists() and (not target.is_dir() or any(target.iterdir()))
    if there and (not target.is_dir() or not force):
        raise OutputExistsError(
            f"{target} is there already; give another --output, or --force to put the new one there."
        )
    with Outputs(target.with_name(target.name + ".parts"), force=True) as outputs:
        folder = outputs.folder / target.name
        folder.mkdir()
        yield folder
        if target.exists():
            target.rename(outputs.folder / "replaced")
        folder.rename(target)


def refuse_existing(path: Path, force: bool) -> None:
    """Refuse to write over a file.

    Raises:
        OutputExistsError: there is one, and `force` was not given; or a folder.
    """
    if path.is_dir():
        raise OutputExistsError(f"{path} is a folder; give --output the name of a file.")
    if path.exists() and not force:
        raise OutputExistsError(f"{path} is there already; give another --output, or --force to write over it.")


def refuse_inputs(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Refuse to write over a file that is read.

    Raises:
        OutputExistsError: an output is one of the inputs, whatever --force says.
    """
    for output in outputs:
        if output.exists() and any(source.exists() and source.samefile(output) for source in inputs):
            raise OutputExistsError(f"{output} is read by this command; give another --output.")
