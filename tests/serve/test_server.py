"""A real server in a process of its own: where it listens, how it ends, what it survives."""

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from running_server import RunningServer
from serving import benchmark, png

from pictell.cli import main
from pictell.serve.server import _listen


def wait_for(condition) -> None:
    """Until it holds, or the test has failed."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited a minute"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def server(trained_runs):
    with RunningServer([str(trained_runs / "attention")], ["--decoders", "1"]) as server:
        yield server


def post(port: int, picture: bytes) -> tuple[int, dict]:
    boundary = "between"
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="pictures"; filename="a.png"\r\n\r\n'
    )
    body = head.encode() + picture + f"\r\n--{boundary}--\r\n".encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    connection.request("POST", "/v1/captions", body, kind)
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer


def test_captions_over_a_socket(server):
    status, answer = post(server.port, png())
    assert status == 200
    assert answer["pictures"][0]["captions"][0]["text"]


def test_it_listens_on_loopback_alone(server):
    import psutil

    found = [
        connection.laddr.ip
        for connection in psutil.Process(server.process.pid).net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert found == ["127.0.0.1"]


def test_a_name_of_another_site_is_not_answered(server):
    """DNS rebinding: a page's own name that was made to mean this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", "/v1/models", headers={"Host": "evil.example:80"})
    response = connection.getresponse()
    assert response.status == 421
    assert json.loads(response.read())["error"]["code"] == "wrong_host"


def test_a_refusal_reaches_a_client_that_is_still_sending(server):
    """Whole, each time: its body must not wait for the client to confirm its head."""
    hostile = benchmark("hostile_uploads")
    endless = hostile.endless_chunks()
    for _ in range(30):
        status, answer = hostile.send(server.port, endless)
        assert status == 413, answer
        assert answer["error"]["code"] == "request_too_large"


def test_answers_are_sent_at_once():
    """Nagle's algorithm costs each further answer over a connection 40 ms, so it is off."""

    async def option_of_a_connection() -> int:
        found = asyncio.get_running_loop().create_future()

        def connected(_reader, writer) -> None:
            connection = writer.get_extra_info("socket")
            found.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with _listen("127.0.0.1", 0) as listening:
            async with await asyncio.start_server(connected, sock=listening):
                _, writer = await asyncio.open_connection(*listening.getsockname())
                option = await asyncio.wait_for(found, 20)
                writer.close()
                return option

    assert asyncio.run(option_of_a_connection())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_after_what_it_has_taken(trained_runs, number):
    with RunningServer([str(trained_runs / "attention")], ["--decoders", "1"]) as server:
        answers: list[tuple[int, dict]] = []
        large = png(7000, 7000)  # takes a while to decode
        threads = [
            threading.Thread(target=lambda: answers.append(post(server.port, large)))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        wait_for(lambda: server.health()["pending"] == 3)
        server.process.send_signal(number)
        for thread in threads:
            thread.join()
        assert [status for status, _ in answers] == [200] * 3
        assert server.process.wait(timeout=30) == 0
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", server.port), timeout=5)


def test_decoders_end_with_a_server_that_was_killed(trained_runs):
    import psutil

    with RunningServer([str(trained_runs / "rnn")], ["--decoders", "2"]) as server:
        decoders = psutil.Process(server.process.pid).children()
        assert len(decoders) == 2
        os.kill(server.process.pid, signal.SIGKILL)
        _, alive = psutil.wait_procs(decoders, timeout=10)
        assert not alive


def test_a_client_that_goes_away_frees_its_place(server):
    body = png(4000, 4000)
    head = b'--between\r\nContent-Disposition: form-data; name="pictures"; filename="a.png"\r\n\r\n'
    form = head + body + b"\r\n--between--\r\n"
    start = (
        f"POST /v1/captions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(form)}\r\n"
        "Content-Type: multipart/form-data; boundary=between\r\n\r\n"
    )
    for cut in (len(form), len(form) // 2):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(start.encode() + form[:cut])
    wait_for(lambda: server.health()["pending"] == 0)
    assert post(server.port, png())[0] == 200


class TestBadInput:
    def test_a_port_that_is_taken(self, server, trained_runs, capsys):
        assert main(["serve", str(trained_runs / "rnn"), "--port", str(server.port)]) == 2
        line = capsys.readouterr().err
        assert f"cannot listen on 127.0.0.1 port {server.port}" in line
        assert "--port 0 takes any port that is free" in line
        assert line.count("\n") == 1

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["nowhere"], "nowhere: no such run folder"),
            (["RUN", "--port", "70000"], "port is 70000; it must be 0 to 65535"),
            (["RUN", "--host", "300.1.1.1"], "host is '300.1.1.1', which is no address here"),
            (["RUN", "--batch_size", "0"], "batch_size is 0"),
            (["RUN", "--max_megapixels", "-1"], "max_megapixels is -1.0"),
            (["RUN", "--queue", "3"], "queue is 3, less than max_pictures"),
            (["RUN", "RUN"], "the same run folder is given twice"),
        ],
    )
    def test_is_told_in_one_line(self, options, said, trained_runs, capsys):
        run = str(trained_runs / "rnn")
        arguments = [run if option == "RUN" else option for option in options]
        assert main(["serve", *arguments, *([] if "--port" in options else ["--port", "0"])]) == 2
        captured = capsys.readouterr()
        assert said in captured.err
        assert captured.err.count("\n") == 1

    def test_a_missing_library_names_the_extra(self, trained_runs):
        code = (
            "import sys; sys.modules['fastapi'] = None; from pictell.cli import main; "
            f"sys.exit(main(['serve', {str(trained_runs / 'rnn')!r}]))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 2
        assert 'pip install "pictell[serve]"' in done.stderr
