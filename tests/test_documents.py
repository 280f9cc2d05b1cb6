"""JSON from others: limits of size and depth, and errors that a caller can put into a sentence."""

import json
from pathlib import Path

import pytest

from mmfa.documents import DEEPEST, parse_json, read_json, read_json_lines, read_text
from mmfa.errors import MediaError


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 100_000 + "]" * 100_000, '{"a":' * 5000 + "1" + "}" * 5000])
def test_deep_documents_are_an_error_of_value(text: str) -> None:
    with pytest.raises(ValueError, match="nested more than 64 deep"):
        parse_json(text)


def test_depth_is_counted_exactly() -> None:
    nested = "[" * DEEPEST + "]" * DEEPEST
    assert json.dumps(parse_json(nested)) == nested
    with pytest.raises(ValueError, match="nested"):
        parse_json(f"[{nested}]")
    with pytest.raises(ValueError, match="nested"):
        parse_json('{"a": ' * (DEEPEST + 1) + "1" + "}" * (DEEPEST + 1))


def test_large_files_are_not_read_to_their_end(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.write(b"[1]")
        file.truncate(1 << 40)  # sparse: a terabyte
    with pytest.raises(ValueError, match="more than 1,000 bytes"):
        read_json(path, limit=1000)
    with pytest.raises(ValueError, match="a line of more than 1,000,000 bytes"):
        list(read_json_lines(path))


def test_values_come_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"ü": [1, null]}\n[]\n', encoding="utf-8")
    assert list(read_json_lines(path)) == [{"ü": [1, None]}, []]
    path.write_text('{"ü": [1, null]}', encoding="utf-8")
    assert read_json(path) == {"ü": [1, None]}


def test_what_is_no_file_and_no_text(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        read_json(tmp_path / "none.json")
    assert missing.value.filename == str(tmp_path / "none.json")
    with pytest.raises(MediaError, match="not a regular file"):
        read_text("/dev/zero")
    (tmp_path / "a").write_bytes(b"\xff\xfe")
    with pytest.raises(UnicodeDecodeError):
        read_text(tmp_path / "a")
