/**
 * Tandem's webhooks as production runs them: several replicas of the admission role behind one address, whose endpoints
 * change two seconds after a replica does, and the controller that keeps their certificates.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { JsonObject, KubeObject } from "../../../src/kinds/kube.ts";
import { startBalancer, type Balancer } from "./balancer.ts";
import type { Cluster } from "./control-plane.ts";
import { render, webhooksByUrl, withoutPods } from "./manifests.ts";
import { eventually, type Running } from "./process.ts";
import { authorityOf, configurationOf, startRole } from "./tandem.ts";
import { freePorts } from "../../support/ports.ts";

/** Until kube-proxy everywhere knows that an endpoint is gone. */
export const ENDPOINT_LAG_MS = 2000;

/** terminationGracePeriodSeconds of the manifests. */
const KUBELET_MS = 30_000;

export interface Replica {
  readonly port: number;
  /** URL of its metrics. */
  readonly metrics: string;
  readonly running: Running;
}

export interface InstallOptions {
  readonly replicas?: number;
  /** Of both webhooks, instead of what the manifests say. */
  readonly failurePolicy?: "Fail" | "Ignore";
  /** `path=value` for every role. */
  readonly settings?: readonly string[];
  /** Of the controller's passes; default 1000. */
  readonly resyncMs?: number;
}

export interface Installation {
  readonly balancer: Balancer;
  /** Those that take calls now. */
  readonly replicas: readonly Replica[];
  /** URL of the controller's metrics. */
  controllerMetrics(): string;
  /** Ends it, by SIGTERM unless told otherwise, then starts a new one; resolves when it is ready. */
  restartController(options?: { readonly signal?: "SIGKILL"; readonly settings?: readonly string[] }): Promise<void>;
  /** One more, ready and in the endpoints. */
  startReplica(settings?: readonly string[]): Promise<Replica>;
  /** SIGTERM or SIGKILL; its endpoint goes ENDPOINT_LAG_MS later. Resolves when the process has ended. */
  end(replica: Replica, signal: "SIGTERM" | "SIGKILL"): Promise<void>;
  /** The webhook configurations that the manifests make of this installation. */
  readonly webhooks: readonly KubeObject[];
  logs(): string;
  stop(): Promise<void>;
}

/** Installs and starts; resolves once every webhook has its bundle. */
export async function install(cluster: Cluster, options: InstallOptions = {}): Promise<Installation> {
  const objects = await render("overlays/dev");
  await cluster.apply(withoutPods(objects));
  const file = join(cluster.folder, "tandem.yaml");
  writeFileSync(file, configurationOf(objects));
  const balancer = await startBalancer();
  const webhooks = webhooksByUrl(objects, `https://127.0.0.1:${balancer.port}`).map((object) =>
    withPolicy(object, options.failurePolicy),
  );
  await cluster.apply(webhooks);
  const set = ["controller.alternativeNames=127.0.0.1", `controller.resyncMs=${options.resyncMs ?? 1000}`];
  const startController = (settings = options.settings ?? []): ReturnType<typeof startRole> =>
    startRole(cluster, { role: "controller", roles: "controller", file, set: [...set, ...settings] });
  let controller = await startController();
  const replicas: Replica[] = [];
  const all: Running[] = [controller.running];
  const startReplica = async (settings = options.settings ?? []): Promise<Replica> => {
    const [port = 0] = await freePorts(1);
    const set = [`admission.listen=127.0.0.1:${port}`, ...settings];
    const { running, metrics } = await startRole(cluster, { role: "admission", roles: "admission", file, set });
    const replica = { port, metrics, running };
    balancer.add(port);
    replicas.push(replica);
    all.push(running);
    return replica;
  };
  await Promise.all(Array.from({ length: options.replicas ?? 2 }, () => startReplica()));
  await eventually("the bundle in the webhooks", () => authorityOf(cluster));
  return {
    balancer,
    replicas,
    startReplica,
    controllerMetrics: () => controller.metrics,
    restartController: async ({ signal, settings } = {}) => {
      await (signal === "SIGKILL" ? controller.running.kill() : controller.running.stop());
      // Its ports were free a moment ago; another may have taken one since.
      controller = await startController(settings).catch(() => startController(settings));
      all.push(controller.running);
    },
    webhooks,
    end: async (replica, signal) => {
      const ended = signal === "SIGTERM" ? replica.running.stop(KUBELET_MS) : replica.running.kill();
      await sleep(ENDPOINT_LAG_MS);
      balancer.remove(replica.port);
      replicas.splice(replicas.indexOf(replica), 1);
      await ended;
    },
    logs: () => all.map((running) => `--- ${running.name} ${running.pid}\n${running.tail()}`).join("\n"),
    stop: async () => {
      // The controller gives its lease up.
      const ends = all.map((running) => (running === controller.running ? running.stop() : running.kill()));
      await Promise.all([...ends, balancer.stop()]);
    },
  };
}

const withPolicy = (object: KubeObject, failurePolicy: string | undefined): KubeObject =>
  failurePolicy === undefined
    ? object
    : { ...object, webhooks: (object["webhooks"] as JsonObject[]).map((hook) => ({ ...hook, failurePolicy })) };
