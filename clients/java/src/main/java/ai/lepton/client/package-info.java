/**
 * A client for Lepton, an LLM inference cluster: several routers, safe retries, resumption of streams that were cut, direct
 * mode, typed errors. Begin with {@link ai.lepton.client.LeptonClient}. The messages are the generated ones of {@code
 * ai.lepton.v1}, which stay usable alone.
 */
package ai.lepton.client;
