"""What is to be measured: RunSpec (contracts §3.1) and fixture.toml.

A fixture is a folder with a fixture.toml, a policy, inputs and what its image is made of.
Everything in it is checked here, before anything is started.
"""

import re
import tomllib
import uuid
from pathlib import Path

from attrs import Factory, evolve, frozen

from harness.contracts.converter import structure
from harness.errors import InputError

RUN_ID_ALPHABET = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
AGENT_SHIMS = ("none", "openai-agents", "gemini-google-genai")
FIXTURE_SCHEMA = "assay.runner.fixture.v1"
WITNESSES = ("kernel", "policy", "sdk")
NETWORKS = ("none", "loopback")
# /FOLDER/NAME with a "*" in NAME and nowhere else, not in /workspace; or a file of /proc or /sys.
# Also a JSON Schema pattern.
VOLATILE = (
    r"^(?:(?!/workspace/)(?:/(?!\.\.?/)[^/*]+)+/[^/*]*\*[^/]*"
    r"|/(?:proc|sys)(?:/(?!\.\.?(?:/|$))[^/*]+)+)$(?!\n)"
)
ID_SOURCES = ("local_model", "cassette_recorded", "cassette_synthetic")  # never minted by the fixture


class RunSpecError(InputError):
    """A RunSpec that may not be run; `identity` is the error's name in contracts §3.1."""

    def __init__(self, identity: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, place="run spec", hint=hint)
        self.identity = identity


@frozen
class RunSpec:
    """One measured run: contracts §3.1. `env` is what the runner adds, kept sorted."""

    command: tuple[str, ...]
    run_id: str = Factory(lambda: f"run_{uuid.uuid4().hex}")
    platform: str = "linux"
    agent_shim: str = "none"
    env: dict[str, str] = Factory(dict)

    def validate(self) -> None:
        """Raise RunSpecError for the first broken rule, in the contract's order."""
        if not self.command:
            raise RunSpecError("EmptyCommand", "command must not be empty", hint="give it after --")
        if not self.run_id:
            raise RunSpecError("EmptyRunId", "run_id must not be empty", hint="leave it out")
        if ":" in self.run_id:
            raise RunSpecError(
                "RunIdContainsColon", f"run_id {self.run_id!r} must not contain ':'", hint="use '_'"
            )
        if not RUN_ID_ALPHABET.issuperset(self.run_id):
            raise RunSpecError(
                "RunIdContainsUnsafeCharacter",
                f"run_id {self.run_id!r} may only contain ASCII letters, digits, '_' and '-'",
                hint="replace the other characters by '_'",
            )
        if self.agent_shim not in AGENT_SHIMS:
            raise RunSpecError(
                "UnsupportedAgentShim",
                f"unsupported agent shim {self.agent_shim!r}",
                hint=f"known: {', '.join(AGENT_SHIMS)}",
            )


@frozen
class SubjectSpec:
    """The agent's container: `deadline_s` counts from its start."""

    command: tuple[str, ...]
    deadline_s: float = 60.0
    env: dict[str, str] = Factory(dict)


@frozen
class ToolsSpec:
    """The other container: the policy proxy starts `server` and speaks MCP on its stdio.

    `legacy`: the server predates protocol 2026-07-28, so the proxy itself answers
    server/discover with -32601 and starts the server only when it is really needed.
    """

    server: tuple[str, ...]
    policy: str = "policy.toml"
    workspace: str = "ro"  # "ro" or "rw": how the tools see /workspace
    legacy: bool = False
    env: dict[str, str] = Factory(dict)


@frozen
class SdkExpectation:
    """What the SDK layer must say, exactly."""

    name: str
    version: str
    source: str
    events: tuple[str, ...]
    tool_calls: int


@frozen
class WriteExpectation:
    """A file that must be created exactly once, by this role, successfully."""

    path: str
    role: str


@frozen
class GateSpec:
    """Acceptance of a fixture (contracts §7.2): the v0 surface and bindings, exactly."""

    name: str
    run_id: str
    label: str  # as in the PASS lines
    scenario: str = ""
    filesystem_paths: tuple[str, ...] = ()
    network_endpoints: tuple[str, ...] = ()
    process_execs: tuple[str, ...] = ()
    mcp_tools: tuple[str, ...] = ()
    policy_decisions: tuple[str, ...] = ()
    tool_call_ids: tuple[str, ...] = ()
    correlation_status: str = "clean"
    ambiguities: tuple[str, ...] = ()
    absent_paths: tuple[str, ...] = ()
    writes: tuple[WriteExpectation, ...] = ()
    sdk: SdkExpectation | None = None


@frozen
class ScenarioSpec:
    """Another way to run the same fixture: `env` and `policy` replace the fixture's where they are given."""

    name: str
    gate: GateSpec
    env: dict[str, str] = Factory(dict)
    policy: str = ""


@frozen
class ProbeSpec:
    """What the probe's own runs need in their environment, beside a task and the ids of its calls:
    the two of a model on tape are `identical_calls` and `no_id`."""

    identical_calls: dict[str, str] = Factory(dict)
    no_id: dict[str, str] = Factory(dict)


@frozen
class FixtureFile:
    """fixture.toml as written; unknown keys are refused."""

    schema: str
    name: str
    description: str
    image: str  # name of an image recipe: runner-fixtures/<image>/image.toml
    subject: SubjectSpec
    candidate: bool = False  # not (yet) one of the runtimes: measured by name only, never as one of all
    agent_shim: str = "none"
    witnesses: tuple[str, ...] = ("kernel",)  # the layers that a clean run must have
    inputs: str = "inputs"  # folder, copied to /workspace for each run
    id_source: str = ""  # who chose the tool call ids; needed with the witness "sdk"
    network: str = "none"  # "loopback": packets of the agent to itself are expected; nothing else ever is
    volatile: tuple[
        str, ...
    ] = ()  # names that the agent makes up anew in each run, as globs; looks that vary
    tools: ToolsSpec | None = None
    gate: GateSpec | None = None
    scenario: tuple[ScenarioSpec, ...] = ()
    probe: ProbeSpec = ProbeSpec()


@frozen
class Fixture:
    """A fixture.toml that passed all checks, with its folder; `scenario` "" is the fixture itself."""

    folder: Path
    file: FixtureFile
    scenario: str = ""

    @property
    def name(self) -> str:
        """The folder's name, or "folder:scenario"."""
        return f"{self.file.name}:{self.scenario}" if self.scenario else self.file.name

    @property
    def scenarios(self) -> tuple["Fixture", ...]:
        """The fixture's other ways to run, each a fixture of its own."""
        return tuple(self._as(scenario) for scenario in self.file.scenario)

    def _as(self, scenario: ScenarioSpec) -> "Fixture":
        subject = evolve(self.file.subject, env=self.file.subject.env | scenario.env)
        tools = self.file.tools
        if tools is not None and scenario.policy:
            tools = evolve(tools, policy=scenario.policy)
        file = evolve(self.file, subject=subject, tools=tools, gate=scenario.gate, scenario=())
        return Fixture(self.folder, file, scenario.name)

    @property
    def inputs(self) -> Path:
        return self.folder / self.file.inputs

    @property
    def policy(self) -> Path | None:
        return self.folder / self.file.tools.policy if self.file.tools else None


def load_fixture(folder: Path) -> Fixture:
    """Read and check `folder`/fixture.toml; InputError names the place and the remedy."""
    path = folder / "fixture.toml"
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no such fixture", place=str(path), hint="see `assay-runner run --help`") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"not valid TOML: {error}", place=str(path)) from None
    file = structure(FixtureFile, document, place=str(path))
    fixture = Fixture(folder, file)
    for one in (fixture, *fixture.scenarios):
        for wrong, what, hint in _broken_rules(one):
            if wrong:
                raise InputError(what, place=str(path), hint=hint)
    return fixture


def _broken_rules(fixture: Fixture) -> list[tuple[bool, str, str]]:
    file = fixture.file
    unknown = sorted(set(file.witnesses) - set(WITNESSES))
    unfit = [glob for glob in file.volatile if not re.search(VOLATILE, glob)]
    needs_tools = "policy" in file.witnesses and file.tools is None
    policy = fixture.policy
    return [
        (file.schema != FIXTURE_SCHEMA, f"schema {file.schema!r} is not known", f"use {FIXTURE_SCHEMA!r}"),
        (
            not RUN_ID_ALPHABET.issuperset(fixture.scenario),
            "a scenario's name has odd characters",
            "use a-z, 0-9, -",
        ),
        (file.name != fixture.folder.name, f"name {file.name!r} is not the folder's name", "make them equal"),
        (bool(unknown), f"witnesses {unknown} are not known", f"known: {', '.join(WITNESSES)}"),
        (
            "sdk" in file.witnesses and file.id_source not in ID_SOURCES,
            f"id_source {file.id_source!r} does not say where the SDK's tool call ids come from",
            f"known: {', '.join(ID_SOURCES)}",
        ),
        (
            file.network not in NETWORKS,
            f"network {file.network!r} is not known",
            "use 'none', or 'loopback' for an agent that must talk to itself over 127.0.0.1",
        ),
        (
            bool(unfit),
            f"volatile {unfit} must name a folder outside /workspace and, with a '*', what stands in it",
            "write e.g. /tmp/agent/*.log; without a '*', a file of /proc or /sys",
        ),
        (needs_tools, "witness 'policy' needs a [tools] table", "add [tools] with server and policy"),
        (not file.subject.command, "subject.command is empty", "name the agent's program"),
        (file.subject.deadline_s <= 0, "subject.deadline_s must be positive", "give seconds"),
        (file.tools is not None and not file.tools.server, "tools.server is empty", "name the MCP server"),
        (
            file.tools is not None and file.tools.workspace not in ("ro", "rw"),
            "tools.workspace must be 'ro' or 'rw'",
            "use 'ro' unless a tool must write",
        ),
        (
            policy is not None and not policy.is_file(),
            f"no policy file {policy}",
            "write it, or correct tools.policy",
        ),
        (not fixture.inputs.is_dir(), f"no inputs folder {fixture.inputs}", "make it, even if empty"),
    ]
