from __future__ import annotations

import pytest

from datasets.errors import CohortError
from datasets.readers.reader import SourceFile
from datasets.readers.text_folder import TextReader


@pytest.mark.parametrize(
    "text",
    [
        "1.5 10\n2.5 20\n",
        "1.5\t10\n2.5\t20\n",
        "1.5, 10\n2.5, 20\n",
        "1.5;10\n2.5;20",
        "# made by hand\nm/z intensity\n\n  1.5   1e1\n2.5 20\n",
        "\ufeffmz,counts\r\n1.5,10\r\n2.5,20\r\n",
    ],
)
def test_two_columns_are_read_however_they_are_separated(tmp_path, read, text):
    path = tmp_path / "S1.txt"
    path.write_text(text, encoding="utf-8")
    (scan,) = read(TextReader(), path)
    assert (scan.sample_id, scan.scan) == ("S1", "0")
    assert scan.mz.tolist() == [1.5, 2.5]
    assert scan.intensity.tolist() == [10.0, 20.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2\nthree 4\n", "line 2: 'three 4'; two numbers were expected"),
        ("1 2 3\n4 5 6\n", "line 1: '1 2 3'; two numbers were expected"),
        ("1,5;10\n2,5;20\n", "line 1: '1,5;10'; two numbers were expected"),
        ("1 2\n2 inf\n", "intensity inf at point 1"),
        ("2 1\n1 1\n", "the axis falls"),
        ("# nothing\n", "no line of two numbers"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, refusal, text, message):
    (tmp_path / "S1.txt").write_text(text)
    assert message in refusal(TextReader(), tmp_path / "S1.txt")


def test_text_of_another_encoding_is_refused(tmp_path, refusal):
    (tmp_path / "S1.txt").write_bytes("Länge 1\n1 2\n".encode("latin-1"))
    assert "S1.txt is not UTF-8 text (byte 0xe4)" in refusal(TextReader(), tmp_path / "S1.txt")


@pytest.mark.parametrize(
    "line",
    [
        *(
            "400.0\t1,5",
            "400.0 <0.1",
            "400.0",
            "400.0 NA",
            "400 1 2",
            "NA 1.5",
            "~4 x",
            "400,0;1,5",
        ),
        *('"400"\t"1.5"', "(400)\t(1.5)", "'400' 1.5", "[400; 1.5]"),
    ],
)
def test_a_first_line_that_holds_a_number_is_no_heading(tmp_path, line):
    path = tmp_path / "a.txt"
    path.write_text(f"{line}\n500.0\t2.5\n600.0\t3.5\n", encoding="utf-8")
    with pytest.raises(CohortError, match=r"line 1: .*; two numbers were expected") as caught:
        list(TextReader().read(SourceFile(path, "a.txt")))
    assert ("write decimals with a point" in str(caught.value)) == (",5" in line)


@pytest.mark.parametrize(
    "line", ["2theta counts", "m/z\tint. (a.u.)", "X1 Y1", "wavenumber;absorbance"]
)
def test_a_first_line_of_words_is_a_heading(tmp_path, line):
    path = tmp_path / "a.txt"
    path.write_text(f"{line}\n500.0\t2.5\n", encoding="utf-8")
    (scan,) = TextReader().read(SourceFile(path, "a.txt"))
    assert scan.mz.tolist() == [500.0]
