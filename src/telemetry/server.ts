/** Small HTTP servers of a role: `/metrics` on one port, `/livez` and `/readyz` on another. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";

/** Path -> what to answer; one that ends in a slash answers for all below it, and is given the rest. Else 404. */
export type Pages = Readonly<Record<string, (rest: string) => Promise<Page> | Page>>;

export interface Page {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

export interface PageServer {
  readonly address: string;
  readonly stop: () => Promise<void>;
}

export const text = (status: number, body: string): Page => ({ status, type: "text/plain; charset=utf-8", body });

export const json = (status: number, value: unknown): Page => ({
  status,
  type: "application/json",
  body: `${JSON.stringify(value)}\n`,
});

export async function startPageServer(listen: { host: string; port: number }, pages: Pages): Promise<PageServer> {
  const server = createServer((request, response) => {
    const path = (request.url ?? "").split("?", 1)[0] ?? "";
    void answer(pages, path).then(({ status, type, body }) =>
      response.writeHead(status, { "content-type": type }).end(body),
    );
  });
  server.requestTimeout = 5000;
  server.maxConnections = 100;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(listen.port, listen.host, resolve);
  });
  const { address, port } = server.address() as AddressInfo;
  return { address: `${address}:${port}`, stop: () => stop(server) };
}

async function answer(pages: Pages, path: string): Promise<Page> {
  const folder = path.slice(0, path.lastIndexOf("/") + 1);
  const key = [path, folder].find((each) => Object.hasOwn(pages, each));
  try {
    return (await pages[key ?? ""]?.(path.slice(folder.length))) ?? text(404, "not found\n");
  } catch (error) {
    return text(500, `${(error as Error).message}\n`);
  }
}

const stop = (server: Server): Promise<void> =>
  new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
