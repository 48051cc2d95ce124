// Uses the service through types that openapi-typescript made of its description: what does not fit, does not compile.
import createClient from "openapi-fetch";
import type { paths } from "./api.js";

declare const process: { argv: [string, string, string] };

const client = createClient<paths>({ baseUrl: process.argv[2] });
const key = "telegram:42";

const opened = await client.POST("/v1/sessions", { body: { key, attributes: { owner: "ana", deep: { n: [1] } } } });
const session = opened.data;
if (session === undefined) throw new Error(JSON.stringify(opened.error));
const owner: unknown = session.attributes["owner"];
const offset: number = session.position[1];

await client.POST("/v1/sessions/{key}/touch", {
  params: { path: { key } },
  body: { attributes: { mood: "fine" }, message: { text: "hello" } },
});
const read = await client.GET("/v1/sessions/{key}", { params: { path: { key } } });
const accepted = await client.POST("/v1/sessions/{key}/touch", {
  params: { path: { key }, query: { wait: "appended" } },
  body: {},
});
const page = await client.GET("/v1/sessions", { params: { query: { owner: "ana", sort: "created" } } });
const refused = await client.GET("/v1/sessions", { params: { query: { owner: "" } } });
console.log(
  JSON.stringify({
    owner,
    offset,
    accepted: accepted.response.status,
    mood: read.data?.attributes["mood"],
    version: read.data?.version,
    listed: page.data?.sessions.map((each) => each.key),
    refused: refused.error?.status,
  }),
);
