"""Read arrays from pickles without running any code in them.

A pickle is a program that names functions and calls them. Here, every name gives an inert object
that only records its call, and names outside of NumPy, scikit-learn, joblib and plain containers
are refused. Arrays are then created from the records, with their sizes checked. joblib's files are
pickles too, in which each array's bytes follow the object that describes it; they may be compressed
as a whole.
"""

import bz2
import io
import lzma
import math
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ...errors import QuantizerError
from ...filesystem import printable

#: Maximum size in bytes of an uncompressed file.
LARGEST = 4 << 30
_MODULES = ("numpy", "sklearn", "joblib", "scipy.sparse", "collections")
_NAMES = {
    ("copyreg", "_reconstructor"),
    ("copy_reg", "_reconstructor"),
    ("_codecs", "encode"),
    *(
        (module, name)
        for module in ("builtins", "__builtin__")
        for name in (
            "object",
            "set",
            "frozenset",
            "complex",
            "slice",
            "range",
            "bytearray",
            "bytes",
        )
    ),
}
_KINDS = ("b1", "f2", "f4", "f8", *(f"{sign}{size}" for sign in "iu" for size in (1, 2, 4, 8)))


class Inert:
    """A record of an object that a pickle named, called or built.

    Attributes:
        name: "module.name" of a named object; None for the result of a call.
        function: the called object.
        args: of the call.
        state: the state set on the object.
        array: the array that followed it in a joblib file.
    """

    def __init__(
        self, name: str | None = None, function: "Inert | None" = None, args: tuple[Any, ...] = ()
    ):
        self.name = name
        self.function = function
        self.args = args
        self.state: Any = None
        self.array: np.ndarray | None = None

    def __call__(self, *args: Any) -> "Inert":
        return Inert(function=self, args=args)

    def append(self, item: Any) -> None:
        """Ignore items of list subclasses, which contain no centroids."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Ignore items of dict subclasses."""
        if not isinstance(self.state, dict):
            self.state = {}
        self.state[key] = value


class _InertUnpickler(pickle._Unpickler):
    """The pure-Python unpickler, with the operations that build objects replaced."""

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: io.BytesIO):
        super().__init__(file, encoding="latin1")
        self._file = file

    def find_class(self, module: str, name: str) -> Inert:
        top = module.split(".")[0]
        if not (top in _MODULES or module in _MODULES or (module, name) in _NAMES):
            raise QuantizerError(f"it refers to {module}.{name}, which centroids have no need of")
        return Inert(f"{module}.{name}")

    def load_newobj(self) -> None:
        args = self.stack.pop()
        self.stack.append(self._noted(self.stack.pop(), args))

    def load_newobj_ex(self) -> None:
        self.stack.pop()
        self.load_newobj()

    def load_reduce(self) -> None:
        self.load_newobj()

    def load_obj(self) -> None:
        args = self.pop_mark()
        if not args:
            raise QuantizerError("it is damaged")
        self.stack.append(self._noted(args[0], tuple(args[1:])))

    def _instantiate(self, function: Any, args: Any) -> None:
        self.stack.append(self._noted(function, tuple(args)))

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if not isinstance(target, Inert):
            raise QuantizerError("it is damaged")
        target.state = state
        if target.function is not None and str(_class_name(target)).endswith("NumpyArrayWrapper"):
            target.array = self._array_behind(state)

    def load_ext(self) -> None:
        raise QuantizerError("it uses copyreg's extensions, which centroids have no need of")

    def _noted(self, function: Any, args: Any) -> Inert:
        if not isinstance(function, Inert) or not isinstance(args, tuple):
            raise QuantizerError("it is damaged")
        return Inert(function=function, args=args)

    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex
    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.OBJ[0]] = load_obj
    dispatch[pickle.BUILD[0]] = load_build
    for _code in (pickle.EXT1, pickle.EXT2, pickle.EXT4):
        dispatch[_code[0]] = load_ext

    def _array_behind(self, state: Any) -> np.ndarray:
        """Read the array whose bytes come next in a joblib file."""
        if not isinstance(state, dict):
            raise QuantizerError("it is damaged")
        dtype = _dtype(state.get("dtype"))
        if dtype is None:
            raise QuantizerError("it has an array of objects")
        shape = _shape(state.get("shape"))
        # Since joblib 1.2, a byte gives the length of the padding that aligns the array.
        if state.get("numpy_array_alignment_bytes") is not None:
            self._file.read(self._file.read(1)[0])
        count = math.prod(shape) * dtype.itemsize
        if count > self._file.getbuffer().nbytes - self._file.tell():
            raise QuantizerError("it is cut short")
        return _shaped(self._file.read(count), dtype, shape, state.get("order") == "F")


def read_pickle(path: Path) -> Any:
    """Read a pickle or joblib file; NumPy's arrays become arrays, other objects `Inert`.

    Raises:
        QuantizerError: the file is damaged, too large, or names objects that are not allowed.
    """
    try:
        content = _unpacked(path.read_bytes())
        return _revived(_InertUnpickler(io.BytesIO(content)).load(), {})
    except QuantizerError as error:
        raise QuantizerError(f"{printable(path)} is not read: {error}") from error
    except Exception as error:
        # A damaged pickle can raise any exception.
        raise QuantizerError(f"{printable(path)} is not a pickle, or damaged: {error!r}") from error


def _unpacked(content: bytes) -> bytes:
    decompressor: Any
    if content[:1] == b"\x78" or content[:2] == b"\x1f\x8b":
        decompressor = zlib.decompressobj(wbits=47)
    elif content[:3] == b"BZh":
        decompressor = bz2.BZ2Decompressor()
    elif content[:6] == b"\xfd7zXZ\x00" or content[:3] == b"\x5d\x00\x00":
        decompressor = lzma.LZMADecompressor()
    else:
        return content
    unpacked: bytes = decompressor.decompress(content, LARGEST)
    if not decompressor.eof:
        raise QuantizerError(f"it is cut short, or unpacks to more than {LARGEST} bytes")
    return unpacked


def _class_name(value: Inert) -> str | None:
    """Return the name of a value's class."""
    function = value.function
    if function is None:
        return None
    if function.name in ("copyreg._reconstructor", "copy_reg._reconstructor") and value.args:
        function = value.args[0]
    return function.name if isinstance(function, Inert) else None


def _dtype(value: Any) -> np.dtype | None:
    """Return the NumPy dtype of a recorded `numpy.dtype`, if it is a plain number's."""
    if not isinstance(value, Inert) or _class_name(value) != "numpy.dtype" or not value.args:
        return None
    kind = value.args[0]
    order = value.state[1] if isinstance(value.state, tuple) and len(value.state) > 1 else "="
    if kind not in _KINDS or order not in ("<", ">", "=", "|"):
        return None
    found: np.dtype = np.dtype(kind).newbyteorder(order)
    return found


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, tuple) or any(type(n) is not int or n < 0 for n in value):
        raise QuantizerError("it has an array of no shape")
    return value


def _revived(value: Any, done: dict[int, Any]) -> Any:
    """Replace recorded arrays by arrays, in plain containers and objects."""
    if id(value) in done:
        return done[id(value)]
    done[id(value)] = value
    if isinstance(value, dict):
        for key in value:
            value[key] = _revived(value[key], done)
    elif isinstance(value, list):
        value[:] = [_revived(item, done) for item in value]
    elif isinstance(value, Inert):
        array = value.array if value.array is not None else _array(value)
        if array is not None:
            done[id(value)] = array
            return array
        value.state = _revived(value.state, done)
    return value


def _array(value: Inert) -> np.ndarray | None:
    """Create the array of a recorded NumPy pickle."""
    name = str(value.function.name) if value.function is not None else ""
    state = value.state
    if name.endswith("multiarray._reconstruct") and isinstance(state, tuple) and len(state) == 5:
        _, shape, kind, by_columns, content = state
    elif name.endswith("numeric._frombuffer") and len(value.args) == 4:
        # Protocol 5.
        content, kind, shape, order = value.args
        by_columns = order == "F"
    else:
        return None
    if isinstance(content, Inert) and content.function is not None:
        # Protocol 2 stores bytes as text: _codecs.encode(text, "latin1").
        content = content.args[0] if content.args else None
    if isinstance(content, str):
        content = content.encode("latin1")
    dtype = _dtype(kind)
    if dtype is None or not isinstance(content, bytes | bytearray):
        return None
    return _shaped(content, dtype, _shape(shape), bool(by_columns))


def _shaped(
    content: bytes | bytearray, dtype: np.dtype, shape: tuple[int, ...], by_columns: bool
) -> np.ndarray:
    if math.prod(shape) * dtype.itemsize != len(content):
        raise QuantizerError("it has an array of a shape unlike its bytes")
    values = np.frombuffer(content, dtype)
    return values.reshape(shape[::-1]).T if by_columns else values.reshape(shape)
