"""The host's end of the channels, with real sockets."""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.contracts.bounds import MAX_CHANNEL_LINES
from harness.recorder.channel import Channel, Recorder, listening


class Peer:
    """A client of a channel."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(str(path))

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ended(self) -> bool:
        """True at the end of the stream, whatever came before it."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionResetError:
            pass
        return True

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def peers() -> Iterator[list[Peer]]:
    peers: list[Peer] = []
    yield peers
    for peer in peers:
        peer.close()


def lines(recorder: Recorder, name: str) -> list[bytes]:
    return [line.data for line in recorder.close()[name].lines]


def decisions(tmp_path: Path, **options: Any) -> Channel:
    return Channel("decisions", tmp_path / "d.sock", acknowledge=True, exclusive=True, **options)


def test_lines_are_stamped_on_arrival_and_acknowledged(tmp_path: Path, peers: list[Peer]) -> None:
    with Recorder([decisions(tmp_path)]) as recorder:
        peers.append(Peer(tmp_path / "d.sock"))
        bounds = []
        for number in range(5):
            before = time.monotonic_ns()
            peers[0].send(b'{"n":%d}\n' % number)
            assert peers[0].socket.recv(10) == b"\n"
            bounds.append((before, time.monotonic_ns()))
        peers[0].send(b"a\nb\nc\nd")
        received = b""
        while len(received) < 3:
            received += peers[0].socket.recv(10)
        assert received == b"\n\n\n"
        recorder.hang_up("decisions")
        peers[0].send(b"e\n")
        peers[0].close()
        log = recorder.close()["decisions"]
    assert [line.data for line in log.lines] == [b'{"n":%d}' % n for n in range(5)] + [
        b"a",
        b"b",
        b"c",
        b"de",
    ]
    assert all(low < line.time_ns < high for line, (low, high) in zip(log.lines, bounds, strict=False))
    assert log.connections == 1
    assert log.errors == ()


def test_without_acknowledgement_nothing_is_sent_back(tmp_path: Path, peers: list[Peer]) -> None:
    with Recorder([Channel("sdk", tmp_path / "s.sock")]) as recorder:
        peers.append(Peer(tmp_path / "s.sock"))
        peers[0].send(b"{}\n")
        peers[0].socket.shutdown(socket.SHUT_WR)
        assert peers[0].socket.recv(10) == b""  # its side is closed on ours: node waits for that
        assert lines(recorder, "sdk") == [b"{}"]


def test_an_open_channel_takes_several_connections_one_after_the_other_or_at_once(
    tmp_path: Path, peers: list[Peer]
) -> None:
    with Recorder([Channel("sdk", tmp_path / "s.sock")]) as recorder:
        peers += [Peer(tmp_path / "s.sock") for _ in range(3)]
        for peer in peers:
            peer.send(b"half")
        for number, peer in enumerate(peers):
            peer.send(b" %d\n" % number)
            peer.close()
        log = recorder.close()["sdk"]
    assert sorted(line.data for line in log.lines) == [b"half 0", b"half 1", b"half 2"]
    assert log.connections == 3
    assert log.errors == ()


def test_an_exclusive_channel_has_no_door_after_the_first_connection(
    tmp_path: Path, peers: list[Peer]
) -> None:
    with Recorder([decisions(tmp_path)]) as recorder:
        peers.append(Peer(tmp_path / "d.sock"))
        peers[0].send(b"a\n")
        assert peers[0].socket.recv(1) == b"\n"
        with socket.socket(socket.AF_UNIX) as late, pytest.raises(FileNotFoundError):
            late.connect(str(tmp_path / "d.sock"))
        log = recorder.close()["decisions"]
    assert [line.data for line in log.lines] == [b"a"]
    assert (log.connections, log.errors) == (1, ())


@pytest.mark.breaks("unclean:decisions:second_connection_refused", "guard:decisions_socket")
def test_an_exclusive_channel_refuses_who_came_through_the_door_with_the_first(
    tmp_path: Path, peers: list[Peer]
) -> None:
    """Both are in the queue before the recorder looks; the other name stands for winning that race."""
    with Recorder([decisions(tmp_path)]) as recorder:
        (tmp_path / "other").hardlink_to(tmp_path / "d.sock")
        peers.append(Peer(tmp_path / "d.sock"))
        peers[0].send(b"a\n")
        assert peers[0].socket.recv(1) == b"\n"
        peers.append(Peer(tmp_path / "other"))
        with contextlib.suppress(BrokenPipeError):
            peers[1].send(b"forged\n")
        assert peers[1].ended()
        peers[0].close()
        log = recorder.close()["decisions"]
    assert [line.data for line in log.lines] == [b"a"]
    assert log.connections == 1
    assert sorted(log.errors) == ["closed_early", "second_connection_refused"]


def test_what_is_handed_over_is_the_first_peers_alone(tmp_path: Path, peers: list[Peer]) -> None:
    """The recorder keeps no copy: a listener dies with who got it."""
    listener = listening(tmp_path / "mcp.sock", mode=0o666)
    with Recorder([decisions(tmp_path, hand_over=(listener.detach(),))]) as recorder:
        peers.append(Peer(tmp_path / "d.sock"))
        data, [handed], _, _ = socket.recv_fds(peers[0].socket, 1, 2)
        assert data == b"\0"
        peers.append(Peer(tmp_path / "mcp.sock"))
        os.close(handed)
        peers[0].send(b"a\n")
        assert peers[0].socket.recv(1) == b"\n"  # it is done with handing over
        with socket.socket(socket.AF_UNIX) as late, pytest.raises(ConnectionRefusedError):
            late.connect(str(tmp_path / "mcp.sock"))
        recorder.hang_up("decisions")
        assert recorder.close()["decisions"].errors == ()


def test_the_socket_file_of_an_exclusive_channel_is_its_owners_alone(tmp_path: Path) -> None:
    sdk = Channel("sdk", tmp_path / "s.sock")
    with Recorder([decisions(tmp_path), sdk]):
        modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("d.sock", "s.sock")]
    assert modes == [0o600, 0o666]


def test_hanging_up_shows_the_peer_the_end_and_still_takes_its_last_words(
    tmp_path: Path, peers: list[Peer]
) -> None:
    with Recorder([decisions(tmp_path)]) as recorder:
        peers.append(Peer(tmp_path / "d.sock"))
        peers[0].send(b"a\n")
        assert peers[0].socket.recv(1) == b"\n"
        recorder.hang_up("decisions")
        assert peers[0].ended()
        peers[0].send(b"b\n")
        peers[0].close()
        log = recorder.close()["decisions"]
    assert [line.data for line in log.lines] == [b"a", b"b"]
    assert log.errors == ()


@pytest.mark.parametrize("wait", [0.0, 0.2])
def test_a_peer_that_goes_before_the_host_hangs_up_is_reported(
    tmp_path: Path, peers: list[Peer], wait: float
) -> None:
    with Recorder([decisions(tmp_path)]) as recorder:
        peers.append(Peer(tmp_path / "d.sock"))
        peers[0].send(b"a\n")
        peers[0].close()
        time.sleep(wait)
        log = recorder.close()["decisions"]
    assert [line.data for line in log.lines] == [b"a"]
    assert log.errors == ("closed_early",)


def test_a_peer_that_is_still_there_at_the_end_is_no_error(tmp_path: Path, peers: list[Peer]) -> None:
    with Recorder([decisions(tmp_path), Channel("sdk", tmp_path / "s.sock")]) as recorder:
        peers += [Peer(tmp_path / "d.sock"), Peer(tmp_path / "s.sock")]
        peers[0].send(b"a\n")
        peers[1].send(b"b\n")
        logs = recorder.close()
    assert [line.data for line in logs["decisions"].lines] == [b"a"]
    assert [line.data for line in logs["sdk"].lines] == [b"b"]
    assert logs["decisions"].errors == logs["sdk"].errors == ()
    assert all(peer.ended() for peer in peers)


@pytest.mark.breaks("unclean:sdk:incomplete_last_line")
def test_a_line_without_its_end_is_not_recorded_but_reported(tmp_path: Path, peers: list[Peer]) -> None:
    with Recorder([Channel("sdk", tmp_path / "s.sock")]) as recorder:
        peers.append(Peer(tmp_path / "s.sock"))
        peers[0].send(b"whole\nhal")
        peers[0].close()
        log = recorder.close()["sdk"]
    assert [line.data for line in log.lines] == [b"whole"]
    assert log.errors == ("incomplete_last_line",)


@pytest.mark.breaks("unclean:sdk:line_too_long")
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_that_is_too_long_ends_the_connection_unacknowledged(
    tmp_path: Path, peers: list[Peer], end: bytes
) -> None:
    with Recorder([decisions(tmp_path, max_line=10)]) as recorder:
        peers.append(Peer(tmp_path / "d.sock"))
        peers[0].send(b"0123456789\n")
        assert peers[0].socket.recv(10) == b"\n"
        peers[0].send(b"01234567890" + end)
        assert peers[0].socket.recv(10) == b""
        log = recorder.close()["decisions"]
    assert [line.data for line in log.lines] == [b"0123456789"]
    assert log.errors == ("line_too_long",)


@pytest.mark.breaks("unclean:sdk:too_many_bytes", "unclean:decisions:too_many_bytes")
def test_a_channel_takes_no_more_than_its_bytes_in_all(tmp_path: Path, peers: list[Peer]) -> None:
    with Recorder([Channel("sdk", tmp_path / "s.sock", max_line=100, max_bytes=250)]) as recorder:
        for size in (99, 99, 99):
            peers.append(Peer(tmp_path / "s.sock"))
            peers[-1].send(b"x" * size + b"\n")
            peers[-1].socket.shutdown(socket.SHUT_WR)
            assert peers[-1].ended()
        log = recorder.close()["sdk"]
    assert [len(line.data) for line in log.lines] == [99, 99]
    assert log.errors == ("too_many_bytes",)


@pytest.mark.breaks("unclean:sdk:too_many_lines", "unclean:decisions:too_many_lines")
@pytest.mark.parametrize("line", [b"x", b""])
def test_a_channel_takes_no_more_lines_than_it_may_and_says_so_once(
    tmp_path: Path, peers: list[Peer], line: bytes
) -> None:
    told: list[bool] = []
    channel = Channel("sdk", tmp_path / "s.sock", max_lines=3)
    with Recorder([channel], flooded=lambda: told.append(True)) as recorder:
        for _ in range(3):
            peers.append(Peer(tmp_path / "s.sock"))
            peers[-1].send((line + b"\n") * 3)
            peers[-1].socket.shutdown(socket.SHUT_WR)
            assert peers[-1].ended()
        log = recorder.close()["sdk"]
    assert [stamped.data for stamped in log.lines] == [line] * 3
    assert (log.errors, told) == (("too_many_lines",), [True])


def test_a_flood_of_lines_fills_no_memory(tmp_path: Path, peers: list[Peer]) -> None:
    with Recorder([Channel("sdk", tmp_path / "s.sock")]) as recorder:
        peers.append(Peer(tmp_path / "s.sock"))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(10):
                peers[0].send(b"\n" * MAX_CHANNEL_LINES)
        log = recorder.close()["sdk"]
    assert len(log.lines) == MAX_CHANNEL_LINES
    assert log.errors == ("too_many_lines",)


def test_a_peer_that_reads_no_acknowledgements_stops_nobody(tmp_path: Path, peers: list[Peer]) -> None:
    many = decisions(tmp_path, max_lines=1_000_000)
    with Recorder([many, Channel("sdk", tmp_path / "s.sock")]) as recorder:
        peers += [Peer(tmp_path / "d.sock"), Peer(tmp_path / "s.sock")]
        writer = threading.Thread(target=peers[0].send, args=(b"\n" * 600_000,))
        writer.start()
        peers[1].send(b'{"type":"x"}\n')
        assert recorder.wait_for("sdk", "x", 60)
        writer.join(60)
        assert not writer.is_alive()
        received = 0
        while received < 600_000:
            received += len(peers[0].socket.recv(1 << 20))
        logs = recorder.close()
    assert len(logs["decisions"].lines) == 600_000


def test_waiting_for_an_event(tmp_path: Path, peers: list[Peer]) -> None:
    with Recorder([decisions(tmp_path)]) as recorder:
        started = time.monotonic()
        assert recorder.wait_for("decisions", "ready", 0.2) is None
        assert 0.2 <= time.monotonic() - started < 30
        peers.append(Peer(tmp_path / "d.sock"))
        peers[0].send(b'no json\n[]\n{"type":"other"}\n')
        timer = threading.Timer(0.2, peers[0].send, [json.dumps({"type": "ready", "n": 1}).encode() + b"\n"])
        timer.start()
        found = recorder.wait_for("decisions", "ready", 60)
        assert found is not None
        assert json.loads(found.data)["n"] == 1
        timer.join()
        timer = threading.Timer(0.2, peers[0].close)
        timer.start()
        started = time.monotonic()
        assert recorder.wait_for("decisions", "never", 120) is None  # at once when nothing can come any more
        assert time.monotonic() - started < 60
        timer.join()


def test_socket_files_are_open_to_every_user_and_gone_afterwards(tmp_path: Path) -> None:
    paths = [tmp_path / "a.sock", tmp_path / "b.sock"]
    recorder = Recorder([Channel(path.name, path) for path in paths])
    assert [path.stat().st_mode & 0o777 for path in paths] == [0o666, 0o666]
    first = recorder.close()
    assert not any(path.exists() for path in paths)
    assert recorder.close() == first
    recorder.hang_up("a.sock")  # too late, and harmless
    assert recorder.wait_for("a.sock", "x", 5) is None


def test_a_socket_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    threads = threading.active_count()
    with pytest.raises(OSError, match=r"[Pp]ath|such file"):
        Recorder([Channel("a", tmp_path / "a.sock"), Channel("b", tmp_path / "missing" / "b.sock")])
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "b.sock").write_text("mine")
    with pytest.raises(OSError, match="in use"):
        Recorder([Channel("a", tmp_path / "a.sock"), Channel("b", tmp_path / "b.sock")])
    assert [path.name for path in tmp_path.iterdir()] == ["b.sock"]
    assert threading.active_count() == threads


def test_a_recorder_that_fails_says_so_and_lets_nobody_go_on(
    tmp_path: Path, peers: list[Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    caught: list[object] = []
    monkeypatch.setattr(threading, "excepthook", caught.append)
    recorder = Recorder([decisions(tmp_path)])
    peers.append(Peer(tmp_path / "d.sock"))
    peers[0].send(b"a\n")
    assert peers[0].socket.recv(1) == b"\n"
    recorder._tapes["decisions"].lines = None  # type: ignore[assignment]
    peers[0].send(b"b\n")
    assert peers[0].ended()
    recorder._thread.join(60)
    assert recorder._tapes["decisions"].errors[0] == "recorder_failed"
    assert len(caught) == 1
