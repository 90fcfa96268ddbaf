"""A user's own CSV file: read exactly, or refused with the line and the column."""

import csv
import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certnet.core.errors import FileFormatError, InvalidInputError
from certnet.data import TableFormat, load_columns, load_table, table_columns


def _write(tmp_path, text, name="d.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_target_is_taken_by_name_and_inputs_keep_their_order(tmp_path):
    X, y, names = load_table(_write(tmp_path, "b,y,a\n1,10,2\n3,20,4.5\n"), "y")
    np.testing.assert_array_equal(X, [[1, 2], [3, 4.5]])
    np.testing.assert_array_equal(y, [10, 20])
    assert names == ("b", "a")
    assert X.dtype == y.dtype == np.float64


def test_gzipped_bom_crlf_quotes_spaces_and_blank_lines(tmp_path):
    text = '\ufeff"a b", y\r\n"1" , -2e3\r\n\r\n 3,.5\r\n\r\n'
    path = tmp_path / "d.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    X, y, names = load_table(path, "y")
    np.testing.assert_array_equal(X, [[1], [3]])
    np.testing.assert_array_equal(y, [-2000, 0.5])
    assert names == ("a b",)


def test_dropped_columns_may_hold_anything(tmp_path):
    path = _write(tmp_path, "id,a,colour,y\nx1,1,red,2\n,3,,4\n")
    X, y, names = load_table(path, "y", drop=["id", "colour"])
    np.testing.assert_array_equal(X, [[1], [3]])
    np.testing.assert_array_equal(y, [2, 4])
    assert names == ("a",)


def test_one_name_to_drop_may_be_a_string(tmp_path):
    assert load_table(_write(tmp_path, "id,a,y\nq,1,2\n"), "y", drop="id")[2] == ("a",)


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 3), min_size=1, max_size=6))
def test_written_numbers_come_back_bit_for_bit(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("table") / "d.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("a", "b", "y"), *rows])
    X, y, _ = load_table(path, "y")
    np.testing.assert_array_equal(np.column_stack([X, y]), np.array(rows))


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("", FileFormatError, "is empty"),
        ("\n\n", FileFormatError, "is empty"),
        ("1,2\n3,4\n", FileFormatError, "no header"),
        ("a,y\n", FileFormatError, "no rows"),
        ("a,b,a,y\n1,2,3,4\n", FileFormatError, "more than one column named 'a'"),
        (",a,y\n0,1,2\n", FileFormatError, "column 1 has no name.*index=False"),
        ("a,y\n1,2\n3\n", FileFormatError, "line 3: 1 cells, the header has 2"),
        ("a,y\n1,2,3\n", FileFormatError, "line 2: 3 cells, the header has 2"),
        ("a,z\n1,2\n", InvalidInputError, "no column 'y': its columns are a, z"),
        ("a;y\n1;2\n", InvalidInputError, "no column 'y': its columns are a;y; .*--sep ';'"),
        ("y\n1\n", InvalidInputError, "no column left"),
        ("colour,y\n1,2\nred,3\nblue,4\n", InvalidInputError, r"line 3: column 'colour' holds text \('red'\)"),
        ("a,y\n1,2\n\n1_000,3\n", InvalidInputError, r"line 4: column 'a' holds text \('1_000'\)"),
        ("a,y\n1,2\n3,\n", InvalidInputError, "line 3: column 'y' has no value"),
        ("a,y\nNaN,2\n", InvalidInputError, "line 2: column 'a' has no value"),
        ("a,y\nN/A,2\n", InvalidInputError, "line 2: column 'a' has no value"),
        ("a,y\n1,-inf\n", InvalidInputError, "line 2: column 'y' is not finite"),
        ("a,y\n1,1e999\n", InvalidInputError, "line 2: column 'y' is not finite"),
        ("a,y\n" + "1" * 200_000 + ",2\n", FileFormatError, "line 2: not a CSV file"),
    ],
)
def test_bad_tables_are_refused_with_the_place(tmp_path, text, error, match):
    with pytest.raises(error, match=match):
        load_table(_write(tmp_path, text), "y")


@pytest.mark.parametrize(
    ("drop", "match"),
    [(["q"], "no column 'q'"), (["y"], "'y' is among the columns to drop"), (["a"], "no column left")],
)
def test_bad_columns_to_drop(tmp_path, drop, match):
    with pytest.raises(InvalidInputError, match=match):
        load_table(_write(tmp_path, "a,y\n1,2\n"), "y", drop=drop)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileFormatError, match=r"none\.csv does not exist"):
        load_table(tmp_path / "none.csv", "y")
    with pytest.raises(FileFormatError, match="cannot be read"):
        load_table(tmp_path, "y")


def test_files_of_another_format(tmp_path):
    packed = gzip.compress(b"a,y\n" + b"1,2\n" * 5000)
    for name, content in (
        ("cut.csv.gz", packed[:-12]),
        ("plain.csv.gz", b"a,y\n1,2\n"),
        ("flip.csv.gz", packed[:12] + b"\xff" * 20),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FileFormatError, match="truncated or of another format"):
            load_table(tmp_path / name, "y")
    (tmp_path / "latin.csv").write_bytes("größe,y\n1,2\n".encode("latin-1"))
    with pytest.raises(FileFormatError, match="not a text file in UTF-8"):
        load_table(tmp_path / "latin.csv", "y")


class TestFormat:
    def test_semicolons_decimal_commas_and_latin_letters(self, tmp_path):
        path = tmp_path / "d.csv"
        path.write_bytes("größe;y\n1,5;-2e3\n,25;3\n".encode("latin-1"))
        X, y, names = load_table(path, "y", form=TableFormat(";", ",", "latin-1"))
        np.testing.assert_array_equal(X, [[1.5], [0.25]])
        np.testing.assert_array_equal(y, [-2000, 3])
        assert names == table_columns(path, TableFormat(";", ",", "latin-1"))[:1] == ("größe",)

    @pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "utf-16", "utf-8-sig"])
    def test_byte_order_marks(self, tmp_path, encoding):
        path = tmp_path / "d.csv"
        mark = "" if encoding == "utf-16" else "\ufeff"  # that codec writes its own
        path.write_bytes(f"{mark}a\ty\n1\t2\n".encode(encoding if encoding != "utf-8-sig" else "utf-8"))
        assert table_columns(path, TableFormat("\t", encoding=encoding)) == ("a", "y")

    def test_no_header(self, tmp_path):
        path = _write(tmp_path, "1,2,3\n4,5,6\n")
        X, y, names = load_table(path, "x3", form=TableFormat(header=False))
        np.testing.assert_array_equal(X, [[1, 2], [4, 5]])
        np.testing.assert_array_equal(y, [3, 6])
        assert names == ("x1", "x2")
        with pytest.raises(FileFormatError, match=r"no header.*--no-header"):
            load_table(path, "x3")

    @pytest.mark.parametrize(
        ("text", "form", "match"),
        [
            ("a;y\n1;2\n", TableFormat(), "separated by ';': say so .--sep ';'"),
            ("a\ty\n1\t2\n", TableFormat(), "separated by tabulators: say so .--sep tab"),
            ("a;y\n1,5;2\n", TableFormat(";"), "decimal comma, say so"),
            ("a;y\n1.5;2\n", TableFormat(";", ","), "decimal point, say so"),
            ("a;y\n1.000,5;2\n", TableFormat(";", ","), "holds text"),
            ("a,y\nred,2\n", TableFormat(), r"column 'a' holds text \('red'\).*pipeline that encodes it in Python"),
        ],
    )
    def test_what_other_formats_are_told(self, tmp_path, text, form, match):
        with pytest.raises(InvalidInputError, match=match):
            load_table(_write(tmp_path, text), "y", form=form)

    def test_the_wrong_encoding(self, tmp_path):
        (tmp_path / "d.csv").write_bytes("größe,y\n1,2\n".encode("latin-1"))
        with pytest.raises(FileFormatError, match=r"not a text file in UTF-8.*--encoding latin-1"):
            load_table(tmp_path / "d.csv", "y")
        with pytest.raises(FileFormatError, match="not a text file in UTF-16"):
            load_table(tmp_path / "d.csv", "y", form=TableFormat(encoding="utf-16"))

    @pytest.mark.parametrize(
        ("given", "match"),
        [
            ({"sep": ""}, "one character"),
            ({"sep": ";;"}, "one character"),
            ({"sep": "\n"}, "one character"),
            ({"sep": "a"}, "one character"),
            ({"decimal": ";"}, "decimal must be"),
            ({"decimal": ","}, "are both ','"),
            ({"encoding": "klingon"}, "encoding 'klingon' is unknown"),
            ({"encoding": "hex"}, "encoding 'hex' is unknown"),
        ],
    )
    def test_bad_formats(self, given, match):
        with pytest.raises(InvalidInputError, match=match):
            TableFormat(**given)


# ----------------------------------------------------------------------------------------------------------- categories

COLOURS = "area,colour,y\n1,red,2\n2,blue,3\n\n3,red,4\n"


def test_columns_of_categories_are_inputs_of_0_and_1(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text(COLOURS)
    X, y, names = load_table(path, "y", form=TableFormat(categorical=("colour",)))
    assert names == ("area", "colour_blue", "colour_red")
    assert X.tolist() == [[1, 0, 1], [2, 1, 0], [3, 0, 1]]
    assert y.tolist() == [2, 3, 4]
    named = TableFormat(categorical=("colour=red,green,blue",))
    assert table_columns(path, named) == ("area", "colour_red", "colour_green", "colour_blue", "y")
    values = load_columns(path, ["colour_blue", "y", "colour_green"], form=named)
    assert values.tolist() == [[0, 2, 0], [1, 3, 0], [0, 4, 0]]
    X, _, names = load_table(path, "y", inputs=["colour", "area"], form=named)
    assert names == ("colour_red", "colour_green", "colour_blue", "area")
    assert X.tolist() == [[1, 0, 0, 1], [0, 0, 1, 2], [1, 0, 0, 3]]


@pytest.mark.parametrize(
    ("text", "categorical", "match"),
    [
        (
            COLOURS,
            (),
            r"c.csv, line 2: column 'colour' holds text \('red'\), .* \(--categorical 'colour'; in a study's",
        ),
        (COLOURS, ("color",), r"no column 'color', .* did you mean 'colour'\?"),
        (COLOURS, ("colour=red,blu",), r"c.csv, line 3: column 'colour' holds 'blue', .* did you mean 'blu'\?"),
        (COLOURS, ("colour=red,red",), "every category once"),
        (COLOURS, ("colour=",), "every category once"),
        (COLOURS, ("colour", "colour=red,blue"), "twice"),
        (COLOURS, ("y",), "the target 'y' is a column of numbers"),
        (COLOURS.replace("blue", ""), ("colour",), r"line 3: column 'colour' has no value"),
        (COLOURS.replace("area", "colour_red"), ("colour",), "a column and a category are both called 'colour_red'"),
        ("c,y\n" + "".join(f"n{i},1\n" for i in range(101)), ("c",), "101 different values in 101 rows"),
    ],
)
def test_categories_that_cannot_be_read(tmp_path, text, categorical, match):
    path = tmp_path / "c.csv"
    path.write_text(text)
    with pytest.raises(InvalidInputError, match=match):
        load_table(path, "y", form=TableFormat(categorical=categorical))


def test_a_category_that_a_file_lacks(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text(COLOURS)
    with pytest.raises(InvalidInputError, match="no row of the category 'colour_green': name all categories"):
        load_columns(path, ["colour_green"], form=TableFormat(categorical=("colour",)))
