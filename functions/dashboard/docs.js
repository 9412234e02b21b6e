"use strict";
// Draws /openapi.json, and lets one try every GET.

const element = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

const nameOf = (reference) => reference.split("/").pop();

function typeOf(schema) {
  if (!schema) return "";
  if (schema.$ref) return nameOf(schema.$ref);
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" or ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(", ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `list of ${typeOf(schema.items) || "anything"}`;
  if (schema.additionalProperties && schema.additionalProperties !== true) {
    return `object of ${typeOf(schema.additionalProperties)}`;
  }
  return schema.type || "anything";
}

function limitsOf(schema) {
  const words = { minimum: "≥", exclusiveMinimum: ">", maximum: "≤", exclusiveMaximum: "<", minLength: "length ≥",
    maxLength: "length ≤", maxItems: "items ≤", pattern: "matches" };
  const parts = [schema, ...(schema.anyOf || [])];
  const found = parts.flatMap((part) => Object.keys(words).filter((key) => key in part).map((key) => `${words[key]} ${part[key]}`));
  if ("default" in schema && schema.default !== null) found.push(`default ${JSON.stringify(schema.default)}`);
  return found.join(", ");
}

function typeCell(schema) {
  const cell = element("td");
  const text = typeOf(schema);
  const linked = /\b[A-Z][A-Za-z]+\b/g;
  let end = 0;
  for (const match of text.includes('"') ? [] : text.matchAll(linked)) {
    cell.append(text.slice(end, match.index), element("a", { href: `#schema-${match[0]}`, textContent: match[0] }));
    end = match.index + match[0].length;
  }
  cell.append(text.slice(end));
  return cell;
}

function table(rows) {
  const body = element("tbody");
  for (const { name, schema, required, description } of rows) {
    body.append(element("tr", {},
      element("th", { scope: "row" }, element("code", { textContent: name }), required ? " (required)" : ""),
      typeCell(schema),
      element("td", { textContent: [description || schema.description, limitsOf(schema)].filter(Boolean).join(" ") })));
  }
  return element("table", {}, body);
}

const propertiesOf = (schema) => Object.entries(schema.properties || {}).map(([name, property]) => (
  { name, schema: property, required: (schema.required || []).includes(name) }));

function tryIt(path, parameters) {
  const form = element("form", { className: "try" });
  const inputs = parameters.filter((parameter) => parameter.in !== "header" || parameter.name !== "Last-Event-ID");
  for (const parameter of inputs) {
    form.append(element("label", {}, `${parameter.name} `, element("input", { name: parameter.name, required: Boolean(parameter.required) })));
  }
  const output = element("pre", { hidden: true });
  form.append(element("button", { textContent: "Try it" }), output);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const query = new URLSearchParams();
    const headers = {};
    let url = path;
    for (const parameter of inputs) {
      const value = form.elements.namedItem(parameter.name).value;
      if (parameter.in === "path") url = url.replace(`{${parameter.name}}`, encodeURIComponent(value));
      else if (value && parameter.in === "query") query.set(parameter.name, value);
      else if (value) headers[parameter.name] = value;
    }
    const token = document.getElementById("token").value;
    if (token) headers.Authorization = `Bearer ${token}`;
    output.hidden = false;
    output.textContent = "…";
    try {
      const answer = await fetch(query.size ? `${url}?${query}` : url, { headers });
      const text = await answer.text();
      const isJson = (answer.headers.get("content-type") || "").includes("json");
      output.textContent = `${answer.status} ${answer.statusText}\n\n${isJson && text ? JSON.stringify(JSON.parse(text), null, 2) : text}`;
    } catch (error) {
      output.textContent = `No answer: ${error.message}`;
    }
  });
  return form;
}

function operation(method, path, described) {
  const made = element("details", { id: described.operationId },
    element("summary", {}, element("b", { className: method, textContent: method.toUpperCase() }), " ",
      element("code", { textContent: path }), " ", element("span", { textContent: described.summary })));
  const parameters = described.parameters || [];
  if (parameters.length) made.append(element("h4", { textContent: "Parameters" }), table(parameters));
  const body = described.requestBody && described.requestBody.content["application/json"].schema;
  if (body) made.append(element("h4", { textContent: "Body" }), table([{ name: "body", schema: body, required: true }]));
  const answers = Object.entries(described.responses).map(([status, response]) => (
    { name: status, schema: Object.values(response.content || {})[0]?.schema || {}, description: response.description }));
  made.append(element("h4", { textContent: "Answers" }), table(answers));
  if (method === "get" && path !== "/api/events") made.append(tryIt(path, parameters));
  return made;
}

async function draw() {
  const api = await (await fetch("/openapi.json")).json();
  const page = document.getElementById("routes");
  page.replaceChildren(element("h2", { textContent: "Routes" }));
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, described] of Object.entries(methods)) page.append(operation(method, path, described));
  }
  page.append(element("h2", { textContent: "Schemas" }));
  for (const [name, schema] of Object.entries(api.components.schemas)) {
    page.append(element("details", { id: `schema-${name}` },
      element("summary", {}, element("code", { textContent: name }), " ", element("span", { textContent: schema.description || "" })),
      schema.enum ? element("p", { textContent: schema.enum.join(", ") }) : table(propertiesOf(schema))));
  }
  page.append(element("h2", { textContent: "Error codes" }));
  for (const [code, meaning] of Object.entries(api["x-problems"])) {
    page.append(element("p", { id: `error-${code}` }, element("code", { textContent: code }), ` ${meaning}`));
  }
  openTarget();
}

function openTarget() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target) {
    target.open = true;
    target.scrollIntoView();
  }
}

window.addEventListener("hashchange", openTarget);
draw().catch((error) => {
  document.getElementById("routes").textContent = `The document could not be read: ${error.message}`;
});
