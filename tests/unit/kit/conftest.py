"""A kit made of small real parts: an image of one layer, the golden archive's run in it, three inputs."""

import shutil
from pathlib import Path

import pytest
from attrs import evolve

from harness.bundle.kit_contents import expected_digests
from harness.bundle.kit_reader import SealedKit
from harness.bundle.kit_writer import Part, described, write_kit
from harness.bundle.reader import read_archive
from harness.bundle.writer import build_archive
from harness.contracts import companion
from harness.contracts.canonical import load_json, load_ndjson, ndjson, sha256_of, to_bytes
from harness.contracts.manifest import EVENTS
from harness.contracts.replay_kit import (
    ARCHIVE,
    IMAGE_CONFIG,
    POLICY,
    ReplayKit,
    input_file,
    layer_file,
)
from harness.engine.file_list import image_files
from harness.engine.layer_files import contents_of
from harness.engine.layers import Entry, ImageConfig, Layer, config_bytes, write_layer
from harness.evidence.assemble import runspec_document
from harness.evidence.image import RunImage
from harness.plan import Plan
from harness.spec import RunSpec, SubjectSpec, ToolsSpec
from tests.unit.bundle.conftest import (
    RUN_ID,
    Members,
    accounting,
    companion_members,
    document,
    remake_manifests,
    v0_members,
)

TREE = {
    "opt/node/bin/node": Entry(source=b"\x7fELF", executable=True),
    "usr/bin/agent": Entry(source=b"#!/bin/sh\n", executable=True),
    "usr/bin/python3.11": Entry(source=b"\x7fELF", executable=True),
    "usr/lib/data": Entry(source=b"x" * 700),
    "bin": Entry(target="usr/bin"),
    "workspace": Entry(),
}
INPUTS = {"a.txt": b"one\n", "deep/er/b.txt": b"two\n", "deep/same.txt": b"one\n"}
POLICY_FILE = Path(__file__).parents[3] / "runner-fixtures" / "kernel-policy" / "policy.toml"
# As in the archive of a real run that the kit is made around.
AGENT = ("/opt/node/bin/node", "/opt/app/agent.mjs")
FILES = "/opt/app/node_modules/@modelcontextprotocol/server-filesystem/dist/index.js"
SERVER = ("/opt/node/bin/node", FILES, "/workspace")


def as_of_now(members: Members, proxy: tuple[str, ...]) -> Members:
    """The golden run as it would be measured now: its proxy made its own socket, and read the policy."""
    lines = load_ndjson(members[companion.KERNEL], companion.KERNEL)
    tree = load_json(members[companion.PROCESSES], companion.PROCESSES)
    for told in (*lines, *(image for node in tree["processes"] for image in node["execs"])):
        if "/opt/assay/proxy.py" in told.get("argv", ()):
            told["argv"] = list(proxy)
    kept = [
        line
        for line in lines
        if line["event_class"] != "declared_plumbing"
        or line["operation"] == "exec"
        or line["operation"] == "connect"
    ]
    in_order = sorted(({**line, "seq": 0} for line in kept), key=to_bytes)
    return {
        companion.KERNEL: ndjson({**line, "seq": seq} for seq, line in enumerate(in_order)),
        companion.PROCESSES: to_bytes(tree),
    }


class Maker:
    """Parts of a kit that a test may change before `write`; `digest` makes the books fit what they are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.layer: Layer = write_layer(TREE, folder / "layer.tar")
        self.inputs = folder / "inputs"
        for name, data in INPUTS.items():
            (self.inputs / name).parent.mkdir(parents=True, exist_ok=True)
            (self.inputs / name).write_bytes(data)
        (self.inputs / "empty").mkdir()
        (self.inputs / "deep" / "same.txt").chmod(0o755)  # its bytes are another input's, which is no program
        (self.inputs / "deep" / "link").symlink_to("../a.txt")
        self.members = {**v0_members(), **companion_members()}
        self.layers: list[tuple[str, Path]] = [(self.layer.digest, self.layer.path)]
        self.config = config_bytes(ImageConfig({"PATH": "/usr/bin"}, {}), [self.layer])
        self.plan = self.planned()
        self.members[companion.RUNSPEC] = document(runspec_document(self.plan.context()))
        self.members |= as_of_now(self.members, self.plan.proxy_command)
        self.members[companion.ACCOUNTING] = document(
            accounting(volatile=dict.fromkeys(self.plan.volatile, 0))
        )
        started, finished = load_ndjson(self.members[EVENTS], "events")
        started |= {"env_keys": sorted(self.plan.spec.env)}
        self.members[EVENTS] = ndjson([started, finished])
        self.parts: dict[str, Part] = {}
        self.kit = self.booked()

    def planned(self) -> Plan:
        contents = contents_of([path for _, path in self.layers])
        return Plan(
            spec=RunSpec(AGENT, RUN_ID, agent_shim="openai-agents", env={"A": "1"}),
            name="openai-agents",
            image=RunImage(
                "small:1",
                sha256_of(self.config),
                ("/lib", "/lib64", "/opt", "/usr"),
                locked=True,
                files=image_files(contents.lines, contents.scripts),
                search="/usr/bin",
            ),
            subject=SubjectSpec(command=AGENT),
            witnesses=("kernel", "policy", "sdk"),
            volatile=("/tmp/agent/*.log",),
            inputs=self.inputs,
            tools=ToolsSpec(server=SERVER, legacy=True, env={"B": "2"}),
            policy=POLICY_FILE,
        )

    def booked(self) -> ReplayKit:
        """kit.json as `pack` writes it, of the members as they are now."""
        (self.folder / "archive").write_bytes(build_archive(remake_manifests(self.members)))
        archive = read_archive(self.folder / "archive")
        digests = {name: sha256_of((self.inputs / name).read_bytes()) for name in sorted(INPUTS)}
        self.parts = {
            ARCHIVE: self.folder / "archive",
            IMAGE_CONFIG: self.config,
            POLICY: POLICY_FILE,
            **{layer_file(digest): path for digest, path in self.layers},
            **{input_file(digest): self.inputs / name for name, digest in digests.items()},
        }
        return ReplayKit(
            run_id=RUN_ID,
            archive_identity=archive.identity,
            image="small:1",
            image_id=sha256_of(self.config),
            layers=tuple(digest for digest, _ in self.layers),
            inputs=digests,
            folders=("empty",),
            programs=("deep/same.txt",),
            links={"deep/link": "../a.txt"},
            expected=expected_digests(archive),
            files=described(self.parts),
        )

    def write(self, **changes: object) -> Path:
        """The kit with these fields of kit.json changed, and everything else as it is."""
        path = self.folder / "made.kit"
        write_kit(path, evolve(self.kit, **changes), self.parts)  # type: ignore[arg-type]
        return path

    def write_parts(self, **parts: Part) -> Path:
        """The kit with these files changed (a name's "/" and "." as "_"), and their digests in kit.json."""
        named = {name.replace("/", "_").replace(".", "_"): name for name in self.parts}
        self.parts |= {named[key]: part for key, part in parts.items()}
        return self.write(files=described(self.parts))


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    folder = tmp_path / "maker"
    folder.mkdir()
    return Maker(folder)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def anyone(_: SealedKit) -> None:
    """Lets every kit in, as --trust does."""


def emptied(folder: Path) -> Path:
    shutil.rmtree(folder)
    folder.mkdir()
    return folder
