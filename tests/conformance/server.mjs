// What the conformance suite asks of a server, on stdio, with the protocol's own SDK.
import { Server } from "@modelcontextprotocol/sdk/server/index.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import * as t from "@modelcontextprotocol/sdk/types.js";

const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";
const WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA=";
const text = (value) => ({ type: "text", text: value });
const image = { type: "image", data: PNG, mimeType: "image/png" };
const embedded = (uri, mimeType, value) => ({ type: "resource", resource: { uri, mimeType, text: value } });
const pause = () => new Promise((resolve) => setTimeout(resolve, 50));

const server = new Server(
  { name: "conformance-server", version: "1.0.0" },
  { capabilities: { tools: {}, resources: { subscribe: true }, prompts: {}, completions: {}, logging: {} } },
);

async function ask(properties, required) {
  const requestedSchema = { type: "object", properties, ...(required ? { required } : {}) };
  const params = { message: "Please answer", requestedSchema };
  return await server.request({ method: "elicitation/create", params }, t.ElicitResultSchema);
}
const completed = (answer) =>
  text(`Elicitation completed: action=${answer.action}, content=${JSON.stringify(answer.content ?? {})}`);

const tools = {
  test_simple_text: async () => [text("This is a simple text response for testing.")],
  test_image_content: async () => [image],
  test_audio_content: async () => [{ type: "audio", data: WAV, mimeType: "audio/wav" }],
  test_embedded_resource: async () => [
    embedded("test://embedded-resource", "text/plain", "This is an embedded resource content."),
  ],
  test_multiple_content_types: async () => [
    text("Multiple content types test:"),
    image,
    embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
  ],
  test_tool_with_logging: async () => {
    for (const data of ["Tool execution started", "Tool processing data", "Tool execution completed"]) {
      await server.notification({ method: "notifications/message", params: { level: "info", data } });
      await pause();
    }
    return [text("Logged three times.")];
  },
  test_error_handling: async () => {
    throw new Error("This tool intentionally returns an error for testing");
  },
  test_tool_with_progress: async (_arguments, meta) => {
    for (const progress of [0, 50, 100]) {
      const params = { progressToken: meta?.progressToken, progress, total: 100 };
      if (meta?.progressToken !== undefined) await server.notification({ method: "notifications/progress", params });
      await pause();
    }
    return [text("Done.")];
  },
  test_sampling: async ({ prompt }) => {
    const messages = [{ role: "user", content: text(prompt) }];
    const request = { method: "sampling/createMessage", params: { messages, maxTokens: 100 } };
    const answer = await server.request(request, t.CreateMessageResultSchema);
    return [text(`LLM response: ${answer.content.text}`)];
  },
  test_elicitation: async () => {
    const field = (description) => ({ type: "string", description });
    const properties = { username: field("User's response"), email: field("User's email address") };
    const answer = await ask(properties, ["username", "email"]);
    return [text(`User response: ${JSON.stringify(answer)}`)];
  },
  test_elicitation_sep1034_defaults: async () => [
    completed(
      await ask({
        name: { type: "string", default: "John Doe" },
        age: { type: "integer", default: 30 },
        score: { type: "number", default: 95.5 },
        status: { type: "string", enum: ["active", "inactive", "pending"], default: "active" },
        verified: { type: "boolean", default: true },
      }),
    ),
  ],
  test_elicitation_sep1330_enums: async () => {
    const titled = ["First", "Second", "Third"].map((name, i) => ({ const: `value${i + 1}`, title: `${name} Option` }));
    const plain = ["option1", "option2", "option3"];
    return [
      completed(
        await ask({
          untitledSingle: { type: "string", enum: plain },
          titledSingle: { type: "string", oneOf: titled },
          legacyEnum: { type: "string", enum: ["opt1", "opt2", "opt3"], enumNames: ["Option One", "Option Two", "Option Three"] },
          untitledMulti: { type: "array", items: { type: "string", enum: plain } },
          titledMulti: { type: "array", items: { anyOf: titled } },
        }),
      ),
    ];
  },
};
const listed = Object.keys(tools).map((name) => ({ name, description: name, inputSchema: { type: "object" } }));
listed.push({
  name: "json_schema_2020_12_tool",
  description: "Tool with JSON Schema 2020-12 features",
  inputSchema: {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    type: "object",
    $defs: { address: { type: "object", properties: { street: { type: "string" }, city: { type: "string" } } } },
    properties: { name: { type: "string" }, address: { $ref: "#/$defs/address" } },
    additionalProperties: false,
  },
});

const resources = {
  "test://static-text": { mimeType: "text/plain", text: "This is the content of the static text resource." },
  "test://static-binary": { mimeType: "image/png", blob: PNG },
  "test://watched-resource": { mimeType: "text/plain", text: "watched" },
};
const user = (content) => ({ role: "user", content });
const prompts = {
  test_simple_prompt: () => [user(text("This is a simple prompt for testing."))],
  test_prompt_with_arguments: ({ arg1, arg2 }) => [user(text(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`))],
  test_prompt_with_embedded_resource: ({ resourceUri }) => [
    user(embedded(resourceUri, "text/plain", "Embedded resource content for testing.")),
    user(text("Please process the embedded resource above.")),
  ],
  test_prompt_with_image: () => [user(image), user(text("Please analyze the image above."))],
};
const takes = { test_prompt_with_arguments: ["arg1", "arg2"], test_prompt_with_embedded_resource: ["resourceUri"] };

server.setRequestHandler(t.ListToolsRequestSchema, async () => ({ tools: listed }));
server.setRequestHandler(t.CallToolRequestSchema, async ({ params }) => {
  try {
    return { content: await tools[params.name](params.arguments ?? {}, params._meta) };
  } catch (error) {
    return { isError: true, content: [text(error.message)] };
  }
});
server.setRequestHandler(t.ListResourcesRequestSchema, async () => ({
  resources: Object.entries(resources).map(([uri, { mimeType }]) => ({ uri, name: uri, description: uri, mimeType })),
}));
server.setRequestHandler(t.ListResourceTemplatesRequestSchema, async () => ({
  resourceTemplates: [{ uriTemplate: "test://template/{id}/data", name: "template", mimeType: "application/json" }],
}));
server.setRequestHandler(t.ReadResourceRequestSchema, async ({ params: { uri } }) => {
  const id = /^test:\/\/template\/([^/]+)\/data$/.exec(uri)?.[1];
  const data = JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` });
  const found = id ? { mimeType: "application/json", text: data } : resources[uri];
  if (!found) throw new t.McpError(-32002, `no resource ${uri}`);
  return { contents: [{ uri, ...found }] };
});
server.setRequestHandler(t.SubscribeRequestSchema, async () => ({}));
server.setRequestHandler(t.UnsubscribeRequestSchema, async () => ({}));
server.setRequestHandler(t.ListPromptsRequestSchema, async () => ({
  prompts: Object.keys(prompts).map((name) => ({
    name,
    description: name,
    arguments: (takes[name] ?? []).map((argument) => ({ name: argument, description: argument, required: true })),
  })),
}));
server.setRequestHandler(t.GetPromptRequestSchema, async ({ params }) => ({
  messages: prompts[params.name](params.arguments ?? {}),
}));
server.setRequestHandler(t.CompleteRequestSchema, async () => ({ completion: { values: [], total: 0, hasMore: false } }));
server.setRequestHandler(t.SetLevelRequestSchema, async () => ({}));

await server.connect(new StdioServerTransport());
