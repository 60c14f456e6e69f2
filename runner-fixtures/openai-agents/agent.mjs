// An agent of the real OpenAI Agents SDK, offline: its model is a few lines of this file, everything
// else (runner, hooks, MCP client) is the SDK's own.
import { AsyncLocalStorage } from 'node:async_hooks';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { Agent, MCPServerStdio, Runner, Usage, setTracingDisabled } from '@openai/agents';
import { SdkEvents } from './sdk_events.mjs';

const HIDDEN = '/workspace/hidden-write-output.txt';
const ID_KEY = 'dev.assay.runner/tool_call_id';
const SINGLE = { task: '/workspace/openai-agents-input.txt', ids: 'tc_runner_policy_' };
const SCENARIOS = {
  matched_safe_read: SINGLE,
  hidden_write: { ...SINGLE, hiddenWrite: true },
  multi_tool: { task: '/workspace/multi-tool-input.txt', ids: 'tc_runner_multi_' },
};

// Each line of the task is one turn, each file it names one call (parallel within the turn); the last turn
// repeats what the tools gave. Without `ids` the model gives its calls no id.
class LocalModel {
  handedOut = new Map(); // call id -> the file it asks for
  #turns;

  constructor(ids) {
    this.ids = ids;
  }

  async getResponse({ input }) {
    this.#turns ??= input[0].content.trim().split('\n').map((line) => line.match(/\/workspace\/[\w./-]*\w/g));
    const files = this.#turns.shift();
    const output = files ? files.map((file) => this.#readFile(file)) : [this.#answer(input)];
    return { usage: new Usage({ requests: 1 }), output };
  }

  async *getStreamedResponse() {
    throw new Error('this model does not stream');
  }

  #readFile(file) {
    const callId = this.ids && this.ids + String(this.handedOut.size + 1).padStart(3, '0');
    this.handedOut.set(callId, file);
    const args = JSON.stringify({ path: file });
    return { type: 'function_call', callId, name: 'read_file', status: 'completed', arguments: args };
  }

  #answer(input) {
    const results = input.filter((item) => item.type === 'function_call_result').map(({ output }) => output);
    const texts = results.map((output) => [output].flat().map((part) => part.text ?? part).join(''));
    const content = [{ type: 'output_text', text: texts.join('\n') }];
    return { type: 'message', role: 'assistant', status: 'completed', content };
  }
}

// From the installed package, never from a constant; its export map hides package.json.
function installed(name) {
  let folder = path.dirname(createRequire(import.meta.url).resolve(name));
  while (path.basename(path.dirname(folder)) !== path.dirname(name)) folder = path.dirname(folder);
  return JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8'));
}

async function work(events, scenario) {
  const { ASSAY_RUNNER_TASK: task = scenario.task, ASSAY_RUNNER_CALL_IDS: ids = scenario.ids } = process.env;
  const model = new LocalModel(ids);
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
    toolMetaResolver: ({ arguments: { path: file } }) => {
      const id = call.getStore();
      if (model.handedOut.get(id) !== file) throw new Error(`${id} is not the model's id for ${file}`);
      return { [ID_KEY]: id };
    },
  });
  const runner = new Runner({ tracingDisabled: true, traceIncludeSensitiveData: false });
  runner.on('agent_tool_start', (_context, _agent, tool, { toolCall }) => {
    call.enterWith(toolCall.callId);
    events.toolStarted(toolCall.callId, tool.name);
    // What the gate is about: done by the agent itself, seen by neither the SDK's hooks nor the policy.
    if (scenario.hiddenWrite) fs.writeFileSync(HIDDEN, 'hidden delegated write\n');
  });
  runner.on('agent_tool_end', (_context, _agent, _tool, _result, { toolCall }) => {
    events.toolEnded(toolCall.callId);
  });
  await server.connect();
  try {
    const agent = new Agent({ name: 'fixture', model, mcpServers: [server] });
    const { finalOutput } = await runner.run(agent, fs.readFileSync(task, 'utf8'), { maxTurns: 8 });
    console.log(finalOutput);
  } finally {
    await server.close();
  }
}

setTracingDisabled(true);
const scenario = process.env.ASSAY_RUNNER_OPENAI_AGENTS_SCENARIO ?? 'matched_safe_read';
if (!Object.hasOwn(SCENARIOS, scenario)) {
  throw new Error(`unknown scenario ${scenario}: use ${Object.keys(SCENARIOS).join(', ')}`);
}
const events = await SdkEvents.connect('openai-agents-fixture', installed('@openai/agents'));
try {
  await work(events, SCENARIOS[scenario]);
  events.emit('run_finished');
} catch (error) {
  console.error(error);
  events.emit('run_failed');
  process.exitCode = 1;
} finally {
  await events.close();
}
