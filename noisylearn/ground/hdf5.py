"""HDF5 files of anyone, opened only where all they hold is numbers and texts that lie in the file itself.

The format can do more: datasets that lie in other files, links that lead there, objects of any type, shapes that claim
more memory than there is, a thousand arrays on the same bytes. One look refuses all of that before anything is read.
What a file takes in memory is then at most `MOST_PACKED` times its size where it is packed, and else about its size.
"""

import io
import math
import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import h5py
import numpy as np

from noisylearn.ground.errors import UserError, shortened

MOST_OBJECTS, DEEPEST = 100_000, 32  # attributes count as objects
PACKING = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_LZF}
HARMLESS = {h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
MOST_PACKED = 1032  # times that deflate can make data smaller
MOST_TEXT = 2**24  # characters, of all texts in a file
MOST_NAMES = 1000  # of attributes that are texts; for each, the whole file is searched
NUMBERS = {h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM}
ADDRESSES = (8, 8)  # bytes of an address and of a length
HEAP = b"GCOL\x01"  # a collection of texts begins so, and has its length at 8 and its texts from 16 on
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
        if not _texts_end(content):
            raise UserError(otherwise)
        with h5py.File(io.BytesIO(content), "r") as file:
            _Look(content, len(content)).through(file, without)
            yield file
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except MemoryError:
        raise UserError(f"{where}: this machine has too little memory to read it") from None
    except Exception:  # whatever HDF5 makes of damaged bytes, in words that help nobody
        raise UserError(f"{where}: {otherwise}") from None


@dataclass
class _Look:
    """One look through a file, which counts what the file claims to hold.

    Args:
        content: of the file.
        left: bytes of it that nothing has claimed yet.
    """

    content: bytes
    left: int
    objects: int = field(default=0, init=False)
    characters: int = field(default=0, init=False)
    names: set[str] = field(default_factory=set, init=False)  # of attributes that are texts

    def through(self, file: h5py.File, without: Collection[str]) -> None:
        """Refuse everything but groups of numbers and texts in the file itself, each of them once."""
        written = file.id.get_create_plist()
        if written.get_userblock() or written.get_sizes() != ADDRESSES:
            raise UserError("it does not begin as HDF5 files of this kind do; write it anew, without a user block")
        seen, waiting = {_address(file)}, [(file, 0)]
        while waiting:
            group, depth = waiting.pop()
            self._check_attributes(group)
            for key in (key for key in group if depth or key not in without):
                place = shortened(f"{group.name.rstrip('/')}/{key}")
                if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                    raise UserError(f"'{place}' is a link; only data in the file itself is read")
                item = group[key]
                if _address(item) in seen or depth >= DEEPEST:
                    raise UserError(f"'{place}' is there twice, or too deep for a file of this kind")
                seen.add(_address(item))
                self._count(place)
                if isinstance(item, h5py.Group):
                    waiting.append((item, depth + 1))
                elif isinstance(item, h5py.Dataset):
                    self._check_dataset(item, place)
                    self._check_attributes(item)
                else:
                    raise UserError(f"'{place}' is no group and no dataset")

    def _count(self, place: str) -> None:
        self.objects += 1
        if self.objects > MOST_OBJECTS:
            raise UserError(f"'{place}' is one too many for a file of this kind")

    def _take(self, size: int, place: str) -> None:
        """Count bytes of the file, which nothing else is stored in."""
        self.left -= size
        if self.left < 0:
            raise UserError(f"'{place}' claims more than the file holds, or what something else in it claims too")

    def _add_characters(self, number: int, place: str) -> None:
        """Count the characters of texts, several of which may be stored as one."""
        self.characters += number
        if self.characters > MOST_TEXT:
            raise UserError(f"'{place}' makes {self.characters:,} characters, more than a file of this kind has")

    def _check_attributes(self, item: h5py.Group | h5py.Dataset) -> None:
        for key in item.attrs:
            attribute = item.attrs.get_id(key)
            place = shortened(f"{item.name}@{key}")
            self._count(place)
            is_text = _is_text(attribute.get_type(), place)
            if attribute.shape is None or (is_text and attribute.shape):
                raise UserError(f"'{place}' has no size, or is more than one text")
            self._take(math.prod(attribute.shape) * attribute.dtype.itemsize, place)
            if is_text:
                self._check_text(attribute, key, place)
                self._add_characters(len(item.attrs[key]), place)

    def _check_text(self, attribute: h5py.h5a.AttrID, key: str, place: str) -> None:
        """Refuse an attribute with a text that states more characters than the file holds."""
        if attribute.get_storage_size() != REFERENCE.itemsize:
            raise UserError(f"'{place}' is no text as HDF5 stores one")
        if key in self.names:
            return
        self.names.add(key)
        if len(self.names) > MOST_NAMES:
            raise UserError(f"'{place}' is one name too many for a file of this kind")
        if _claims_too_much(key, self.content):
            raise UserError(f"'{place}' claims more characters than the file holds")

    def _check_dataset(self, dataset: h5py.Dataset, place: str) -> None:
        """Refuse data that lies elsewhere, that needs plug-ins, or whose shape claims more than its bytes can hold."""
        if dataset.is_virtual or dataset.external:
            raise UserError(f"'{place}' lies in another file; only data in the file itself is read")
        plan = dataset.id.get_create_plist()
        filters = [plan.get_filter(i)[0] for i in range(plan.get_nfilters())]
        packed = [one for one in filters if one not in HARMLESS]
        if {*packed} - PACKING or len(packed) > 1:
            named = " and ".join(f"filter {one}" for one in packed)
            raise UserError(f"'{place}' is packed by {named}; write it with gzip")
        is_text = _is_text(dataset.id.get_type(), place)
        if dataset.shape is None:
            raise UserError(f"'{place}' has no size")
        stored, itemsize = dataset.id.get_storage_size(), dataset.dtype.itemsize
        self._take(stored, place)
        claimed = math.prod(dataset.shape) * itemsize
        if dataset.chunks is not None:
            claimed = max(claimed, math.prod(dataset.chunks) * itemsize if claimed else 0)
        if claimed > stored * (MOST_PACKED if packed else 1):
            raise UserError(f"'{place}' has the shape {shortened(str(dataset.shape))}, more than the file holds of it")
        if is_text and claimed:
            self._check_texts(dataset, place)

    def _check_texts(self, dataset: h5py.Dataset, place: str) -> None:
        """Refuse texts that are long together, or say so: HDF5 takes the memory before it looks for them."""
        count, where = math.prod(dataset.shape), dataset.id.get_offset()
        if where is None or dataset.id.get_storage_size() != REFERENCE.itemsize * count:
            raise UserError(f"'{place}' holds texts in chunks; write them in one piece")
        references = np.frombuffer(self.content, REFERENCE, count, where)
        self._add_characters(int(references["characters"].sum(dtype=np.int64)), place)


def _texts_end(content: bytes) -> bool:
    """Whether HDF5 comes to the end of every collection of texts: where a free place has no length, it never does."""
    start, left = content.find(HEAP), len(content)
    while start >= 0:
        end = start + int.from_bytes(content[start + 8 : start + 16], "little")
        if end <= len(content):
            left -= end - start
            if left < 0 or not _ends(start + 16, end, content):
                return False
        start = content.find(HEAP, start + 1)
    return True


def _ends(at: int, end: int, content: bytes) -> bool:
    """Whether the texts from one place on end at another; a free place, of index 0, states its length as a whole.

    Raises:
        UserError: one is no text, but says which data lies in other files: HDF5 takes memory for all that it claims.
    """
    while at + 16 <= end:
        index, length = struct.unpack_from("<H6xQ", content, at)
        if not index and not length:
            return False
        if index and content[at + 16 : at + 17] in (b"\0", b"\1"):
            raise UserError("some of it lies in another file; only data in the file itself is read")
        at += 16 + -(-length // 8) * 8 if index else length
    return at <= end


def _address(item: h5py.Group | h5py.Dataset | h5py.Datatype) -> int:
    """Where an object lies in the file."""
    return int(h5py.h5o.get_info(item.id).addr)


def _is_text(kind: h5py.h5t.TypeID, place: str) -> bool:
    """Whether something is texts of any length. Raises UserError for what is neither texts nor plain numbers.

    Numbers have up to 64 bits in this machine's byte order. The class is asked for first: numpy's type of a thousand
    types inside one another takes gigabytes.
    """
    if kind.get_class() == h5py.h5t.STRING:
        if kind.is_variable_str() and kind.get_super().get_size() > 1:  # HDF5 takes as much for every character
            raise UserError(f"'{place}' is no text as HDF5 stores one")
        return bool(kind.is_variable_str())
    dtype = kind.dtype if kind.get_class() in NUMBERS else None
    if dtype is None or dtype.kind not in "fiub" or dtype.itemsize > 8 or not dtype.isnative:
        name = type(kind).__name__.removeprefix("Type").removesuffix("ID").lower() if dtype is None else dtype
        raise UserError(f"'{place}' has the type {name}; plain numbers and texts alone are read")
    return False


def _claims_too_much(key: str, content: bytes) -> bool:
    """Whether the reference to a text that stands behind an attribute's name is to more than the file holds.

    HDF5 takes the memory that it states before it looks for the text, and has no way to ask for it.
    """
    name = key.encode("utf-8", "surrogateescape") + b"\0"
    size, start = struct.pack("<H", len(name)), content.find(name)
    while start >= 0:
        if size in content[start - 7 : start - 4]:  # else it is a name of something else
            for at in _values(start, size, content):
                if struct.unpack_from("<I", content, at)[0] > len(content):
                    return True
        start = content.find(name, start + 1)
    return False


def _values(name: int, size: bytes, content: bytes) -> Iterator[int]:
    """Where the value of an attribute stands whose name, of this size, begins here, in the forms that HDF5 writes.

    Version and flags, one byte each, and the sizes of name, datatype and dataspace stand before the name; in version 3
    one more byte comes between. In version 1 each of the three is filled up to a multiple of eight bytes.
    """
    for version, before, multiple in ((1, 8, 8), (2, 8, 1), (3, 9, 1)):
        head = content[name - before : name - before + 8]
        if head[:1] == bytes([version]) and head[2:4] == size:
            at = name + sum(-(-one // multiple) * multiple for one in struct.unpack_from("<HHH", head, 2))
            if at + REFERENCE.itemsize <= len(content):
                yield at
