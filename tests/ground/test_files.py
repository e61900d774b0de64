"""Files of anyone: what is read of them, what is replaced by ours, and who computes one."""

import os
import resource
import signal
import stat
import struct
import subprocess
import sys
import time
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

from noisylearn.ground.errors import MOST_CHARACTERS, UserError, shortened
from noisylearn.ground.hdf5 import _claims_too_much, opened
from noisylearn.ground.lock import held
from noisylearn.ground.regular import read_regular
from noisylearn.ground.replace import FORCE, replace_file
from noisylearn.ground.tree_file import TreeFile


class AnyFile(TreeFile):
    what, mend = "file of a test", "write it again"

    def checked(self, tree):
        return tree


def refused(call, *arguments, **options) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# read


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "nothing"])
def test_only_files_that_end_are_read(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "place"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "device":
        place.symlink_to("/dev/zero")
    elif kind == "folder":
        place.mkdir()
    named = {"pipe": "a pipe, not", "device": "a device, not", "folder": "Is a directory", "nothing": "No such file"}
    assert named[kind] in refused(read_regular, place, "profile")
    assert named[kind] in refused(AnyFile(place).read)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    place = tmp_path / "place"
    with open(place, "wb") as file:
        file.truncate(10**12)  # a hole
    assert "larger than 976 KiB" in refused(read_regular, place, "profile", most_bytes=10**6)


def external(file: h5py.File) -> None:
    file.create_dataset("x", (4,), "f4", external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)])


def external_link(file: h5py.File) -> None:
    file["x"] = h5py.ExternalLink("other.h5", "/")


def soft_link(file: h5py.File) -> None:
    file["x"] = h5py.SoftLink("/whole")


def cycle(file: h5py.File) -> None:
    file.create_group("x")["again"] = file


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
    file.create_virtual_dataset("x", layout)


def virtual_claim(file: h5py.File) -> None:
    """With a list of sources that claims so many of them that they take hundreds of megabytes."""
    virtual(file)
    file.flush()
    with open(file.filename, "r+b") as place:
        at = place.read().index(b"GCOL") + 33  # the number, behind the version of the list
        place.seek(at)
        place.write((10**6).to_bytes(4, "little"))


def objects(file: h5py.File) -> None:
    file.create_dataset("x", (3,), h5py.ref_dtype)


def lists(file: h5py.File) -> None:
    file.create_dataset("x", (3,), h5py.vlen_dtype(np.int32))


def complex_numbers(file: h5py.File) -> None:
    file["x"] = np.zeros(3, complex)


def foreign_order(file: h5py.File) -> None:
    file["x"] = np.zeros(3, ">f8")


def claim(file: h5py.File) -> None:
    file.create_dataset("x", (10**5, 10**5), "f4")


def packed_claim(file: h5py.File) -> None:
    file.create_dataset("x", (10**5, 10**5), "f4", chunks=(1000, 1000), compression="gzip")


def one_text_many_times(file: h5py.File) -> None:
    text = file.create_dataset("y", (2,), h5py.string_dtype())
    text[0] = "z" * 10**7
    text[1] = "z" * 10**7


def texts_long_together(file: h5py.File) -> None:
    file["x"] = "z" * 10**7
    file.create_group("y").attrs["z"] = "z" * 10**7


def several_texts(file: h5py.File) -> None:
    file.attrs.create("x", ["a", "b"], dtype=h5py.string_dtype())


def _text_of_another_type(file: h5py.File, at: int, size: int) -> None:
    """A text with another number where the size of its type, or of that of its characters, stands."""
    file.attrs["x"] = "a"
    file.flush()
    with open(file.filename, "r+b") as place:
        place.seek(place.read().index(bytes.fromhex("1901010010000000 1000000001000000")) + at)
        place.write(bytes([size]))


def text_of_one_byte(file: h5py.File) -> None:
    """The reference takes sixteen: HDF5 reads whatever lies behind the one."""
    _text_of_another_type(file, 4, 1)


def text_of_large_characters(file: h5py.File) -> None:
    """HDF5 takes memory for characters of the size that is stated; where the header has a checksum, of any size."""
    _text_of_another_type(file, 12, 2)


def texts_in_chunks(file: h5py.File) -> None:
    file.create_dataset("x", data=["a"], dtype=h5py.string_dtype(), chunks=(1,))


def packed_twice(file: h5py.File) -> None:
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((8,))
    plan.set_deflate(9)
    plan.set_deflate(9)
    h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_INT8, h5py.h5s.create_simple((8,)), plan)


def lists_of_lists(file: h5py.File) -> None:
    kind = h5py.h5t.NATIVE_INT8
    for _ in range(1500):
        kind = h5py.h5t.vlen_create(kind)
    h5py.h5a.create(file.id, b"x", kind, h5py.h5s.create(h5py.h5s.SCALAR))


def object_attribute(file: h5py.File) -> None:
    file.attrs["x"] = file.ref


def deep(file: h5py.File) -> None:
    file.create_group("/".join("x" * 60))


FOREIGN = {
    external: "another file", external_link: "is a link", soft_link: "is a link", virtual: "another file",
    virtual_claim: "another file", cycle: "twice", deep: "too deep", objects: "the type", lists: "the type",
    complex_numbers: "the type", foreign_order: "the type", object_attribute: "the type",
    lists_of_lists: "the type vlen", claim: "more than the file holds", packed_claim: "more than the file holds",
    packed_twice: "by filter 1 and filter 1", one_text_many_times: "characters", texts_long_together: "characters",
    several_texts: "more than one text", texts_in_chunks: "in one piece",
    text_of_one_byte: "no text as HDF5 stores one", text_of_large_characters: "no text as HDF5 stores one",
}  # fmt: skip


@pytest.mark.parametrize("put", FOREIGN, ids=lambda put: put.__name__)
def test_only_numbers_and_texts_in_the_file_itself_are_read(put, tmp_path: Path) -> None:
    place = tmp_path / "file.h5"
    with h5py.File(place, "w") as file:
        file["whole"] = np.zeros(3)
        put(file)

    def look() -> None:
        with opened(place.read_bytes(), "file of a test", "damaged"):
            pass

    assert FOREIGN[put] in refused(look)


def claiming(content: bytes, elsewhere: bool) -> bytes:
    """The content with 4 GB in place of the length of its text; its place may be wrong as well."""
    at = content.index((2400).to_bytes(4, "little") + content.index(b"GCOL").to_bytes(8, "little"))
    return content[: at + 3] + bytes([0xEE, content[at + 4] ^ elsewhere]) + content[at + 5 :]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_text_that_claims_gigabytes_is_not_looked_for(elsewhere: bool, tmp_path: Path) -> None:
    file = AnyFile(tmp_path / "file.h5")
    file.write({"text": "some thousand characters" * 100, "b": np.arange(3)})
    file.path.write_bytes(claiming(file.path.read_bytes(), elsewhere))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "more characters than the file holds" in refused(file.read)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10**5


@pytest.mark.parametrize("number", [0, 20])
@pytest.mark.parametrize("version", ["earliest", "latest"])
def test_what_a_text_claims_is_found_wherever_hdf5_puts_it(version: str, number: int, tmp_path: Path) -> None:
    """In the header, or, where there are many attributes, in a heap of them."""
    with h5py.File(tmp_path / "file.h5", "w", libver=version) as file:
        for i in range(number):
            file.attrs[f"x{i}"] = i
        file.attrs["text"] = "some thousand characters" * 100
    content = (tmp_path / "file.h5").read_bytes()
    assert not _claims_too_much("text", content)
    assert _claims_too_much("text", claiming(content, elsewhere=False))


def test_collections_of_texts_without_an_end_are_not_read(tmp_path: Path) -> None:
    file = AnyFile(tmp_path / "file.h5")
    file.write({"text": "a"})
    content = bytearray(file.path.read_bytes())
    at = content.index(b"GCOL") + 16
    content[at : at + 32] = bytes(32)  # a free place of length 0: HDF5 looks for what follows it for ever
    file.path.write_bytes(content)
    assert "damaged" in refused(file.read)


def test_arrays_on_the_same_bytes_are_refused(tmp_path: Path) -> None:
    """One that the file holds once, and three that say that they lie there too."""
    file = AnyFile(tmp_path / "file.h5")
    file.write({"a": np.zeros(9000), **{f"b{i}": np.full(3, i + 0.5) for i in range(3)}})
    content = bytearray(file.path.read_bytes())
    with h5py.File(file.path) as opened_:
        places = [opened_[key].id.get_offset() for key in opened_]
    for place in places[1:]:
        layout = content.index(struct.pack("<QQ", place, 24))
        shape = content.rindex(struct.pack("<QQ", 3, 3), 0, layout)
        content[layout : layout + 16] = struct.pack("<QQ", places[0], 72000)
        content[shape : shape + 16] = struct.pack("<QQ", 9000, 9000)
    file.path.write_bytes(content)
    assert "claims more than the file holds, or what something else" in refused(file.read)


@pytest.mark.parametrize("how", ["set_userblock", "set_sizes"])
def test_files_that_begin_in_another_way_are_refused(how: str, tmp_path: Path) -> None:
    plan = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    getattr(plan, how)(*{"set_userblock": (512,), "set_sizes": (4, 4)}[how])
    h5py.h5f.create(bytes(tmp_path / "file.h5"), fcpl=plan).close()
    assert "does not begin as HDF5 files of this kind do" in refused(AnyFile(tmp_path / "file.h5").read)


def test_too_little_memory_is_no_damage(tmp_path: Path) -> None:
    AnyFile(tmp_path / "file.h5").write({"a": 1})

    def read() -> None:
        with opened((tmp_path / "file.h5").read_bytes(), "file of a test", "damaged"):
            raise MemoryError

    assert refused(read) == "file of a test: this machine has too little memory to read it"


def test_a_file_without_its_checksum_is_not_whole(tmp_path: Path) -> None:
    file = AnyFile(tmp_path / "file.h5")
    file.write({"a": 1, "b": np.arange(3)})
    assert file.read()["a"] == 1
    with h5py.File(file.path, "a") as opened_:
        del opened_.attrs["checksum"]
    assert "checksum" in refused(file.read)


def test_a_message_stays_short_and_in_one_line_whatever_a_file_says() -> None:
    assert len(shortened("x" * 10**6)) < 100
    assert "\x1b" not in shortened("\x1b[31mred\nlines")
    assert "\n" not in shortened("\x1b[31mred\nlines")
    assert len(str(UserError("x" * 10**6))) < 2 * MOST_CHARACTERS


# replaced


def test_a_file_keeps_its_mode_and_a_link_is_not_followed(tmp_path: Path) -> None:
    place, thesis = tmp_path / "net.h5", tmp_path / "thesis.txt"
    AnyFile(place).write({"a": 1})
    place.chmod(0o640)
    AnyFile(place).write({"a": 2})
    assert stat.S_IMODE(place.stat().st_mode) == 0o640
    thesis.write_text("years of work")
    place.unlink()
    place.symlink_to(thesis)
    assert "a link" in refused(AnyFile(place).write, {"a": 3})
    AnyFile(place).write({"a": 3}, force=True)
    assert thesis.read_text() == "years of work"
    assert not place.is_symlink()


def test_a_planted_part_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, thesis = tmp_path / "net.h5", tmp_path / "thesis.txt"
    thesis.write_text("years of work")
    monkeypatch.setattr("secrets.token_hex", lambda n: "0")
    (tmp_path / f".net.h5.{os.getpid()}-0.part").symlink_to(thesis)
    assert "cannot be written" in refused(replace_file, place, b"content", "file of a test")
    assert thesis.read_text() == "years of work"


def identity(place: Path) -> tuple[int, ...]:
    """What is there, without the time at which it was read."""
    of = os.lstat(place)
    return of.st_ino, of.st_mode, of.st_size, of.st_mtime_ns


@pytest.mark.parametrize("kind", ["text", "pipe", "device"])
def test_nothing_of_another_kind_is_replaced(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "place"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "device":
        place.symlink_to("/dev/null")
    else:
        place.write_text("years of work")
    before = identity(place)
    assert "there is a" in refused(AnyFile(place).write, {"a": 1})
    assert "--force" in refused(AnyFile(place).check_free)
    assert identity(place) == before
    AnyFile(place).write({"a": 1}, force=True)
    assert AnyFile(place).read() == {"a": 1}


def test_force_is_advised_only_where_it_helps(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "no folder" / "a.csv"):
        message = refused(replace_file, place, b"new", "table", FORCE)
        assert "cannot be written" in message
        assert message.endswith("choose another place")
        assert refused(replace_file, place, b"new", "table", FORCE, force=True) == message


def test_hdf5_files_of_others_are_not_replaced(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["measured"] = np.arange(10)
    assert "--force" in refused(AnyFile(tmp_path / "data.h5").check_free)
    AnyFile(tmp_path / "data.h5").check_free(force=True)
    (tmp_path / "empty.h5").touch()
    AnyFile(tmp_path / "empty.h5").check_free()


# computed by one process


HOLD = """
import sys, time
from pathlib import Path
from noisylearn.ground.lock import held
with held(Path(sys.argv[1]), "run file"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_process_waits_until_the_first_has_ended_however_it_ends(tmp_path: Path) -> None:
    place = tmp_path / "run.h5"
    part = tmp_path / ".run.h5.1-ab.part"
    part.write_bytes(b"half")
    with subprocess.Popen([sys.executable, "-c", HOLD, place], stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"
        signal.signal(signal.SIGALRM, lambda *_: first.kill())
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        started = time.monotonic()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with AnyFile(place).held():
                assert time.monotonic() - started > 0.2
                assert not part.exists()
        assert "another process is at work on it; waiting" in str(caught[0].message)
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_a_killed_process_left_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / ".run.h5.lock").touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with held(tmp_path / "run.h5", "run file"):
            pass
    assert list(tmp_path.iterdir()) == []
