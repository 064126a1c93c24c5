"""A `.npy` file that is written piece by piece, byte for byte as `numpy.save` would write it."""

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt


class ArrayFile:
    """An array of one axis on disk; the first piece settles its type.

    Pieces are written and not mapped, so they never count as memory of the process.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._dtype: np.dtype[Any] | None = None
        self._length = 0
        self._data_start = 0

    def append(self, piece: npt.NDArray[Any]) -> None:
        """Write the next elements, of the type of those before."""
        if self._dtype is None:
            self._dtype = piece.dtype
            self._write_header()
        assert (piece.ndim, piece.dtype) == (1, self._dtype)
        self._file.write(np.ascontiguousarray(piece).data)
        self._length += len(piece)

    def __enter__(self) -> "ArrayFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file, with the final length in its header unless there was an error."""
        with self._file:
            if error is None:
                assert self._dtype is not None, "no piece was written"
                self._file.seek(0)
                self._write_header()

    def _write_header(self) -> None:
        """NumPy pads a header for the largest length, so a later one fits in its place."""
        assert self._dtype is not None
        header = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._length,),
        }
        np.lib.format.write_array_header_1_0(self._file, header)
        start = self._file.tell()
        assert start == self._data_start or not self._length
        self._data_start = start
