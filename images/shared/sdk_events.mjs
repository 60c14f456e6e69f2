import net from 'node:net';

// What the SDK says it did goes to the recorder line by line as it happens: a line sent cannot be taken back.
export class SdkEvents {
  #seq = 0;
  #open = new Map(); // call id -> its tool and whether it has ended, in the order of the starts

  constructor(socket, source, sdk) {
    this.socket = socket;
    this.source = source;
    this.sdk = sdk;
  }

  // `sdk`: what package.json of the installed SDK says, its name and version among it.
  static async connect(source, sdk) {
    const socket = net.connect(process.env.ASSAY_RUNNER_SDK_SOCKET);
    await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
    return new SdkEvents(socket, source, sdk);
  }

  emit(eventType, toolCallId = null, tool = null) {
    const event = {
      schema: process.env.ASSAY_RUNNER_SDK_EVENT_SCHEMA,
      run_id: process.env.ASSAY_RUNNER_RUN_ID,
      seq: this.#seq++,
      event_type: eventType,
      source: this.source,
      sdk_name: this.sdk.name,
      sdk_version: this.sdk.version,
      tool_call_id: toolCallId,
      tool,
    };
    this.socket.write(`${JSON.stringify(event)}\n`);
  }

  toolStarted(id, tool) {
    this.#open.set(id, { tool, ended: false });
    this.emit('tool_call_started', id, tool);
  }

  // Parallel calls end in an order that varies: it is told in the order of the starts, once all have ended.
  toolEnded(id) {
    this.#open.get(id).ended = true;
    if (![...this.#open.values()].every(({ ended }) => ended)) return;
    for (const [one, { tool }] of this.#open) this.emit('tool_call_completed', one, tool);
    this.#open.clear();
  }

  async close() {
    await new Promise((resolve) => this.socket.end(resolve));
    this.socket.destroy(); // do not wait for the other side's end: the agent must not hang on a recorder
  }
}
