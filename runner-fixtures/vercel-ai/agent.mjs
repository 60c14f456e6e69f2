// An agent of the real Vercel AI SDK, offline: its model is a few lines of this file, everything else
// (tool loop, callbacks, MCP client) is the SDK's own.
import { AsyncLocalStorage } from 'node:async_hooks';
import fs from 'node:fs';
import { createMCPClient } from '@ai-sdk/mcp';
import { StdioMCPTransport } from '@ai-sdk/mcp/mcp-stdio';
import { generateText, isStepCount } from 'ai';
import { SdkEvents } from './sdk_events.mjs';

const ID_KEY = 'dev.assay.runner/tool_call_id';

// A language model of the SDK's own interface (specification v4). Each line of the task is one turn, each file
// it names one call (parallel within the turn); the last turn repeats what the tools gave. Without `ids` the
// model gives its calls no id.
class LocalModel {
  specificationVersion = 'v4';
  provider = 'local';
  modelId = 'scripted';
  supportedUrls = {};
  handedOut = new Map(); // call id -> the file it asks for

  constructor(task, ids) {
    this.turns = task.trim().split('\n').map((line) => line.match(/\/workspace\/[\w./-]*\w/g));
    this.ids = ids;
  }

  async doGenerate({ prompt }) {
    const files = this.turns.shift();
    const content = files ? files.map((file) => this.#readFile(file)) : [this.#answer(prompt)];
    const reason = files ? 'tool-calls' : 'stop';
    const usage = { inputTokens: {}, outputTokens: {} };
    return { content, finishReason: { unified: reason, raw: reason }, usage, warnings: [] };
  }

  async doStream() {
    throw new Error('this model does not stream');
  }

  #readFile(file) {
    const toolCallId = this.ids && this.ids + String(this.handedOut.size + 1).padStart(3, '0');
    this.handedOut.set(toolCallId, file);
    return { type: 'tool-call', toolCallId, toolName: 'read_file', input: JSON.stringify({ path: file }) };
  }

  #answer(prompt) {
    const results = prompt.filter(({ role }) => role === 'tool').flatMap(({ content }) => content);
    const texts = results.map(({ output }) => output.value.map((part) => part.text).join(''));
    return { type: 'text', text: texts.join('\n') };
  }
}

// The SDK's MCP client sends no _meta of its own, so the call's id joins the message on its way out.
class BoundTransport extends StdioMCPTransport {
  call = new AsyncLocalStorage();

  send(message) {
    if (message.method !== 'tools/call') return super.send(message);
    const params = { ...message.params, _meta: { ...message.params._meta, [ID_KEY]: this.call.getStore() } };
    return super.send({ ...message, params });
  }

  // The id is the one that the SDK hands to `execute`; it must be the model's own for this file.
  bind(tool, handedOut) {
    const execute = (input, options) => {
      const id = options.toolCallId;
      if (handedOut.get(id) !== input.path) throw new Error(`${id} is not the model's id for ${input.path}`);
      return this.call.run(id, () => tool.execute(input, options));
    };
    return { ...tool, execute };
  }
}

async function work(events) {
  const task = fs.readFileSync(process.env.ASSAY_RUNNER_TASK, 'utf8');
  const model = new LocalModel(task, process.env.ASSAY_RUNNER_CALL_IDS);
  const [command, ...args] = JSON.parse(process.env.ASSAY_RUNNER_MCP_COMMAND);
  const transport = new BoundTransport({ command, args });
  // The server predates discovery, and a probe with a limit of one second would let a busy machine decide.
  const client = await createMCPClient({ transport, protocolVersionDiscovery: false });
  try {
    const { read_file } = await client.tools();
    const { text } = await generateText({
      model,
      tools: { read_file: transport.bind(read_file, model.handedOut) },
      prompt: task,
      stopWhen: isStepCount(8),
      maxRetries: 0,
      onToolExecutionStart: ({ toolCall }) => events.emit('tool_call_started', toolCall.toolCallId, toolCall.toolName),
      // Parallel calls end in an order that varies: it is told in the model's order, once all have ended.
      onStepEnd: ({ toolCalls }) => {
        for (const { toolCallId, toolName } of toolCalls) events.emit('tool_call_completed', toolCallId, toolName);
      },
    });
    console.log(text);
  } finally {
    await client.close();
  }
}

// From the installed package, never from a constant.
const { name, version } = JSON.parse(fs.readFileSync(new URL(import.meta.resolve('ai/package.json')), 'utf8'));
const events = await SdkEvents.connect('vercel-ai-fixture', { name, version });
try {
  await work(events);
  events.emit('run_finished');
} catch (error) {
  console.error(error);
  events.emit('run_failed');
  process.exitCode = 1;
} finally {
  await events.close();
}
