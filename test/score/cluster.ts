/** A cluster for a row, ended whatever happens. */
import { startCluster, type Cluster, type ClusterOptions } from "../e2e/cluster/control-plane.ts";
import { install, type Installation, type InstallOptions } from "../e2e/cluster/installation.ts";
import { buildProgram } from "../e2e/cluster/tandem.ts";

/** etcd, API server, controllers and kwok. */
export async function withCluster<T>(use: (cluster: Cluster) => Promise<T>, options: ClusterOptions = {}): Promise<T> {
  const cluster = await startCluster(options);
  try {
    await cluster.applyCrds();
    return await use(cluster);
  } finally {
    await cluster.stop();
  }
}

/** The same, with Tandem's webhooks and controller. */
export const withTandem = <T>(
  options: InstallOptions,
  use: (cluster: Cluster, tandem: Installation) => Promise<T>,
): Promise<T> =>
  withCluster(async (cluster) => {
    buildProgram();
    const tandem = await install(cluster, options);
    try {
      return await use(cluster, tandem);
    } finally {
      await tandem.stop();
    }
  });
