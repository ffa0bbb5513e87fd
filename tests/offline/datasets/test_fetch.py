"""Fetching open sets from a server on this machine, sound and unsound."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from offline.datasets.fetch import SETS, SUMS, Remote, fetch, plan
from streamscore import cli_data
from streamscore.errors import ConfigError, RecordError, SourceError
from tests.offline.datasets.layouts import small_disk

NIGHTS = ("SC4001E0-PSG", "SC4001EC-Hypnogram", "SC4002E0-PSG", "SC4002EC-Hypnogram", "SC4011E0-PSG")


class Archive:
    """A server of files; `cut` lists those that it breaks off half-way."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.sums: dict[str, str] = {}
        self.cut: set[str] = set()
        self.asked: list[str] = []
        archive = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.removeprefix("/set/")
                archive.asked.append(name)
                body = archive.listing() if name == SUMS else archive.files.get(name)
                if body is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if name in archive.cut else body)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/set"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def add(self, path: str, body: bytes) -> None:
        self.files[path] = body
        self.sums[path] = hashlib.sha256(body).hexdigest()

    def listing(self) -> bytes:
        return "".join(f"{sha256} {path}\n" for path, sha256 in self.sums.items()).encode()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def archive() -> Iterator[Archive]:
    server = Archive()
    for k, name in enumerate(NIGHTS):
        server.add(f"sleep-cassette/{name}.edf", bytes([k]) * 5000)
    server.add("sleep-telemetry/ST7011J0-PSG.edf", b"other study")
    server.add("RECORDS", b"a list")
    yield server
    server.close()


def get(archive: Archive, folder: Path, *subjects: str) -> list[Remote]:
    files = plan("sleep_edf", folder, base_url=archive.url, subjects=subjects, retries=0)
    return list(fetch("sleep_edf", folder, files, base_url=archive.url, retries=0))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_recordings_of_the_set_are_fetched_and_nothing_else(archive: Archive, tmp_path: Path) -> None:
    got = get(archive, tmp_path)
    assert [Path(file.path).stem for file in got] == list(NIGHTS)
    assert names(tmp_path) == sorted([SUMS, *(f"{name}.edf" for name in NIGHTS)])
    for file in got:
        assert (tmp_path / file.path).read_bytes() == archive.files[file.path]


@pytest.mark.parametrize("subjects", [("SC400",), ("00",), ("00", "SC400")])
def test_subjects_are_chosen(archive: Archive, tmp_path: Path, subjects: tuple[str, ...]) -> None:
    assert {file.subject for file in get(archive, tmp_path, *subjects)} == {"SC400"}


def test_a_subject_that_the_set_lacks_is_told(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--subjects 07: there is no such subject; choose from SC400, SC401"):
        get(archive, tmp_path, "07")


def test_what_is_there_and_right_is_not_fetched_again(archive: Archive, tmp_path: Path) -> None:
    get(archive, tmp_path, "01")
    damaged = tmp_path / "sleep-cassette" / "SC4001E0-PSG.edf"
    damaged.write_bytes(b"half a file of an earlier program")
    archive.asked.clear()
    get(archive, tmp_path)
    assert "sleep-cassette/SC4011E0-PSG.edf" not in archive.asked
    assert damaged.read_bytes() == archive.files["sleep-cassette/SC4001E0-PSG.edf"]


@pytest.mark.parametrize("fault", ["checksum", "missing", "cut"])
def test_a_file_that_fails_leaves_nothing_under_its_name(archive: Archive, tmp_path: Path, fault: str) -> None:
    bad = "sleep-cassette/SC4002E0-PSG.edf"
    if fault == "checksum":
        archive.files[bad] = b"another file"
    elif fault == "missing":
        del archive.files[bad]
    else:
        archive.cut.add(bad)
    message = "is not the file that was published" if fault == "checksum" else "cannot be fetched"
    with pytest.raises(SourceError, match=rf"SC4002E0-PSG\.edf: {message}"):
        get(archive, tmp_path)
    # What came before it stays, so that the next run goes on from there.
    assert names(tmp_path) == sorted([SUMS, "SC4001E0-PSG.edf", "SC4001EC-Hypnogram.edf"])
    archive.files[bad] = bytes([2]) * 5000
    archive.cut.clear()
    assert len(get(archive, tmp_path)) == len(NIGHTS)


def test_a_failure_that_passes_is_tried_again(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = "sleep-cassette/SC4001E0-PSG.edf"
    archive.cut.add(bad)
    monkeypatch.setattr("time.sleep", lambda _: archive.cut.clear())  # the server recovers while we wait
    files = plan("sleep_edf", tmp_path, base_url=archive.url)
    assert len(list(fetch("sleep_edf", tmp_path, files, base_url=archive.url))) == len(NIGHTS)
    assert archive.asked.count(bad) == 2


def test_an_archive_that_is_away_or_another_is_told(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="lists no recording of ucddb"):
        plan("ucddb", tmp_path, base_url=archive.url)
    archive.close()
    with pytest.raises(SourceError, match="check address and network"):
        plan("ucddb", tmp_path, base_url=archive.url, retries=0)


def test_paths_that_leave_the_folder_are_refused(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.add("../01/x.mat", b"evil")
    monkeypatch.setitem(SETS, "calcium_sleep", SETS["calcium_sleep"])
    with pytest.raises(SourceError, match="outside of the folder"):
        plan("calcium_sleep", tmp_path, base_url=archive.url)


def test_sets_that_need_an_application_say_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mass cannot be fetched: apply to the archive.*sleep_edf, ucddb"):
        plan("mass", tmp_path)


def test_other_sets_name_their_recordings(archive: Archive, tmp_path: Path) -> None:
    for path in ("ucddb002.rec", "ucddb002_stage.txt", "ucddb002_respevt.txt", "ucddb002_lifecard.edf"):
        archive.add(path, b"u")
    archive.add("Ms8/191030-M5-fc1.mat", b"c")
    found = plan("ucddb", tmp_path, base_url=archive.url)
    assert [(file.path, file.subject) for file in found] == [
        ("ucddb002.rec", "ucddb002"),
        ("ucddb002_stage.txt", "ucddb002"),
    ]
    (mouse,) = plan("calcium_sleep", tmp_path, base_url=archive.url)
    assert (mouse.path, mouse.subject) == ("Ms8/191030-M5-fc1.mat", "Ms8")


def test_a_full_disk_is_told_and_leaves_no_half_file(archive: Archive, tmp_path: Path) -> None:
    with small_disk(3000), pytest.raises(RecordError, match=r"SC4001E0-PSG\.edf: cannot be written .*make room"):
        get(archive, tmp_path)
    assert names(tmp_path) == [SUMS]
    assert len(get(archive, tmp_path)) == len(NIGHTS)


def test_the_command_fetches_and_tells_the_licence(
    archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli_data.fetch("sleep_edf", tmp_path, subjects="00", base_url=archive.url, retries=0)
    told = capsys.readouterr().out
    assert "Open Data Commons" in told
    assert "4 files of 1 subjects" in told
    assert f"next: streamscore data check {tmp_path}" in told
    assert len(names(tmp_path)) == 5
