/** A bounded wait that leaves no timer behind. */

/** What `promise` resolves with; `otherwise` when it rejects or takes over `ms` milliseconds. Never rejects. */
export async function within<T>(promise: Promise<T>, ms: number, otherwise: T): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<T>((resolve) => {
    timer = setTimeout(resolve, ms, otherwise);
  });
  try {
    return await Promise.race([promise.catch(() => otherwise), over]);
  } finally {
    clearTimeout(timer);
  }
}
