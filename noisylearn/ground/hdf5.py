"""HDF5 files of anyone, opened only where all they hold is numbers and texts that lie in the file itself.

The format can do more: datasets that lie in other files, links that lead there, objects of any type, shapes that claim
more memory than there is. One look refuses all of that before anything is read.
"""

import io
import math
import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import h5py
import numpy as np

from noisylearn.ground.errors import UserError, shortened

MOST_OBJECTS, DEEPEST = 100_000, 32
PACKING = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_LZF}
HARMLESS = {h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
MOST_PACKED = 1032  # times that deflate can make data smaller
MOST_TEXT = 2**24  # characters, of all texts in one dataset
REFERENCE = np.dtype([("characters", "<u4"), ("heap", "<u8"), ("index", "<u4")])  # to a text, as HDF5 stores it


@contextmanager
def opened(content: bytes, where: str, otherwise: str, without: Collection[str] = ()) -> Iterator[h5py.File]:
    """Open the content of an HDF5 file, once it was looked through.

    Args:
        content: of the file.
        where: kind of file and its path, for messages.
        otherwise: what to say of damaged content.
        without: names in the file's root that are not looked through, and must not be read.

    Raises:
        UserError: it is damaged, in what is read of it inside the block as well, or holds something that is neither a
            number nor a text in the file itself.
    """
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            _look_through(file, content, without)
            yield file
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except Exception as error:  # whatever HDF5 makes of damaged bytes
        reason = shortened(f"{type(error).__name__}: {error}", 200)
        raise UserError(f"{where}: {otherwise} ({reason})") from None


def _look_through(file: h5py.File, content: bytes, without: Collection[str]) -> None:
    """Refuse everything but groups of numbers and texts in the file itself, each of them once."""
    seen, waiting = {_address(file)}, [(file, 0)]
    while waiting:
        group, depth = waiting.pop()
        _check_attributes(group, content)
        for key in (key for key in group if depth or key not in without):
            place = shortened(f"{group.name.rstrip('/')}/{key}")
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise UserError(f"'{place}' is a link; only data in the file itself is read")
            item = group[key]
            if _address(item) in seen or len(seen) >= MOST_OBJECTS or depth >= DEEPEST:
                raise UserError(f"'{place}' is there twice, or too deep or one too many for a file of this kind")
            seen.add(_address(item))
            if isinstance(item, h5py.Group):
                waiting.append((item, depth + 1))
            elif isinstance(item, h5py.Dataset):
                _check_dataset(item, place, content)
                _check_attributes(item, content)
            else:
                raise UserError(f"'{place}' is no group and no dataset")


def _address(item: h5py.Group | h5py.Dataset | h5py.Datatype) -> int:
    """Where an object lies in the file."""
    return int(h5py.h5o.get_info(item.id).addr)


def _check_attributes(item: h5py.Group | h5py.Dataset, content: bytes) -> None:
    for key in item.attrs:
        attribute = item.attrs.get_id(key)
        place = shortened(f"{item.name}@{key}")
        _check_type(attribute.dtype, place)
        if attribute.shape is None or math.prod(attribute.shape) * attribute.dtype.itemsize > len(content):
            raise UserError(f"'{place}' has no size, or one that the file cannot hold")
        if h5py.check_string_dtype(attribute.dtype) is not None and _claims_too_much(key, content):
            raise UserError(f"'{place}' claims more characters than the file holds")


def _claims_too_much(key: str, content: bytes) -> bool:
    """Whether the reference to a text that stands behind an attribute's name is to more than the file holds.

    HDF5 takes the memory that it states before it looks for the text, and has no way to ask for it.
    """
    name = key.encode("utf-8", "surrogateescape") + b"\0"
    start = content.find(name)
    while start >= 0:
        for at in _values(start, content):
            characters, heap, _ = struct.unpack_from("<IQI", content, at)
            if characters > len(content) and content[heap : heap + 4] == b"GCOL":
                return True
        start = content.find(name, start + 1)
    return False


def _values(name: int, content: bytes) -> Iterator[int]:
    """Where the value of an attribute stands whose name begins here, in each of the three forms that HDF5 writes.

    Before the name stand the sizes of name, datatype and dataspace, then one more byte in the third form. In the first
    form each of the three is filled up to a multiple of eight bytes.
    """
    for before, multiple in ((6, 8), (6, 1), (7, 1)):
        if name >= before:
            sizes = struct.unpack_from("<HHH", content, name - before)
            at = name + sum(-(-size // multiple) * multiple for size in sizes)
            if at + REFERENCE.itemsize <= len(content):
                yield at


def _check_dataset(dataset: h5py.Dataset, place: str, content: bytes) -> None:
    """Refuse data that lies elsewhere, that needs plug-ins, or whose shape claims more than its bytes can hold."""
    if dataset.is_virtual or dataset.external:
        raise UserError(f"'{place}' lies in another file; only data in the file itself is read")
    plan = dataset.id.get_create_plist()
    filters = {plan.get_filter(i)[0] for i in range(plan.get_nfilters())}
    if filters - PACKING - HARMLESS:
        raise UserError(f"'{place}' is packed by filter {max(filters - PACKING - HARMLESS)}; write it with gzip")
    _check_type(dataset.dtype, place)
    if dataset.shape is None:
        raise UserError(f"'{place}' has no size")
    stored, itemsize = dataset.id.get_storage_size(), dataset.dtype.itemsize
    claimed = math.prod(dataset.shape) * itemsize
    if dataset.chunks is not None:
        claimed = max(claimed, math.prod(dataset.chunks) * itemsize if claimed else 0)
    if stored > len(content) or claimed > stored * (MOST_PACKED if filters & PACKING else 1):
        raise UserError(f"'{place}' has the shape {shortened(str(dataset.shape))}, more than the file holds of it")
    if h5py.check_string_dtype(dataset.dtype) is not None:
        _check_texts(dataset, place, content)


def _check_type(dtype: object, place: str) -> None:
    """Refuse what is neither a text nor a number of up to 64 bits in this machine's byte order."""
    if h5py.check_string_dtype(dtype) is not None:
        return
    if dtype.kind not in "fiub" or dtype.itemsize > 8 or not dtype.isnative:  # type: ignore[attr-defined]
        raise UserError(f"'{place}' has the type {shortened(str(dtype))}; plain numbers and texts alone are read")


def _check_texts(dataset: h5py.Dataset, place: str, content: bytes) -> None:
    """Refuse texts that are long together, or say so: HDF5 takes the memory before it looks for them."""
    count, where = math.prod(dataset.shape), dataset.id.get_offset()
    if where is not None and dataset.id.get_storage_size() == REFERENCE.itemsize * count:
        characters = int(np.frombuffer(content, REFERENCE, count, where)["characters"].sum(dtype=np.int64))
    else:
        rows = dataset if dataset.ndim else [dataset[()]]
        characters = sum(len(row) if isinstance(row, bytes) else sum(map(len, row.ravel())) for row in rows)
    if characters > MOST_TEXT:
        raise UserError(f"'{place}' has {characters:,} characters, more than a file of this kind")
