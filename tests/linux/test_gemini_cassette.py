"""The cassette of gemini-google-genai: strict on replay, without secrets when recorded.

The agent runs in its own image, without the harness around it: its tools are started directly, and a
few lines stand for the recorder of SDK events. For recording, they also stand for the model's endpoint.
"""

import json
from pathlib import Path
from typing import Any

import docker
import pytest

from harness.engine.locked_images import image_for_run
from harness.evidence.image import RunImage
from harness.host.state import State
from harness.plan import FIXED_ENV, FIXTURES

pytestmark = pytest.mark.linux

FOLDER = FIXTURES / "gemini-google-genai"
CASSETTE = FOLDER / "cassettes/kernel-policy.json"
KEY = "AIza-not-a-real-key-7f3a"
PYTHON = ["/usr/bin/python3.11", "-S", "-B"]
TOOLS = ["/usr/bin/python3.11", "-I", "-S", "-B", "/opt/app/file_server.py", "/workspace"]

# Prints what the agent tells its recorder, and its exit code. With ANSWERS, serves them on loopback.
AROUND = """
import http.server, json, os, socket, subprocess, sys, threading
answers = json.loads(os.environ.pop("ANSWERS", "null"))
if answers is not None:
    class Model(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            assert self.headers["x-goog-api-key"] == os.environ["GEMINI_API_KEY"]
            status, answer = answers.pop(0)
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
    server = http.server.HTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["GOOGLE_GEMINI_BASE_URL"] = f"http://127.0.0.1:{server.server_port}"
listener = socket.socket(socket.AF_UNIX)
listener.bind(os.environ["ASSAY_RUNNER_SDK_SOCKET"])
listener.listen(1)
def tell():
    with listener.accept()[0].makefile("r") as lines:
        for line in lines:
            print("EVENT", line, end="", flush=True)
thread = threading.Thread(target=tell, daemon=True)
thread.start()
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
with socket.socket(socket.AF_UNIX) as last:  # an agent that told nothing leaves the thread waiting
    last.connect(os.environ["ASSAY_RUNNER_SDK_SOCKET"])
thread.join(60)
print("SAID", json.dumps(done.stdout))
print("CODE", done.returncode)
written = "/dev/shm/recorded.json"
if os.path.exists(written):
    print("RECORDED", json.dumps(open(written).read()))
"""


class Ended:
    """What came of one run of the agent."""

    def __init__(self, output: str) -> None:
        lines = [line.partition(" ")[::2] for line in output.splitlines()]
        self.events = [json.loads(text)["event_type"] for word, text in lines if word == "EVENT"]
        self.said: str = next(json.loads(text) for word, text in lines if word == "SAID")
        self.code = next(int(text) for word, text in lines if word == "CODE")
        self.recorded: str | None = next((json.loads(x) for word, x in lines if word == "RECORDED"), None)


@pytest.fixture(scope="module")
def image(engine: docker.DockerClient, state: State) -> RunImage:
    return image_for_run(engine, FOLDER, state=state, progress=print, unlocked=True)


def agent(
    engine: docker.DockerClient, image: RunImage, cassette: Path | None, env: dict[str, str] | None = None
) -> Ended:
    """Run the agent on a cassette of the host, or on none."""
    volumes = {str(FOLDER / "inputs"): {"bind": "/workspace", "mode": "ro"}}
    if cassette is not None:
        volumes[str(cassette)] = {"bind": "/run/cassette.json", "mode": "ro"}
    environment = FIXED_ENV | {
        "ASSAY_RUNNER_CASSETTE": "/run/cassette.json",
        "ASSAY_RUNNER_GEMINI_MODE": "replay",
        "ASSAY_RUNNER_MCP_COMMAND": json.dumps(TOOLS),
        "ASSAY_RUNNER_RUN_ID": "run_x",
        "ASSAY_RUNNER_SDK_EVENT_SCHEMA": "assay.runner.sdk_event.v0",
        "ASSAY_RUNNER_SDK_SOCKET": "/dev/shm/sdk.sock",
        "ASSAY_RUNNER_TASK": "/workspace/gemini-input.txt",
    }
    output: bytes = engine.containers.run(
        image.id,
        entrypoint=[*PYTHON, "-c", AROUND, *PYTHON, "/opt/app/agent.py"],
        environment=environment | (env or {}),
        network_mode="none",
        read_only=True,
        remove=True,
        volumes=volumes,
    )
    return Ended(output.decode())


def changed(tmp_path: Path, change: Any) -> Path:
    """The fixture's cassette, after `change` had its list of interactions."""
    document = json.loads(CASSETTE.read_bytes())
    change(document["interactions"])
    path = tmp_path / "cassette.json"
    path.write_text(json.dumps(document))
    return path


def rename_call(interactions: list[Any]) -> None:
    interactions[1]["request"]["parts"][0]["functionResponse"]["id"] = "another"


def drop_id(interactions: list[Any]) -> None:
    del interactions[0]["response"]["candidates"][0]["content"]["parts"][0]["functionCall"]["id"]


def move_endpoint(interactions: list[Any]) -> None:
    interactions[0]["request"]["path"] = interactions[0]["request"]["path"].replace("v1beta", "v1")


TOOL_CALL = ["tool_call_started", "tool_call_completed"]


def test_the_fixture_itself_is_replayed(engine: docker.DockerClient, image: RunImage) -> None:
    ended = agent(engine, image, CASSETTE)
    assert (ended.code, ended.events) == (0, [*TOOL_CALL, "run_finished"]), ended.said


@pytest.mark.parametrize(
    ("change", "events", "said"),
    [
        (
            lambda tape: tape.append(tape[1]),
            [*TOOL_CALL, "run_failed"],
            "1 interactions were never asked for",
        ),
        (lambda tape: tape.pop(), [*TOOL_CALL, "run_failed"], "nothing is left on the tape"),
        (lambda tape: tape.reverse(), ["run_failed"], "the tape has"),
        (rename_call, [*TOOL_CALL, "run_failed"], "the tape has"),
        (move_endpoint, ["run_failed"], "the tape has"),
        (drop_id, [*TOOL_CALL, "run_failed"], "the tape has"),  # the id that the answer must come back under
    ],
    ids=["unplayed", "too-short", "other-order", "other-id", "other-endpoint", "no-id"],
)
def test_whatever_is_not_as_on_the_tape_fails_the_run(
    engine: docker.DockerClient, image: RunImage, tmp_path: Path, change: Any, events: list[str], said: str
) -> None:
    ended = agent(engine, image, changed(tmp_path, change))
    assert (ended.code, ended.events) == (1, events), ended.said
    assert said in ended.said


def test_a_recording_holds_no_secret_and_can_be_played(
    engine: docker.DockerClient, image: RunImage, tmp_path: Path
) -> None:
    tape = json.loads(CASSETTE.read_bytes())["interactions"]
    env = {
        "ANSWERS": json.dumps([[200, interaction["response"]] for interaction in tape]),
        "ASSAY_RUNNER_CASSETTE": "/dev/shm/recorded.json",
        "ASSAY_RUNNER_GEMINI_MODE": "record",
        "GEMINI_API_KEY": KEY,
    }
    ended = agent(engine, image, None, env)
    assert ended.code == 0, ended.said
    assert ended.recorded is not None
    assert KEY not in ended.recorded
    document = json.loads(ended.recorded)
    assert document["origin"] == "recorded"
    assert document["interactions"] == tape
    path = tmp_path / "recorded.json"
    path.write_text(ended.recorded)
    assert agent(engine, image, path).code == 0


def test_only_harmless_parts_of_a_request_are_kept(engine: docker.DockerClient, image: RunImage) -> None:
    code = (
        "import httpx2, json; from cassette import described;"
        "url = 'http://x/v1beta/m?alt=json&key=SECRET&access_token=SECRET';"
        "names = ('x-goog-api-key', 'Authorization', 'X-Goog-User-Project', 'Cookie');"
        "body = {'contents': [{'role': 'user', 'parts': [{'text': 'hello'}]}]};"
        "request = httpx2.Request('POST', url, headers=dict.fromkeys(names, 'SECRET'), json=body);"
        "print(json.dumps(described(request)))"
    )
    output: bytes = engine.containers.run(
        image.id,
        entrypoint=[*PYTHON, "-c", code],
        environment=FIXED_ENV | {"PYTHONPATH": "/opt/site:/opt/app"},
        network_mode="none",
        read_only=True,
        remove=True,
    )
    assert json.loads(output) == {
        "method": "POST",
        "path": "/v1beta/m",
        "query": {"alt": "json"},
        "headers": {"content-type": "application/json"},
        "role": "user",
        "parts": [{"text": "hello"}],
    }


def test_a_key_that_comes_back_is_not_written(engine: docker.DockerClient, image: RunImage) -> None:
    tape = json.loads(CASSETTE.read_bytes())["interactions"]
    tape[1]["response"]["candidates"][0]["content"]["parts"][0]["text"] = f"your key is {KEY}"
    env = {
        "ANSWERS": json.dumps([[200, interaction["response"]] for interaction in tape]),
        "ASSAY_RUNNER_CASSETTE": "/dev/shm/recorded.json",
        "ASSAY_RUNNER_GEMINI_MODE": "record",
        "GEMINI_API_KEY": KEY,
    }
    ended = agent(engine, image, None, env)
    assert (ended.code, ended.recorded) == (1, None)
    assert "nothing is written" in ended.said


@pytest.mark.parametrize("env", [{}, {"GEMINI_API_KEY": KEY, "CI": "1"}], ids=["no-key", "ci"])
def test_recording_is_refused(engine: docker.DockerClient, image: RunImage, env: dict[str, str]) -> None:
    ended = agent(engine, image, None, {"ASSAY_RUNNER_GEMINI_MODE": "record", **env})
    assert (ended.code, ended.events) == (1, [])
    assert "set GEMINI_API_KEY, and do not do it in CI" in ended.said
