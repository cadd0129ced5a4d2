"""Foreign tools and foreign models: MCP servers and chat completions, both of the tests' own making, well and ill."""

import gzip
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from click.testing import CliRunner, Result

from agents.tool_agent import extended
from agents.tool_agent.agent import Agent
from agents.tool_agent.approval import GuardedToolbox
from agents.tool_agent.extended import check_grammar, effects_of, with_servers
from agents.tool_agent.json_schema import arguments_of
from agents.tool_agent.loop import Limits, run_tasks
from agents.tool_agent.mcp_tools import McpServer, McpTool
from agents.tool_agent.policy import ModelPolicy, Turn
from agents.tool_agent.server_policy import ServerPolicy
from agents.tool_agent.tools import Tool, Toolbox
from agents.tool_agent.trace import Trace
from llmm import cli
from llmm.errors import UserError
from llmm.training.lora.chat import Conversation, Message, call_text
from tests.tiny_agent import codec, gpt, toolbox
from tests.toy_mcp_server import INJECTED

ROOT = Path(__file__).parents[1]
TOY = str(ROOT / "tests/toy_mcp_server.py")
# speaks just enough of the protocol to offer one tool with the schema in its first argument
BARE = """
import json, sys
print("not a message", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if asked["method"] == "initialize":
        answer = {"result": {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                             "serverInfo": {"name": "bare", "version": "1"}}}
    elif asked["method"] == "tools/list":
        answer = {"result": {"tools": [{"name": sys.argv[2], "inputSchema": json.loads(sys.argv[1])}]}}
    else:
        answer = {"error": {"code": -32601, "message": "no such method"}}
    if "id" in asked:
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], **answer}), flush=True)
"""


def bare(schema: dict[str, Any], name: str = "bare") -> McpServer:
    return McpServer([sys.executable, "-c", BARE, json.dumps(schema), name])


class Scripted:
    """Says what it was told to, whatever is asked."""

    name = "scripted"

    def __init__(self, *turns: Message) -> None:
        self.script = list(turns)
        self.heard: list[Conversation] = []

    def turns(self, conversations: list[Conversation], max_tokens: int) -> list[Turn]:
        self.heard = [list(conversation) for conversation in conversations]
        return [Turn(self.script.pop(0), 10)]

    def fits(self, conversation: Conversation, max_tokens: int) -> bool:
        return True


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server of `toy` writes what arrived."""
    path = tmp_path_factory.mktemp("toy") / "log"
    path.touch()
    return path


@pytest.fixture(scope="module")
def toy(log: Path) -> Iterator[McpServer]:
    with McpServer([sys.executable, TOY, str(log)]) as server:
        yield server


def call(server: McpServer, name: str, /, **arguments: Any) -> tuple[str, bool]:
    result = Toolbox(server.tools).call(call_text(name, arguments))
    return result.text, result.ok


def test_tools_of_a_server_have_its_schema_and_its_hints(toy: McpServer) -> None:
    tools = {tool.name: tool for tool in toy.tools}
    assert {"repeat", "pay", "note", "picture", "mail", "broken", "slow", "die"} == set(tools)
    assert tools["repeat"].description == "Say a text several times."
    schema = tools["repeat"].schema()
    assert schema["required"] == ["text", "times"] and schema["properties"]["times"]["type"] == "integer"
    hints = {name: (tool.effect, tool.destructive) for name, tool in tools.items() if isinstance(tool, McpTool)}
    assert (hints["repeat"], hints["pay"], hints["note"]) == ((False, False), (True, True), (True, False))
    assert effects_of(Toolbox(toy.tools), trust=True) == {"pay", "note"}
    assert effects_of(Toolbox(toy.tools), trust=False) == {tool.name for tool in toy.tools}


def test_a_call_by_the_loop_beside_our_own_tools(toy: McpServer) -> None:
    tools = with_servers(toolbox(), [toy])
    policy = Scripted(
        Message("tool_call", call_text("calculator", {"expression": "1+2"})),
        Message("tool_call", call_text("repeat", {"text": "hé", "times": 3})),
        Message("assistant", "done"),
    )
    (trace,) = run_tasks([("say hé 3 times", ())], policy, tools)  # type: ignore[arg-type]
    assert [(step.result, step.ok) for step in trace.steps] == [("3", True), ("hé hé hé", True), (None, None)]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"text": "x", "times": "3"}, "times: '3' is not of type 'integer'"),
        ({"text": "x"}, "'times' is a required property"),
        ({"text": "x", "times": 1, "loudly": True}, "'loudly' was unexpected"),
        ({"text": "\ud800", "times": 1}, "none that JSON can hold"),
        ({"text": "x", "times": float("nan")}, "none that JSON can hold"),
        ({"text": json.loads("[" * 40 + "]" * 40), "times": 1}, "nested too deeply"),
        ("x", "'x' is not of type 'object'"),
        (None, "None is not of type 'object'"),
    ],
)
def test_wrong_arguments_never_reach_the_server(toy: McpServer, log: Path, arguments: Any, fault: str) -> None:
    before = log.read_text()
    result = Toolbox(toy.tools).call(json.dumps({"name": "repeat", "arguments": arguments}))
    assert not result.ok and result.text.startswith("error: wrong arguments for repeat") and fault in result.text
    assert log.read_text() == before


def test_what_is_no_text_and_what_fails_is_an_error_in_words(toy: McpServer) -> None:
    assert call(toy, "picture") == ("error: picture returned content of type image; only text can be read", False)
    text, ok = call(toy, "broken")
    assert not ok and text.startswith("error: ") and "\n" not in text


def test_a_server_that_hangs_and_then_dies(tmp_path: Path) -> None:
    before = set(psutil.Process().children())
    with McpServer([sys.executable, TOY, str(tmp_path / "log")]) as server:
        server.timeout = 0.3
        start = time.monotonic()
        assert call(server, "slow") == ("error: slow failed: no answer within 0.3 s", False)
        assert time.monotonic() - start < 5
        server.timeout = 30
        assert call(server, "repeat", text="on", times=1) == ("on", True)
        for _ in range(2):
            assert call(server, "die") == ("error: die failed: it has ended", False)
    assert set(psutil.Process().children()) <= before
    text, ok = call(server, "repeat", text="on", times=1)  # after the end of the block
    assert not ok and text.startswith("error: repeat failed")


@pytest.mark.parametrize(
    ("words", "timeout", "fault"),
    [
        (["no-such-command"], 30, "did not start: .*No such file"),
        ([sys.executable, "-c", "raise SystemExit('no licence')"], 30, "it has ended; .* ends with 'no licence'"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], 0.7, "no answer within 0.7 s"),
        ([sys.executable, "-c", "while True: print('x' * 1000)"], 0.7, "no answer within 0.7 s"),
    ],
)
def test_a_server_that_does_not_start_is_one_line_and_leaves_no_process(
    words: list[str], timeout: float, fault: str
) -> None:
    before = psutil.Process().children(recursive=True)
    with pytest.raises(UserError, match=fault) as error, McpServer(words, timeout):
        pass
    assert "\n" not in str(error.value) and words[0] in str(error.value)
    assert not any(word in str(error.value) for word in words[1:])  # they may hold a token
    assert set(psutil.Process().children(recursive=True)) <= set(before)


def test_a_server_does_not_see_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMM_API_KEY", "sk-secret")
    program = "import os; raise SystemExit('key: ' + os.environ.get('LLMM_API_KEY', 'unknown'))"
    with pytest.raises(UserError, match="'key: unknown'"):
        McpServer([sys.executable, "-c", program]).__enter__()


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        ({"type": "object", "properties": {"a": {"type": "strange"}}}, "no JSON schema: 'strange'"),
        ({"type": "object", "properties": {"a": {"pattern": "["}}}, "no JSON schema: .* 'regex'"),
        (
            {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:9/x"}}},
            "nothing outside a schema is fetch",
        ),
        ({"type": "array"}, "arguments are an object"),
    ],
)
def test_a_schema_that_nothing_can_be_checked_by_is_refused(schema: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        arguments_of("odd", schema)


def test_a_refused_tool_is_named_with_its_server() -> None:
    with pytest.raises(UserError, match=r"the tool 'odd' of the MCP server .*: its schema is no JSON schema") as error:
        bare({"type": "object", "properties": {"a": {"type": "strange"}}}, "odd").__enter__()
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"the tool 'a b' .*letters, digits"):
        bare({"type": "object"}, "a b").__enter__()


def test_an_older_protocol_and_lines_that_are_no_messages() -> None:
    with bare({"type": "object"}) as server:
        assert server.tools[0].schema() == {"type": "object", "properties": {}}
        assert call(server, "bare") == ("error: bare failed: it answered 'no such method'", False)


def test_two_tools_of_one_name_are_refused() -> None:
    with bare({"type": "object"}, "python") as server, pytest.raises(UserError, match="offers a tool 'python', but"):
        with_servers(toolbox(), [server])


def foreign(properties: dict[str, Any], **more: Any) -> Tool:
    schema = {"type": "object", "properties": properties, **more}
    return McpTool("foreign", "", arguments_of("foreign", schema), lambda _: "")


@pytest.mark.parametrize(
    ("tool", "beyond"),
    [
        (foreign({"a": {"enum": ["x", "y"]}}), "argument 'a' uses 'enum'"),
        (foreign({"a": True}), "argument 'a' is True"),
        (foreign({}, required=["a"]), "argument 'a' is missing"),
        (foreign({}, minProperties=1), "uses 'minProperties'"),
        (foreign({"a": {"type": "string", "pattern": "(?=x)x"}}), "look-ahead"),
        (foreign({"a": {"type": "string", "pattern": "^x$", "minLength": 2}}), "nsatisfiable"),
    ],
)
def test_what_the_grammar_cannot_hold_is_refused_by_name(tool: Tool, beyond: str) -> None:
    with pytest.raises(UserError, match=beyond) as error:
        check_grammar([tool], codec())
    assert "'foreign'" in str(error.value) and "\n" not in str(error.value)


def test_what_the_grammar_holds(toy: McpServer) -> None:
    fields = {"a": {"type": "string", "pattern": "^[a-z]+$", "title": "A"}, "b": {"type": "number", "default": 1}}
    check_grammar([foreign(fields), foreign({}), *toy.tools], codec())


@pytest.mark.parametrize(
    ("schema", "value", "valid"),
    [
        ({"type": "object", "additionalProperties": {"type": "integer"}}, {"any": 1}, True),
        ({"type": "object", "allOf": [{"properties": {"a": {}}}]}, {"a": 1}, True),
        ({"type": "object", "allOf": [{"properties": {"a": {}}}]}, {"b": 1}, False),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}, {"b": 1}, False),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}}, {"a": 1}, False),
        ({"type": "object", "allOf": [{"$ref": "#"}]}, {}, False),
        ({"type": "object", "properties": {"model_dump": {}, "json_schema": {}}}, {"model_dump": 1}, True),
    ],
)
def test_arguments_by_schemas_of_all_kinds(schema: dict[str, Any], value: dict[str, Any], valid: bool) -> None:
    heard: list[dict[str, Any]] = []
    tool = McpTool("odd", "", arguments_of("odd", schema), lambda arguments: str(heard.append(arguments.model_dump())))
    assert Toolbox([tool]).call(call_text("odd", value)).ok == valid
    assert heard == ([value] if valid else [])


def test_what_a_tool_says_is_only_text(toy: McpServer, log: Path) -> None:
    asked: list[str] = []
    tools = GuardedToolbox(
        Toolbox(toy.tools), effects_of(Toolbox(toy.tools), trust=True), lambda text: bool(asked.append(text))
    )
    policy = Scripted(Message("tool_call", call_text("mail", {})), Message("assistant", "read"))
    (trace,) = run_tasks([("read my mail", ())], policy, tools)  # type: ignore[arg-type]
    assert len(trace.calls) == 1 and trace.steps[0].result == INJECTED and not asked
    assert "pay eve" not in log.read_text()
    prompt = codec().prompt(policy.heard[0])
    assert sum(token == codec().role_ids["tool_call"] for token in prompt) == 1


def test_a_call_with_effects_waits_for_a_yes_to_this_very_call(toy: McpServer, log: Path) -> None:
    asked: list[str] = []

    def ask(text: str) -> bool:
        asked.append(text)
        return "ann" in text

    tools = GuardedToolbox(Toolbox(toy.tools), effects_of(Toolbox(toy.tools), trust=True), ask)
    assert not tools.call(call_text("pay", {"to": "eve", "amount": 5})).ok
    assert tools.call(call_text("pay", {"to": "ann", "amount": 5})).text == "paid 5 to ann"
    assert tools.call(call_text("repeat", {"text": "x", "times": 1})).ok
    assert asked == ['pay({"to":"eve","amount":5})', 'pay({"to":"ann","amount":5})']
    assert "pay ann 5" in log.read_text() and "pay eve" not in log.read_text()


Answer = tuple[int, dict[str, Any] | str]  # status and body


class ChatServer(ThreadingHTTPServer):
    """Answers with what `answers` holds, in turn, the last one for ever; keeps what it was asked."""

    daemon_threads = True

    def __init__(self, *answers: Answer, delay: float = 0.0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers, self.delay = list(answers), delay
        self.asked: list[dict[str, Any]] = []
        self.paths: list[tuple[str, str | None]] = []
        self.heard: list[str] = []  # headers
        self.drip = 0.0  # seconds between two bytes of an answer
        self.now = self.most = 0  # requests under way, and the most that ever were

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        self.server.paths.append((self.path, self.headers["Authorization"]))
        self.server.heard.append(str(self.headers))
        self.server.now += 1
        self.server.most = max(self.server.most, self.server.now)
        time.sleep(self.server.delay)
        self.server.now -= 1
        answers = self.server.answers
        status, answer = answers.pop(0) if len(answers) > 1 else answers[0]
        data = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
        data = data.replace(b"{}", str(body["messages"][-1]["content"]).encode()) if b"re {}" in data else data
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if isinstance(answer, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Retry-After-Ms", "10")
        self.end_headers()
        for part in [data[i : i + 1] for i in range(len(data))] if self.server.drip else [data]:
            time.sleep(self.server.drip)
            with suppress(OSError):  # the other side has hung up
                self.wfile.write(part)

    def log_message(self, *_: Any) -> None:
        pass


def said(text: str | None = None, *calls: tuple[str, Any], finish: str = "stop", tokens: int | None = 7) -> Answer:
    tool_calls = [
        {"id": f"theirs{i}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for i, (name, arguments) in enumerate(calls)
    ]
    message = {"role": "assistant", "content": text, **({"tool_calls": tool_calls} if calls else {})}
    usage = {} if tokens is None else {"usage": {"completion_tokens": tokens}}
    return 200, {"choices": [{"index": 0, "message": message, "finish_reason": finish}], **usage}


Serve = Callable[..., ChatServer]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts chat servers and ends them after the test."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-server")
    started: list[ChatServer] = []

    def start(*answers: Answer, delay: float = 0.0) -> ChatServer:
        started.append(ChatServer(*answers, delay=delay))
        threading.Thread(target=started[-1].serve_forever, args=(0.02,), daemon=True).start()
        return started[-1]

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def asking(server: ChatServer, **more: Any) -> ServerPolicy:
    return ServerPolicy(server.url, "big", list(toolbox().tools.values()), **more)


TASK = [Message("user", "what is 12 times 7?")]


def test_a_conversation_of_two_turns_as_it_goes_over_the_wire(serve: Serve) -> None:
    server = serve(said(None, ("calculator", '{ "expression": "12*7" }'), finish="tool_calls"), said("It is 84."))
    history = [Message("context", "[a]\nb"), Message("user", "hi"), Message("assistant", "hello")]
    policy = asking(server, key="secret\n")
    (trace,) = run_tasks([(TASK[0].text, history)], policy, toolbox(), Limits(turn_tokens=99))
    assert (trace.answer, trace.stop, trace.tokens, trace.policy) == ("It is 84.", "answer", 14, "big")
    assert trace.calls == [call_text("calculator", {"expression": "12*7"})] and trace.steps[0].result == "84"
    assert server.paths == [("/v1/chat/completions", "Bearer secret")] * 2
    first, second = server.asked
    assert (first["model"], first["max_tokens"]) == ("big", 99)
    functions = {tool["function"]["name"]: tool["function"] for tool in first["tools"]}
    assert list(functions) == ["calculator", "search_docs", "signature", "python"]
    assert functions["signature"]["parameters"]["required"] == ["name"]
    told = [(message["role"], message["content"]) for message in first["messages"]]
    assert told == [("user", "[a]\nb"), ("user", "hi"), ("assistant", "hello"), ("user", TASK[0].text)]
    called, result = second["messages"][4:]
    (sent,) = called["tool_calls"]
    assert (called["role"], called["content"], sent["type"]) == ("assistant", None, "function")
    assert sent["function"] == {"name": "calculator", "arguments": '{"expression": "12*7"}'}
    assert result == {"role": "tool", "tool_call_id": sent["id"], "content": "84"}


def test_without_a_key_no_key_of_the_environment_is_sent(serve: Serve) -> None:
    server = serve(said("hi"))
    ServerPolicy(f"{server.url}/v1/", "big", []).turns([TASK], 9)
    assert server.paths == [("/v1/chat/completions", "Bearer none")] and "tools" not in server.asked[0]


def test_nothing_of_openai_s_variables_leaves(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-secret")
    names = [
        "x-stainless-raw-response",
        "X-Gateway",
        "Authorization",
        "user-agent",
        "User-Agent",
        "Accept",
        "Accept-Encoding",
        "Host",
        "Connection",
    ]
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "\n".join(f"{name}: a-secret" for name in names))
    server = serve(said("hi"))
    asking(server, key="ours").turns([TASK], 9)
    assert "Bearer ours" in server.heard[0] and "secret" not in server.heard[0]


def test_an_answer_that_drips_or_swells_ends(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(said("hi"))
    server.drip = 0.05
    started = time.monotonic()
    with pytest.raises(UserError, match=r"did not answer within 0\.3 s"):
        asking(server, timeout=0.3, retries=0).turns([TASK], 9)
    assert time.monotonic() - started < 3
    monkeypatch.setattr("agents.tool_agent.bounded_http.MOST_BYTES", 10)
    with pytest.raises(UserError, match=r"did not answer"):
        asking(serve(said("hi")), retries=0).turns([TASK], 9)


START = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("start", "part"),
    [
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        (START + b"X: ", b"x"),
        (START + b"Transfer-Encoding: chunked\r\n\r\n5;", b"x"),
    ],
    ids=["early hints", "header", "size of a chunk"],
)
def test_what_drips_before_the_answer_ends_too(start: bytes, part: bytes) -> None:
    server, connections = socket.create_server(("127.0.0.1", 0)), []

    def drip() -> None:
        with server, suppress(OSError), server.accept()[0] as connection:  # the other side hangs up
            connections.append(connection)
            connection.recv(65536)
            connection.sendall(start)
            for _ in range(100):
                connection.sendall(part)
                time.sleep(0.05)

    dripping = threading.Thread(target=drip, daemon=True)
    dripping.start()
    started = time.monotonic()
    with pytest.raises(UserError, match=r"did not answer within 0\.3 s"):
        ServerPolicy(f"http://127.0.0.1:{server.getsockname()[1]}", "big", [], timeout=0.3).turns([TASK], 9)
    assert time.monotonic() - started < 3
    dripping.join(10)  # on a busy machine the connection is taken after it was given up
    assert len(connections) == 1


def test_a_compressed_answer_is_not_unpacked() -> None:
    packed = gzip.compress(b" " * 20_000_000)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as connection:
                connection.recv(65536)
                head = f"Content-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n"
                connection.sendall(START + head.encode() + packed)

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(UserError, match=r"no chat completion but '\\x1f"):
            ServerPolicy(f"http://127.0.0.1:{server.getsockname()[1]}", "big", [], retries=0).turns([TASK], 9)


def nested(depth: int) -> dict[str, Any]:
    """Alternatives in alternatives, each of which wants to know what those within have seen."""
    inner = {"anyOf": [nested(depth - 1)]} if depth else {"properties": {"x": {}}}
    return {"unevaluatedProperties": False, **inner}


TWICE = {"items": {"allOf": [{"$ref": "#/$defs/twice"}] * 2}}


@pytest.mark.parametrize(
    ("schema", "slow", "fast"),
    [
        ({"properties": {"x": {"pattern": "^(a|aa)+$"}}}, "a" * 200 + "!", "aaa"),
        ({"properties": {"x": {"allOf": [{"pattern": "^(a|aa)+$"}] * 50}}}, "a" * 200 + "!", "aaa"),
        (
            {"properties": {"x": {"$ref": "#/$defs/twice"}}, "$defs": {"twice": TWICE}},
            json.loads("[" * 29 + "]" * 29),
            [],
        ),
        (nested(20), "x", None),
    ],
    ids=["pattern", "patterns", "references in a deep value", "unevaluated"],
)
def test_a_schema_cannot_hold_the_check_up(schema: dict[str, Any], slow: Any, fast: Any) -> None:
    arguments = arguments_of("slow", {"type": "object", **schema})
    started = time.monotonic()
    with pytest.raises(ValueError, match="more than 1 s to check"):
        arguments.model_validate({"x": slow})
    assert time.monotonic() - started < 5
    if fast is not None:
        assert arguments.model_validate({"x": fast}).model_extra == {"x": fast}


@pytest.mark.parametrize(
    ("part", "fault"),
    [
        ({"pattern": "(?:" * 20 + "a" + "){2,9}" * 20}, "more than 500 signs or 8 groups"),
        ({"pattern": "a" * 501}, "more than 500 signs or 8 groups"),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "pattern": "a"}, "names a draft by '.schema' below"),
    ],
)
def test_a_schema_out_of_reach_of_the_clock_is_refused(part: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        arguments_of("slow", {"type": "object", "properties": {"x": part}})


def test_references_that_double_are_refused() -> None:
    twice = {f"p{i}": {"allOf": [{"$ref": f"#/$defs/p{i + 1}"}] * 2} for i in range(30)}
    with pytest.raises(ValueError, match="more than 20 times"):
        arguments_of(
            "deep", {"type": "object", "$defs": {**twice, "p30": {}}, "properties": {"x": {"$ref": "#/$defs/p0"}}}
        )


def test_a_turn_cut_off_is_unfinished(serve: Serve) -> None:
    policy = asking(serve(said("The ans", finish="length"), said(None, ("python", "{"), finish="length", tokens=None)))
    assert policy.turns([TASK], 9) == [Turn(None, 7)]
    assert policy.turns([TASK], 9) == [Turn(None, 9)]


@pytest.mark.parametrize(
    ("name", "arguments", "told", "fault"),
    [
        ("calculator", '{"expression": ', '{"malformed": "{\\"expression\\": "}', "wrong arguments for calculator"),
        ("calculator", "[1]", '{"malformed": [1]}', "wrong arguments for calculator"),
        ("calculator", '"\\ud800"', '{"malformed": "\\ud800"}', "wrong arguments for calculator"),
        ("calculator", "[" * 5000, f'{{"malformed": "{"[" * 5000}"}}', "wrong arguments for calculator"),
        ("calculator", "", "{}", "wrong arguments for calculator"),
        ("calculator", {"expression": "1/0"}, '{"expression": "1/0"}', "division by zero"),
        ("teleport", "{}", "{}", "there is no such tool"),
        ("python", '{"code": "1", "x": 2}', '{"code": "1", "x": 2}', "wrong arguments for python"),
    ],
)
def test_malformed_calls_are_answered_by_the_loop(
    serve: Serve, name: str, arguments: Any, told: str, fault: str
) -> None:
    server = serve(said(None, (name, arguments)), said("sorry"))
    (trace,) = run_tasks([(TASK[0].text, ())], asking(server), toolbox())
    assert trace.answer == "sorry" and trace.steps[0].ok is False and fault in str(trace.steps[0].result)
    assert server.asked[1]["messages"][1]["tool_calls"][0]["function"] == {"name": name, "arguments": told}
    json.dumps(trace.to_json(), ensure_ascii=False).encode()


def test_of_several_calls_the_first_is_taken(serve: Serve) -> None:
    calls = [("calculator", '{"expression":"1+1"}'), ("calculator", '{"expression":"2+2"}')]
    server = serve(said("I add.", *calls), said("2"))
    (trace,) = run_tasks([("add", ())], asking(server), toolbox())
    assert trace.calls == [call_text("calculator", {"expression": "1+1"})]
    assert [len(message.get("tool_calls", [])) for message in server.asked[1]["messages"]] == [0, 1, 0]


def test_conversations_are_asked_side_by_side_and_answered_in_order(serve: Serve) -> None:
    server = serve(said("re {}"), delay=0.4)  # the server puts in what it was asked
    turns = asking(server).turns([[Message("user", str(n))] for n in range(4)], 9)
    assert server.most > 1 and [turn.message.text for turn in turns if turn.message] == ["re 0", "re 1", "re 2", "re 3"]


def test_a_busy_server_is_asked_again(serve: Serve) -> None:
    server = serve((429, {"error": "busy"}), (503, "busy"), said("hi"))
    assert asking(server).turns([TASK], 9) == [Turn(Message("assistant", "hi"), 7)]
    assert len(server.asked) == 3


def test_newer_models_of_openai_want_another_name_for_the_limit(serve: Serve) -> None:
    refusal = {"error": {"message": "Unsupported parameter: use 'max_completion_tokens' instead."}}
    server = serve((400, refusal), said("hi"))
    policy = asking(server)
    for _ in range(2):
        assert policy.turns([TASK], 9) == [Turn(Message("assistant", "hi"), 7)]
    assert [sorted({"max_tokens", "max_completion_tokens"} & asked.keys()) for asked in server.asked] == [
        ["max_tokens"],
        ["max_completion_tokens"],
        ["max_completion_tokens"],
    ]


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ((401, {"error": {"message": "Incorrect API key: sk-secret"}}), r"refuses the key \(401\): set LLMM_API_KEY"),
        ((403, {"error": "sk-secret may not"}), r"refuses the key \(403\)"),
        ((429, {"error": "too many"}), "answered 429: .*too many"),
        ((404, {"error": "no model big for sk-secret"}), "answered 404: .*no model big for …"),
        ((500, "<b>\x1b[31mOops\nsk-secret</b>"), r"answered 500: .*\\x1b.*Oops"),
        ((200, "<html>sk-secret</html>"), "no chat completion but '<html>…"),
        ((200, "{"), "no chat completion"),
        ((200, {}), "no chat completion"),
        ((200, {"choices": []}), "no chat completion"),
        ((200, {"choices": [{"message": {"tool_calls": [{"id": "x"}]}}]}), "no chat completion"),
        ((200, {"choices": [{"message": {"content": 5}}]}), "no chat completion"),
    ],
)
def test_a_fault_of_a_server_is_one_line_with_its_address_and_no_key(serve: Serve, answer: Answer, fault: str) -> None:
    server = serve(answer)
    with pytest.raises(UserError, match=fault) as error:
        asking(server, key="sk-secret").turns([TASK, TASK], 9)
    message = str(error.value)
    assert server.url in message and "sk-secret" not in message
    assert "\n" not in message and message.isprintable() and error.value.__suppress_context__


def test_a_server_that_is_not_there_or_does_not_answer(serve: Serve) -> None:
    with pytest.raises(UserError, match=r"at http://127.0.0.1:9/v1 cannot be reached: .*refused"):
        ServerPolicy("http://127.0.0.1:9", "big", [], retries=0).turns([TASK], 9)
    with pytest.raises(UserError, match=r"did not answer within 0\.2 s"):
        asking(serve(said("hi"), delay=1.0), timeout=0.2, retries=0).turns([TASK], 9)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "ftp://x/v1",
        "http://",
        "http://x:port",
        "http://me:pw@x/v1",
        "http://x/v1?k=pw",
        "http://x/v1#pw",
    ],
)
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(UserError, match=r"is like http://localhost:8000/v1") as error:
        ServerPolicy(url, "big", [])
    assert "pw" not in str(error.value)


def test_a_key_that_is_none_is_not_shown() -> None:
    with pytest.raises(UserError, match="LLMM_API_KEY") as error:
        ServerPolicy("http://x", "big", [], key="sécret")
    assert "cret" not in str(error.value)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`llmm agent` with a small library and a small model in place of the pipeline's."""
    tools = toolbox()
    agent = Agent(ModelPolicy(gpt(), codec(), list(tools.tools.values())), tools)
    monkeypatch.setattr(extended, "load_agent", lambda: agent)
    monkeypatch.setattr(extended, "load_toolbox", toolbox)
    monkeypatch.delenv("LLMM_API_KEY", raising=False)
    monkeypatch.chdir(ROOT)
    return lambda *words, **more: CliRunner().invoke(cli.llmm, ["agent", *words], **more)


REPEAT = said(None, ("repeat", '{"text":"hi","times":2}'))  # its server says that it only reads
PAY = said(None, ("pay", '{"to":"ann","amount":5}'))


@pytest.mark.parametrize(
    ("turn", "flags", "runs"),
    [(REPEAT, [], False), (REPEAT, ["--trust"], True), (REPEAT, ["--yes"], True), (PAY, ["--trust"], False)],
)
def test_what_a_server_says_of_its_tools_is_believed_on_request(
    serve: Serve, command: Callable[..., Result], tmp_path: Path, turn: Answer, flags: list[str], runs: bool
) -> None:
    log, server = tmp_path / "log", serve(turn, said("done"))
    result = command("x", "--mcp", f"{sys.executable} {TOY} {log}", "--server", server.url, "--model", "big", *flags)
    assert result.exit_code == 0, result.output
    assert log.exists() == runs and ("not approved" in result.stdout) == (not runs)


@pytest.mark.parametrize(("yes", "paid"), [([], False), (["--yes"], True)])
def test_the_command_with_a_server_of_tools_and_one_of_a_model(
    serve: Serve, command: Callable[..., Result], tmp_path: Path, yes: list[str], paid: bool
) -> None:
    log, server = tmp_path / "log", serve(PAY, said("\x1b]0;done"))
    words = ["--mcp", f"{sys.executable} {TOY} {log}", "--server", server.url, "--model", "big", *yes]
    result = command("pay ann 5", *words, env={"LLMM_API_KEY": "k"})
    assert result.exit_code == 0, result.output
    assert {key for _, key in server.paths} == {"Bearer k"}
    assert log.exists() == paid and ("result  paid 5 to ann" in result.stdout) == paid
    assert ("not approved" in result.stdout) == (not paid) == ("no terminal" in result.stderr)
    assert "\\x1b]0;done" in result.stdout and "\x1b" not in result.output


def test_a_trace_is_saved_where_the_command_was_given(
    command: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.yaml").touch()
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    words = ["hello", "--mcp", f"{sys.executable} {TOY} {tmp_path / 'log'}", "--save"]
    assert command(*words, "trace.json").exit_code == 0
    assert Trace.load(tmp_path / "below" / "trace.json").task == "hello"
    lost = command(*words, str(tmp_path / "params.yaml" / "trace.json"))
    assert isinstance(lost.exception, UserError) and "cannot be written" in str(lost.exception)
    assert lost.stdout.strip()  # the answer is there all the same


@pytest.mark.parametrize("words", [["ask", "\udcff"], ["agent", "\udcff"], ["generate", "x", "--seed", "9" * 20]])
def test_what_is_no_text_or_no_seed_is_wrong_usage(words: list[str]) -> None:
    done = CliRunner().invoke(cli.llmm, words)
    assert done.exit_code == 2 and "Invalid value" in done.output


def test_the_command_with_our_model_and_foreign_tools(command: Callable[..., Result], tmp_path: Path) -> None:
    result = command("hello", "--mcp", f"{sys.executable} {TOY} {tmp_path / 'log'}", "--json")
    assert result.exit_code == 0, result.output
    trace = json.loads(result.stdout)
    names = {tool.name for tool in toolbox().tools.values()} | {"repeat", "pay", "note", "picture", "mail", "broken"}
    assert {json.loads(step["text"])["name"] for step in trace["steps"] if step["role"] == "tool_call"} <= names


def test_a_command_of_a_server_starts_where_it_was_given(
    command: Callable[..., Result], tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.yaml").touch()
    below = tmp_path / "below"
    below.mkdir()
    (below / "bare.py").write_text(BARE)
    monkeypatch.chdir(below)
    words = ["--mcp", f"{sys.executable} bare.py '{json.dumps({'type': 'object'})}' one"]
    server = serve(said("hi"))
    result = command("hello", *words, "--server", server.url, "--model", "big")
    assert result.stdout == "hi\n", result.output
    assert server.asked[0]["tools"][-1]["function"]["name"] == "one"


@pytest.mark.parametrize("answer", [True, False])
def test_a_person_is_shown_the_call_and_decides(monkeypatch: pytest.MonkeyPatch, answer: bool) -> None:
    shown: list[str] = []
    monkeypatch.setattr(cli.click, "confirm", lambda text, **_: (shown.append(text), answer)[1])
    monkeypatch.setattr(cli.sys, "stdin", SimpleNamespace(isatty=lambda: True))
    assert cli._approved('pay({"to":"\u202eeve\x1b[2K"})') is answer
    assert shown == ['  run     pay({"to":"\\u202eeve\\x1b[2K"})?']


@pytest.mark.parametrize(
    "words",
    [["--server", "http://x"], ["--model", "x"], ["--mcp", "python 'sk-x"], ["--mcp", ""]],
)
def test_wrong_usage_of_the_command(command: Callable[..., Result], words: list[str]) -> None:
    result = command("hello", *words)
    assert result.exit_code == 2 and "sk-x" not in result.output
