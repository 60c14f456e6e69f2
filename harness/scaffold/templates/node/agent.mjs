// A whole agent in Node's own library: a model stub, MCP tools through the bridge, SDK events.
//
// Put the SDK that is to be measured in the place of Model and run(), and its package's name and version in
// SDK; keep what Tools and Events tell the witnesses: each tool call under the model's id for it, and each
// event at the moment when it happens.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import { createInterface } from 'node:readline';

const ANSWER = '/workspace/answer.txt';
// The version is what is installed, never a constant.
const SDK = { source: '@NAME@-fixture', sdk_name: 'node', sdk_version: process.versions.node };
const ID_KEY = 'dev.assay.runner/tool_call_id';
const MAX_TURNS = 8;

// Stands for a model, offline: a line of the task is a turn, a file that it names one call of that turn.
// `ids` is what the ids of the calls begin with; where it is empty, the model gives its calls none.
class Model {
  #calls = 0;

  constructor(task, ids) {
    this.turns = task.trimEnd().split('\n').map((line) => line.match(/\/workspace\/[\w./-]*\w/g) ?? []);
    this.ids = ids;
  }

  reply(messages) {
    const files = this.turns.shift();
    if (files) return { role: 'assistant', calls: files.map((path) => this.#call(path)) };
    const results = messages.filter(({ role }) => role === 'tool').map(({ text }) => text);
    return { role: 'assistant', text: results.join('\n') };
  }

  #call(path) {
    const number = String(++this.#calls).padStart(3, '0');
    return { id: this.ids ? this.ids + number : null, tool: 'read_file', path };
  }
}

// MCP over the standard streams of the bridge, behind which are the policy and the server.
class Tools {
  #lastId = 0;
  #waiting = new Map(); // request id -> who waits for its answer

  static async start() {
    const tools = new Tools();
    const [command, ...args] = JSON.parse(process.env.ASSAY_RUNNER_MCP_COMMAND);
    tools.bridge = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    tools.ended = once(tools.bridge, 'exit');
    const lines = createInterface({ input: tools.bridge.stdout });
    lines.on('line', (line) => tools.#answered(JSON.parse(line)));
    lines.on('close', () => tools.#waiting.forEach(({ reject }) => reject(new Error('the server ended'))));
    const clientInfo = { name: SDK.sdk_name, version: SDK.sdk_version };
    await tools.request('initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo });
    tools.send({ method: 'notifications/initialized' });
    return tools;
  }

  send(message) {
    this.bridge.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
  }

  request(method, params) {
    const id = ++this.#lastId;
    this.send({ id, method, params });
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  #answered({ id, result, error }) {
    const request = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error) request?.reject(new Error(JSON.stringify(error)));
    else request?.resolve(result);
  }

  // What came of it; a call that was denied or failed says so, as an MCP server's does.
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
async function run(task, model, tools, events) {
  const messages = [{ role: 'user', text: task }];
  for (let turn = 0; turn < MAX_TURNS; turn++) {
    const reply = model.reply(messages);
    messages.push(reply);
    if (!reply.calls) return reply.text;
    for (const call of reply.calls) events.emit('tool_call_started', call);
    const texts = await Promise.all(reply.calls.map((call) => tools.call(call)));
    messages.push(...texts.map((text) => ({ role: 'tool', text })));
    // In the order of the starts: that of the ends may vary.
    for (const call of reply.calls) events.emit('tool_call_completed', call);
  }
  throw new Error(`no answer after ${MAX_TURNS} turns`);
}

const events = await Events.connect();
try {
  const task = fs.readFileSync(process.env.ASSAY_RUNNER_TASK, 'utf8');
  const tools = await Tools.start();
  const answer = await run(task, new Model(task, process.env.ASSAY_RUNNER_CALL_IDS), tools, events);
  await tools.close();
  fs.writeFileSync(ANSWER, answer);
  events.emit('run_finished');
} catch (error) {
  console.error(error);
  events.emit('run_failed');
  process.exitCode = 1;
} finally {
  await events.close();
}
