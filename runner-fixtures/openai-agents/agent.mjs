// An agent of the real OpenAI Agents SDK, offline: its model is a few lines of this file, everything
// else (runner, hooks, MCP client) is the SDK's own.
import { AsyncLocalStorage } from 'node:async_hooks';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import net from 'node:net';
import path from 'node:path';
import { Agent, MCPServerStdio, Runner, Usage, setTracingDisabled } from '@openai/agents';

const TASK = '/workspace/openai-agents-input.txt';
const HIDDEN = '/workspace/hidden-write-output.txt';
const TOOL_CALL_ID = 'tc_runner_policy_001';
const ID_KEY = 'dev.assay.runner/tool_call_id';
const SCENARIOS = ['matched_safe_read', 'hidden_write'];

// What the SDK says it did goes to the recorder line by line as it happens: a line sent cannot be taken back.
class SdkEvents {
  #seq = 0;

  constructor(socket, sdk) {
    this.socket = socket;
    this.sdk = sdk;
  }

  static async connect(file, sdk) {
    const socket = net.connect(file);
    await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
    return new SdkEvents(socket, sdk);
  }

  emit(eventType, toolCallId = null, tool = null) {
    const event = {
      schema: process.env.ASSAY_RUNNER_SDK_EVENT_SCHEMA,
      run_id: process.env.ASSAY_RUNNER_RUN_ID,
      seq: this.#seq++,
      event_type: eventType,
      source: 'openai-agents-fixture',
      sdk_name: this.sdk.name,
      sdk_version: this.sdk.version,
      tool_call_id: toolCallId,
      tool,
    };
    this.socket.write(`${JSON.stringify(event)}\n`);
  }

  async close() {
    await new Promise((resolve) => this.socket.end(resolve));
    this.socket.destroy(); // do not wait for the other side's end: the agent must not hang on a recorder
  }
}

// Asks for the file that the task names, then repeats what the tool gave.
class LocalModel {
  async getResponse({ input }) {
    const results = input.filter((item) => item.type === 'function_call_result');
    const output = results.length === 0 ? this.#callTool(input) : this.#answer(results.at(-1));
    return { usage: new Usage({ requests: 1 }), output: [output] };
  }

  async *getStreamedResponse() {
    throw new Error('this model does not stream');
  }

  #callTool(input) {
    const file = JSON.stringify(input).match(/Read the file (\/[\w./-]+)/)?.[1];
    if (!file) throw new Error('the task names no file');
    const args = JSON.stringify({ path: file });
    return { type: 'function_call', callId: TOOL_CALL_ID, name: 'read_file', status: 'completed', arguments: args };
  }

  #answer({ output }) {
    const text = typeof output === 'string' ? output : [output].flat().map((part) => part.text).join('');
    return { type: 'message', role: 'assistant', status: 'completed', content: [{ type: 'output_text', text }] };
  }
}

// From the installed package, never from a constant; its export map hides package.json.
function installed(name) {
  let folder = path.dirname(createRequire(import.meta.url).resolve(name));
  while (path.basename(path.dirname(folder)) !== path.dirname(name)) folder = path.dirname(folder);
  return JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8'));
}

async function work(events, scenario) {
  // The SDK's resolver is not told which call it serves; the async context of the call's start hook is.
  const call = new AsyncLocalStorage();
  const [command, ...args] = JSON.parse(process.env.ASSAY_RUNNER_MCP_COMMAND);
  const server = new MCPServerStdio({
    name: 'files',
    command,
    args,
    env: { ...process.env }, // the SDK passes on only a short list of its own
    clientSessionTimeoutSeconds: 30,
    cacheToolsList: true,
    toolMetaResolver: () => ({ [ID_KEY]: call.getStore() }),
  });
  const runner = new Runner({ tracingDisabled: true, traceIncludeSensitiveData: false });
  runner.on('agent_tool_start', (_context, _agent, tool, { toolCall }) => {
    call.enterWith(toolCall.callId);
    events.emit('tool_call_started', toolCall.callId, tool.name);
    // What the gate is about: done by the agent itself, seen by neither the SDK's hooks nor the policy.
    if (scenario === 'hidden_write') fs.writeFileSync(HIDDEN, 'hidden delegated write\n');
  });
  runner.on('agent_tool_end', (_context, _agent, tool, _result, { toolCall }) => {
    events.emit('tool_call_completed', toolCall.callId, tool.name);
  });
  await server.connect();
  try {
    const agent = new Agent({ name: 'fixture', model: new LocalModel(), mcpServers: [server] });
    const { finalOutput } = await runner.run(agent, fs.readFileSync(TASK, 'utf8'), { maxTurns: 2 });
    if (finalOutput !== 'assay runner policy fixture input\n') throw new Error(`unexpected answer: ${finalOutput}`);
  } finally {
    await server.close();
  }
}

setTracingDisabled(true);
const scenario = process.env.ASSAY_RUNNER_OPENAI_AGENTS_SCENARIO ?? SCENARIOS[0];
if (!SCENARIOS.includes(scenario)) throw new Error(`unknown scenario ${scenario}: use ${SCENARIOS.join(' or ')}`);
const events = await SdkEvents.connect(process.env.ASSAY_RUNNER_SDK_SOCKET, installed('@openai/agents'));
try {
  await work(events, scenario);
  events.emit('run_finished');
} catch (error) {
  console.error(error);
  events.emit('run_failed');
  process.exitCode = 1;
} finally {
  await events.close();
}
