/**
 * Reconnect delays with full jitter, shared by the desk's feed and the chat widget.
 *
 * Full jitter (a uniform draw below a doubling ceiling) spreads a thousand clients that lost the same server.
 */

export interface BackoffOptions {
  /** Lower bound of every delay, milliseconds. */
  minMs: number
  /** Upper bound of every delay, milliseconds. */
  maxMs: number
  random?: () => number
}

export class Backoff {
  private attempt = 0
  private readonly random: () => number

  constructor(private readonly options: BackoffOptions) {
    this.random = options.random ?? Math.random
  }

  /** The next delay in milliseconds; each call raises the ceiling. */
  next(): number {
    const { minMs, maxMs } = this.options
    const ceiling = Math.min(maxMs, minMs * 2 ** (this.attempt + 1))
    this.attempt += 1
    return Math.round(minMs + this.random() * (ceiling - minMs))
  }

  /** Forget past failures: after a good connection, or when the browser says it is online or visible again. */
  reset(): void {
    this.attempt = 0
  }
}
