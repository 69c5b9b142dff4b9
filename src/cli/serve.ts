/** `tandem serve`: runs the roles asked for until told to stop. */
import type { Register } from "./index.ts";
import { collect, readConfig, UsageError } from "./input.ts";
import { parseListen } from "../config/listen.ts";
import type { Config } from "../config/schema.ts";
import { staticEndpoints } from "../endpoints/directory.ts";
import { createLog } from "../telemetry/log.ts";
import { startPageServer, text, type PageServer } from "../telemetry/server.ts";
import { connectCluster, type ClusterAccess } from "./roles/cluster.ts";
import { startAutoscalerRole } from "./roles/autoscaler.ts";
import { startControllerRole } from "./roles/controller.ts";
import { discover } from "./roles/discovery.ts";
import { parseRoles, roleNames, type RoleName } from "./roles/names.ts";
import { createPorts, type Role, type RolePorts } from "./roles/ports.ts";
import { startRouterRole } from "./roles/router.ts";
import { createStarted, runUntilSignal, STOP_DEADLINE_MS, type Started } from "./roles/running.ts";
import { startVolcanoRole } from "./roles/volcano.ts";
import { startWebhookRole } from "./roles/webhooks.ts";

interface ServeOptions {
  readonly config?: string;
  readonly set?: readonly string[];
  readonly role: string;
}

const EXAMPLE = `
Example:
  tandem serve --config tandem.yaml --role router
  tandem serve --role admission,extender,controller --set admission.listen=0.0.0.0:9443`;

export const registerServe: Register = (program, exit) => {
  program
    .command("serve")
    .description("Runs the service: webhooks, scheduler extender, controller, router, autoscaler.")
    .option("-c, --config <file>", "configuration file")
    .option("--set <path=value>", "sets one key of the configuration; repeatable", collect)
    .option("--role <list>", `comma list of ${roleNames.join(", ")}`, roleNames.join(","))
    .addHelpText("after", EXAMPLE)
    .action(async (options: ServeOptions) => {
      await serve(options);
      exit(0);
    });
};

/** What is left to do when the last stream has ended, or was cut. */
const LAST_MS = 3000;

/** Answers take longer than webhooks: a router has its own time, and the grace period of its Pod must be above it. */
const deadlineOf = ({ router }: Config, roles: ReadonlySet<RoleName>): number =>
  roles.has("router") ? Math.max(STOP_DEADLINE_MS, router.leaveMs + router.drainMs + LAST_MS) : STOP_DEADLINE_MS;

async function serve(options: ServeOptions): Promise<void> {
  const parsed = parseRoles(options.role);
  if ("unknown" in parsed)
    throw new UsageError(`--role ${parsed.unknown}: unknown role; accepted: ${roleNames.join(", ")}`);
  const config = readConfig(options);
  const ports = createPorts(config, createLog(config.log.level));
  const started = createStarted(ports.log);
  await runUntilSignal({
    ...ports,
    signals: process,
    start: async () => {
      // Half a service must not stay: what has begun would keep the process alive, and go on acting.
      await start(ports, parsed.roles, started).catch(async (error: unknown) => {
        await started.stop();
        throw error;
      });
    },
    deadlineMs: deadlineOf(config, parsed.roles),
    stop: () => started.stop(),
    abandon: () => process.exit(1),
  });
}

/** In the order in which things depend on each other; they stop in the other. */
async function start(ports: RolePorts, wanted: ReadonlySet<RoleName>, started: Started): Promise<void> {
  const pages: PageServer[] = [];
  started.add(() => together(pages));
  const access = needsCluster(ports, wanted) ? await connectCluster(ports, wanted) : undefined;
  if (access !== undefined) started.add(() => access.stop());
  const roles: Role[] = [];
  started.add(() => together(roles));
  await startRoles(ports, access, wanted, roles);
  await startPages(ports, roles, pages);
  ports.log.info("tandem serves", { roles: [...wanted].join() });
}

const together = async (parts: readonly { readonly stop: () => Promise<void> }[]): Promise<void> => {
  await Promise.all(parts.map((part) => part.stop()));
};

/** A router with static endpoints is the only one that does without an API server. */
const needsCluster = ({ config }: RolePorts, roles: ReadonlySet<RoleName>): boolean =>
  config.router.endpoints.static.length === 0 || [...roles].some((role) => role !== "router");

async function startRoles(
  ports: RolePorts,
  access: ClusterAccess | undefined,
  roles: ReadonlySet<RoleName>,
  started: Role[],
): Promise<void> {
  if (access !== undefined) await startClusterRoles(ports, access, roles, started);
  if (roles.has("router")) started.push(await startRouterRole(ports, routerEndpoints(ports, access)));
  // Behind the router, which it asks when both run here.
  if (access !== undefined && roles.has("autoscaler")) started.push(await startAutoscalerRole(ports, access));
}

async function startClusterRoles(
  ports: RolePorts,
  access: ClusterAccess,
  roles: ReadonlySet<RoleName>,
  started: Role[],
): Promise<void> {
  if (roles.has("controller")) started.push(startControllerRole(ports, access));
  if (roles.has("admission") || roles.has("extender")) started.push(await startWebhookRole(ports, access, roles));
  const volcano = roles.has("extender") ? await startVolcanoRole(ports, access) : undefined;
  if (volcano !== undefined) started.push(volcano);
}

function routerEndpoints(
  { config }: RolePorts,
  access: ClusterAccess | undefined,
): Parameters<typeof startRouterRole>[1] {
  const fixed = staticEndpoints(config.router.endpoints.static);
  if (fixed.length > 0 && config.router.inferencePool !== "")
    throw new UsageError("router.inferencePool and router.endpoints.static exclude each other: give one of them");
  if (fixed.length > 0 || access === undefined) return { endpoints: () => fixed, synced: () => true };
  return discover(access, config);
}

async function startPages({ config, metrics }: RolePorts, roles: readonly Role[], pages: PageServer[]): Promise<void> {
  const [metricsAt, adminAt] = [parseListen(config.metrics.listen), parseListen(config.admin.listen)];
  const ready = (): boolean => roles.every((role) => role.ready());
  if (metricsAt !== undefined)
    pages.push(
      await startPageServer(metricsAt, {
        "/metrics": async () => ({ status: 200, type: metrics.contentType, body: await metrics.page() }),
      }),
    );
  if (adminAt !== undefined)
    pages.push(
      await startPageServer(adminAt, {
        ...Object.fromEntries(roles.flatMap(({ pages: own = {} }) => Object.entries(own))),
        "/livez": () => text(200, "ok\n"),
        "/readyz": () => (ready() ? text(200, "ok\n") : text(503, "not ready\n")),
      }),
    );
}
