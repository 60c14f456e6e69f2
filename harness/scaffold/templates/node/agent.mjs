// A whole agent in Node's own library: a model stub, MCP tools through the bridge, SDK events.
//
// Put the SDK that is to be measured in the place of Model and run(); keep what Tools and Events tell the
// witnesses: each tool call under its id, and each event at the moment when it happens.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import { createInterface } from 'node:readline';

const WORKSPACE = '/workspace';
const SDK = { source: '@NAME@-fixture', sdk_name: '@NAME@', sdk_version: '1.0.0' };
const ID_KEY = 'dev.assay.runner/tool_call_id';
const MAX_TURNS = 4;

// Stands for a model, offline: asks for the file that the task names, then says what it got.
class Model {
  reply(messages) {
    const last = messages.at(-1);
    if (last.role === 'tool') return { role: 'assistant', text: last.text };
    const path = last.text.match(/\/workspace\/[\w.-]+/)?.[0];
    if (!path) throw new Error('the task names no file');
    return { role: 'assistant', call: { id: 'call_1', tool: 'read_file', path } };
  }
}

// MCP over the standard streams of the bridge, behind which are the policy and the server.
class Tools {
  #lastId = 0;

  static async start() {
    const tools = new Tools();
    const [command, ...args] = JSON.parse(process.env.ASSAY_RUNNER_MCP_COMMAND);
    tools.bridge = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    tools.ended = once(tools.bridge, 'exit');
    tools.lines = createInterface({ input: tools.bridge.stdout })[Symbol.asyncIterator]();
    const clientInfo = { name: SDK.sdk_name, version: SDK.sdk_version };
    await tools.request('initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo });
    tools.send({ method: 'notifications/initialized' });
    return tools;
  }

  send(message) {
    this.bridge.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
  }

  async request(method, params) {
    const id = ++this.#lastId;
    this.send({ id, method, params });
    for (;;) {
      const { value, done } = await this.lines.next();
      if (done) throw new Error(`${method}: the server ended without an answer`);
      const answer = JSON.parse(value);
      if (answer.id !== id) continue;
      if (answer.error) throw new Error(`${method}: ${JSON.stringify(answer.error)}`);
      return answer.result;
    }
  }

  async call({ id, tool, path }) {
    // The id travels in _meta, where the policy sees it and the tool does not. Without one: denied.
    const { content } = await this.request('tools/call', { name: tool, arguments: { path }, _meta: { [ID_KEY]: id } });
    return content.map((part) => part.text).join('');
  }

  async close() {
    this.bridge.stdin.end();
    await this.ended;
  }
}

// What the agent says it does, one JSON object a line, on the host as soon as it is sent.
class Events {
  #seq = 0;

  static async connect() {
    const events = new Events();
    events.socket = net.connect(process.env.ASSAY_RUNNER_SDK_SOCKET);
    await once(events.socket, 'connect');
    return events;
  }

  emit(eventType, call) {
    const event = {
      schema: process.env.ASSAY_RUNNER_SDK_EVENT_SCHEMA,
      run_id: process.env.ASSAY_RUNNER_RUN_ID,
      seq: this.#seq++,
      event_type: eventType,
      ...SDK,
      tool_call_id: call?.id ?? null,
      tool: call?.tool ?? null,
    };
    this.socket.write(`${JSON.stringify(event)}\n`);
  }

  async close() {
    await new Promise((resolve) => this.socket.end(resolve));
    this.socket.destroy(); // do not wait for the other side's end: an agent must not hang on its recorder
  }
}

// The loop: ask the model, do what it wants, until it has an answer.
async function run(model, tools, events) {
  const messages = [{ role: 'user', text: fs.readFileSync(`${WORKSPACE}/task.txt`, 'utf8') }];
  for (let turn = 0; turn < MAX_TURNS; turn++) {
    const reply = model.reply(messages);
    messages.push(reply);
    if (!reply.call) return reply.text;
    events.emit('tool_call_started', reply.call);
    messages.push({ role: 'tool', text: await tools.call(reply.call) });
    events.emit('tool_call_completed', reply.call);
  }
  throw new Error(`no answer after ${MAX_TURNS} turns`);
}

const events = await Events.connect();
try {
  const tools = await Tools.start();
  const answer = await run(new Model(), tools, events);
  await tools.close();
  fs.writeFileSync(`${WORKSPACE}/answer.txt`, answer);
  events.emit('run_finished');
} catch (error) {
  console.error(error);
  events.emit('run_failed');
  process.exitCode = 1;
} finally {
  await events.close();
}
