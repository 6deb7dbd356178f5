"""Outputs are whole or absent, whatever fails; full disks and missing rights are said."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from trajgen.errors import InputError
from trajgen.files import (
    append_line,
    drop_cut_line,
    read_json,
    read_lines,
    require_output,
    sha256_of,
    system_errors,
    whole_file,
    whole_folder,
    write_json,
)


def write_half(path: Path) -> None:
    path.write_text("half")
    raise ZeroDivisionError


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    with whole_file(path) as temporary:
        temporary.write_text("old")
        assert not path.exists()
    with pytest.raises(ZeroDivisionError), whole_file(path) as temporary:
        write_half(temporary)
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_a_temporary_name_keeps_the_suffix_that_chooses_the_format(tmp_path: Path) -> None:
    with whole_file(tmp_path / "a.xtc") as temporary:
        assert temporary.suffix == ".xtc"
        temporary.touch()


def test_a_folder_that_fails_half_way_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with pytest.raises(ZeroDivisionError), whole_folder(path) as folder:
        write_half(folder / "a")
    assert list(tmp_path.iterdir()) == []
    with whole_folder(path) as folder:
        (folder / "a").write_text("whole")
    assert (path / "a").read_text() == "whole"
    with pytest.raises(InputError, match="exists already"), whole_folder(path):
        pass
    assert (path / "a").read_text() == "whole"


def test_an_output_is_checked_before_the_work(tmp_path: Path) -> None:
    require_output(tmp_path / "new" / "deeper" / "out")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").touch()
    with pytest.raises(InputError, match="exists already"):
        require_output(tmp_path / "out")
    with pytest.raises(OSError, match="proc"):
        require_output(Path("/proc/nowhere/out"))


def test_results_are_as_readable_as_other_files(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with whole_file(tmp_path / "a.safetensors") as temporary:
        save_file({"x": np.ones(3)}, temporary)
    with whole_folder(tmp_path / "folder") as folder:
        save_file({"x": np.ones(3)}, folder / "b.safetensors")
    wanted = (tmp_path / "plain").stat().st_mode
    assert (tmp_path / "a.safetensors").stat().st_mode == wanted
    assert (tmp_path / "folder" / "b.safetensors").stat().st_mode == wanted


def test_errors_of_the_system_come_out_of_the_tensor_library(tmp_path: Path) -> None:
    path = tmp_path / "none" / "a.safetensors"
    with pytest.raises(OSError, match=r"a\.safetensors") as raised, system_errors(path):
        save_file({"x": np.ones(3)}, path)
    assert raised.value.errno == errno.ENOENT
    assert raised.value.filename == str(path)


@given(st.lists(st.integers(), min_size=1, max_size=5), st.data())
def test_a_cut_at_any_byte_loses_the_last_line_at_most(
    tmp_path_factory: pytest.TempPathFactory, values: list[int], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    for value in values:
        append_line(path, json.dumps({"value": value}))
    content = path.read_bytes()
    last = content[:-1].rfind(b"\n") + 1
    cut = data.draw(st.integers(last, len(content) - 1))
    path.write_bytes(content[:cut])
    whole = [{"value": value} for value in values[:-1]]
    assert read_lines(path) in (whole, [*whole, {"value": values[-1]}])
    drop_cut_line(path)
    assert read_lines(path) == whole
    append_line(path, json.dumps({"value": 7}))
    assert read_lines(path) == [*whole, {"value": 7}]


def test_json_has_no_nan_and_says_where_it_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": [1.5, None]})
    assert read_json(path) == {"a": [1.5, None]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, float("nan"))
    assert read_json(path) == {"a": [1.5, None]}
    path.write_text("{")
    with pytest.raises(InputError, match=r"a\.json is not a readable JSON file"):
        read_json(path)
    with pytest.raises(InputError, match="is missing"):
        read_json(tmp_path / "b.json")


def test_the_hash_is_that_of_other_programs(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")  # FIPS 180-2, example B.1
    assert sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_what_was_written_is_synced_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append("sync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append("rename"), replace(a, b)))
    with whole_file(tmp_path / "a") as temporary:
        temporary.write_text("x")
    assert events == ["sync", "rename", "sync"]
