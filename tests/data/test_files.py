from pathlib import Path

import pytest

from commonspace.data import files


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A cache and two read-only data folders."""
    for name in ("cache", "one", "two", "home"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("COMMONSPACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COMMONSPACE_DATA", f"{tmp_path / 'one'}:{tmp_path / 'two'}")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("here")
    return path


def test_the_data_folders_come_before_the_cache_in_their_order(places):
    cached = put(places / "cache/set/a.txt")
    assert files.find("set", "a.txt", "get it") == cached
    second = put(places / "two/set/a.txt")
    assert files.find("set", "a.txt", "get it") == second
    first = put(places / "one/set/a.txt")
    assert files.find("set", "a.txt", "get it") == first


def test_root_is_looked_in_alone(places):
    put(places / "one/set/a.txt")
    with pytest.raises(FileNotFoundError, match="get it"):
        files.find("set", "a.txt", "get it", root=places / "home")
    beside = put(places / "home/a.txt")
    assert files.find("set", "a.txt", "get it", root=places / "home") == beside


def test_what_is_missing_names_the_command_and_no_machine_path(places):
    with pytest.raises(FileNotFoundError) as error:
        files.find("set", "a.txt", "python data_scripts/get_set.py")
    assert "python data_scripts/get_set.py" in str(error.value)
    assert "$COMMONSPACE_CACHE/set/a.txt" in str(error.value)
    assert "$COMMONSPACE_DATA/set/a.txt" in str(error.value)
    assert str(places) not in str(error.value)


def test_shown_hides_where_the_folders_are(places, monkeypatch):
    assert files.shown(places / "cache/x/y") == "$COMMONSPACE_CACHE/x/y"
    assert files.shown(places / "two/x") == "$COMMONSPACE_DATA/x"
    assert files.shown(places / "home/x") == "~/x"
    monkeypatch.chdir(places)
    assert files.shown(places / "somewhere/x") == "somewhere/x"


def test_without_variables_the_cache_is_below_home(places, monkeypatch):
    monkeypatch.delenv("COMMONSPACE_CACHE")
    monkeypatch.delenv("COMMONSPACE_DATA")
    assert files.cache_dir() == places / "home/.cache/commonspace"
    assert files.search_path() == [files.cache_dir()]
    assert files.shown(files.cache_dir() / "emoji") == "$COMMONSPACE_CACHE/emoji"
