"""Kinds of files say what they need; nobody writes a file of no kind."""

import pytest

from noisylearn.ground.tree_file import TreeFile


def test_a_kind_of_file_has_to_say_what_it_needs(tmp_path):
    with pytest.raises(TypeError, match=r"abstract method '?checked"):
        TreeFile(tmp_path / "tree.h5")
